# Published: 78.1 % top-1 (arXiv 2111.11418, table 5): 3x3 depthwise convolution for pooling.
_base_ = '../poolformer_s12_in1k.py'
model = dict(
    backbone=dict(
        type='mmpoolformer.MetaFormer',
        arch='poolformer_s12',
        token_mixers=dict(type='DepthwiseConv', kernel_size=3),
    ),
)
