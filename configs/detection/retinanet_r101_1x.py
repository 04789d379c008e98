# Published, probably with another recipe: 38.5 box AP (arXiv 2111.11418, table 3).
# See retinanet_r50_1x.py.
_base_ = './retinanet_r50_1x.py'
model = dict(
    backbone=dict(
        depth=101,
        init_cfg=dict(checkpoint='torchvision://resnet101'),
    ),
)
