# Published: 84.5 % top-1 (arXiv 2210.13452).
_base_ = './caformer_s18_in1k.py'
model = dict(
    backbone=dict(arch='s36', drop_path_rate=0.3),
    neck=dict(drop_rate=0.4),
)
