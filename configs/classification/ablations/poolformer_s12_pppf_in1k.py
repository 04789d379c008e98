# Published: 77.5 % top-1 (arXiv 2111.11418, table 5): spatial FC in the last stage, for 224 px.
_base_ = '../poolformer_s12_in1k.py'
pooling = dict(type='Pooling', pool_size=3)
spatial_fc = dict(type='SpatialFC', size=7)
model = dict(
    backbone=dict(
        type='mmpoolformer.MetaFormer',
        arch='poolformer_s12',
        token_mixers=[pooling, pooling, pooling, spatial_fc],
    ),
)
