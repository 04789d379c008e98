# Published: 78.2 % top-1 (arXiv 2210.13452).
_base_ = './identityformer_s12_in1k.py'
model = dict(backbone=dict(arch='s24', drop_path_rate=0.1))
