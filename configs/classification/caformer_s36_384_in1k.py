# Published: 85.7 % top-1, with ImageNet-21K 86.9 % (arXiv 2210.13452). For evaluation:
# see caformer_s18_384_in1k.py.
_base_ = './caformer_s18_384_in1k.py'
model = dict(
    backbone=dict(arch='s36', drop_path_rate=0.3),
    neck=dict(drop_rate=0.4),
)
