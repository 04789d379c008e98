# Published: 42.0 mIoU (arXiv 2111.11418).
_base_ = './fpn_poolformer_s12_40k.py'
model = dict(
    backbone=dict(
        arch='s36',
        init_cfg=dict(checkpoint='metaformer://poolformer_s36'),
    ),
)
