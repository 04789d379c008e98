# Published: 81.4 % top-1 (arXiv 2210.13452).
_base_ = './randformer_m36_in1k.py'
model = dict(backbone=dict(arch='m48', drop_path_rate=0.3))
