# Published: 76.8 % top-1 (arXiv 2111.11418, table 5): pooling windows of 9x9.
_base_ = '../poolformer_s12_in1k.py'
model = dict(backbone=dict(pool_size=9))
