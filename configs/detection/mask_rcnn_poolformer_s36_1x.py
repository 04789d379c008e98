# Published: 41.0 box AP, 37.7 mask AP (arXiv 2111.11418).
_base_ = './mask_rcnn_poolformer_s12_1x.py'
model = dict(
    backbone=dict(
        arch='s36',
        init_cfg=dict(checkpoint='metaformer://poolformer_s36'),
    ),
)
