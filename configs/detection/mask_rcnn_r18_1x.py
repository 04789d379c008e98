# Published, probably with another recipe: 34.0 box AP, 31.2 mask AP (arXiv 2111.11418, table 3).
# With which one is not known: see mask_rcnn_r50_1x.py.
_base_ = './mask_rcnn_r50_1x.py'
model = dict(
    backbone=dict(
        depth=18,
        init_cfg=dict(checkpoint='torchvision://resnet18'),
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
