# Published: 75.8 % top-1 (arXiv 2111.11418, table 5): frozen random matrices, for 224 px images.
_base_ = '../poolformer_s12_in1k.py'
model = dict(
    backbone=dict(
        type='mmpoolformer.MetaFormer',
        arch='poolformer_s12',
        token_mixers=[dict(type='RandomMixing', size=size) for size in (56, 28, 14, 7)],
    ),
)
