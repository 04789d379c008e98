# Published: 77.9 % top-1 (arXiv 2111.11418, table 5): spatial FC in two stages, for 224 px.
_base_ = '../poolformer_s12_in1k.py'
pooling = dict(type='Pooling', pool_size=3)
model = dict(
    backbone=dict(
        type='mmpoolformer.MetaFormer',
        arch='poolformer_s12',
        token_mixers=[
            pooling,
            pooling,
            dict(type='SpatialFC', size=14),
            dict(type='SpatialFC', size=7),
        ],
    ),
)
