# Published, probably with another recipe: 31.8 box AP (arXiv 2111.11418, table 3).
# With which one is not known: see retinanet_r50_1x.py.
_base_ = './retinanet_r50_1x.py'
model = dict(
    backbone=dict(
        depth=18,
        init_cfg=dict(checkpoint='torchvision://resnet18'),
    ),
    neck=dict(in_channels=[128, 256, 512]),
)
