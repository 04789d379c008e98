# Published: 76.5 % top-1 (arXiv 2111.11418, table 5): norms over the channels of each position.
_base_ = '../poolformer_s12_in1k.py'
model = dict(backbone=dict(norm_cfg=dict(type='LN2d')))
