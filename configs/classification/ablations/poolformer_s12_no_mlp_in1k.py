# Published: 5.7 % top-1 (arXiv 2111.11418, table 5): no channel MLPs.
_base_ = '../poolformer_s12_in1k.py'
model = dict(backbone=dict(mlp_ratio=None))
