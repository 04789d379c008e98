# Published: 40.4 box AP, 36.4 mask AP (arXiv 2111.11418, table 3).
# Probably by another recipe: see mask_rcnn_r50_1x.py.
_base_ = './mask_rcnn_r50_1x.py'
model = dict(
    backbone=dict(
        depth=101,
        init_cfg=dict(checkpoint='torchvision://resnet101'),
    ),
)
