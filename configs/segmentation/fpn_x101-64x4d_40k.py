# Published, probably with another recipe: 40.2 mIoU (arXiv 2111.11418, table 4).
# See fpn_r50_40k.py.
_base_ = './fpn_r50_40k.py'
model = dict(
    backbone=dict(
        type='ResNeXt',
        depth=101,
        groups=64,
        base_width=4,
        init_cfg=dict(checkpoint='open-mmlab://resnext101_64x4d'),
    ),
)
