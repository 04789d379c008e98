# Published: 0.1 % top-1 (arXiv 2111.11418, table 5): no residual connections.
_base_ = '../poolformer_s12_in1k.py'
model = dict(backbone=dict(residual=False))
