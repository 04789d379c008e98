# Published, probably with another recipe: 38.8 mIoU (arXiv 2111.11418, table 4).
# See fpn_r50_40k.py.
_base_ = './fpn_r50_40k.py'
model = dict(
    backbone=dict(
        depth=101,
        init_cfg=dict(checkpoint='open-mmlab://resnet101_v1c'),
    ),
)
