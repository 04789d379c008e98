# Published: 82.6 % top-1 (arXiv 2210.13452).
_base_ = './poolformerv2_m36_in1k.py'
model = dict(backbone=dict(arch='m48', drop_path_rate=0.4))
