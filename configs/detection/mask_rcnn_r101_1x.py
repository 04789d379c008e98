# Published, probably with another recipe: 40.4 box AP, 36.4 mask AP (arXiv 2111.11418, table 3).
# See mask_rcnn_r50_1x.py.
_base_ = './mask_rcnn_r50_1x.py'
model = dict(
    backbone=dict(
        depth=101,
        init_cfg=dict(checkpoint='torchvision://resnet101'),
    ),
)
