# Published: 77.1 % top-1 (arXiv 2111.11418, table 5): pooling windows of 7x7.
_base_ = '../poolformer_s12_in1k.py'
model = dict(backbone=dict(pool_size=7))
