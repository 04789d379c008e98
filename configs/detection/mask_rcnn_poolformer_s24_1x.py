# Published: 40.1 box AP, 37.0 mask AP (arXiv 2111.11418).
_base_ = './mask_rcnn_poolformer_s12_1x.py'
model = dict(
    backbone=dict(
        arch='s24',
        init_cfg=dict(checkpoint='metaformer://poolformer_s24'),
    ),
)
