# Published: 42.4 mIoU (arXiv 2111.11418).
_base_ = './fpn_poolformer_s12_40k.py'
model = dict(
    backbone=dict(
        arch='m36',
        init_cfg=dict(checkpoint='metaformer://poolformer_m36'),
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
