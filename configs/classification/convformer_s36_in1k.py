# Published: 84.1 % top-1 (arXiv 2210.13452).
_base_ = './convformer_s18_in1k.py'
model = dict(backbone=dict(arch='s36', drop_path_rate=0.3))
