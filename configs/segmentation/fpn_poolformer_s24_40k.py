# Published: 40.3 mIoU (arXiv 2111.11418).
_base_ = './fpn_poolformer_s12_40k.py'
model = dict(
    backbone=dict(
        arch='s24',
        init_cfg=dict(checkpoint='metaformer://poolformer_s24'),
    ),
)
