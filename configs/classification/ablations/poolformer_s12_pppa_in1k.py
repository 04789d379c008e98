# Published: 78.3 % top-1 (arXiv 2111.11418, table 5): attention in the last stage.
_base_ = '../poolformer_s12_in1k.py'
pooling = dict(type='Pooling', pool_size=3)
attention = dict(type='Attention')
model = dict(
    backbone=dict(
        type='mmpoolformer.MetaFormer',
        arch='poolformer_s12',
        token_mixers=[pooling, pooling, pooling, attention],
    ),
)
