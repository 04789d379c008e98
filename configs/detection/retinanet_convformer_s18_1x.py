# Not in any paper (the backbone: arXiv 2210.13452), so there is no published number.
_base_ = './retinanet_poolformer_s12_1x.py'
model = dict(
    backbone=dict(
        type='mmpoolformer.ConvFormer',
        arch='s18',
        init_cfg=dict(checkpoint='metaformer://convformer_s18'),
    ),
)
