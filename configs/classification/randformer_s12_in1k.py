# Published: 76.6 % top-1 (arXiv 2210.13452).
_base_ = './poolformerv2_s12_in1k.py'
model = dict(backbone=dict(type='mmpoolformer.RandFormer'))
