# Published, probably with another recipe: 32.9 mIoU (arXiv 2111.11418, table 4).
# See fpn_r50_40k.py.
_base_ = './fpn_r50_40k.py'
model = dict(
    backbone=dict(
        depth=18,
        init_cfg=dict(checkpoint='open-mmlab://resnet18_v1c'),
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
