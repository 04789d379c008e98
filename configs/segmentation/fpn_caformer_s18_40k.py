# Not in any paper (the backbone: arXiv 2210.13452), so there is no published number.
_base_ = './fpn_poolformer_s12_40k.py'
model = dict(
    backbone=dict(
        type='mmpoolformer.CAFormer',
        arch='s18',
        init_cfg=dict(checkpoint='metaformer://caformer_s18'),
    ),
)
