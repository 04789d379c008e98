# Published: 86.2 % top-1, with ImageNet-21K 87.5 % (arXiv 2210.13452). For evaluation:
# see caformer_s18_384_in1k.py.
_base_ = './caformer_s18_384_in1k.py'
model = dict(
    backbone=dict(arch='m36', drop_path_rate=0.4),
    neck=dict(dim=576, drop_rate=0.4),
    head=dict(in_channels=2304),
)
