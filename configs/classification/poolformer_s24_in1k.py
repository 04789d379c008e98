# Published: 80.3 % top-1 (arXiv 2111.11418).
_base_ = './poolformer_s12_in1k.py'
model = dict(backbone=dict(arch='s24', drop_path_rate=0.1))
