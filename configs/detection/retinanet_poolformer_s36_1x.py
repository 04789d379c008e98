# Published: 39.5 box AP (arXiv 2111.11418).
_base_ = './retinanet_poolformer_s12_1x.py'
model = dict(
    backbone=dict(
        arch='s36',
        init_cfg=dict(checkpoint='metaformer://poolformer_s36'),
    ),
)
