# Published: 82.5 % top-1 (arXiv 2111.11418).
_base_ = './poolformer_m36_in1k.py'
model = dict(backbone=dict(arch='m48', drop_path_rate=0.4))
