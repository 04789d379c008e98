# Published: 76.4 % top-1 (arXiv 2111.11418, table 5): batch norms.
_base_ = '../poolformer_s12_in1k.py'
model = dict(backbone=dict(norm_cfg=dict(type='BN')))
