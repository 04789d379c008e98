# Not in any paper (the backbone: arXiv 2210.13452), so there is no published number.
_base_ = './mask_rcnn_poolformer_s12_1x.py'
model = dict(
    backbone=dict(
        type='mmpoolformer.PoolFormerV2',
        arch='s12',
        init_cfg=dict(checkpoint='metaformer://poolformerv2_s12'),
    ),
)
