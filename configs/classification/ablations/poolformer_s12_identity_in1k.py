# Published: 74.3 % top-1 (arXiv 2111.11418, table 5): no token mixing at all.
_base_ = '../poolformer_s12_in1k.py'
model = dict(
    backbone=dict(
        type='mmpoolformer.MetaFormer', arch='poolformer_s12', token_mixers=dict(type='Identity')
    ),
)
