# Published: 79.3 % top-1 (arXiv 2210.13452).
_base_ = './identityformer_s12_in1k.py'
model = dict(backbone=dict(arch='s36', drop_path_rate=0.2))
