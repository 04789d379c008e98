# Published: 42.7 mIoU (arXiv 2111.11418).
_base_ = './fpn_poolformer_s12_40k.py'
model = dict(
    backbone=dict(
        arch='m48',
        init_cfg=dict(checkpoint='metaformer://poolformer_m48'),
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
