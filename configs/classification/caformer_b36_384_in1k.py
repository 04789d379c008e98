# Published: 86.4 % top-1, with ImageNet-21K 88.1 % (arXiv 2210.13452). For evaluation:
# see caformer_s18_384_in1k.py.
_base_ = './caformer_s18_384_in1k.py'
model = dict(
    backbone=dict(arch='b36', drop_path_rate=0.6),
    neck=dict(dim=768, drop_rate=0.5),
    head=dict(in_channels=3072),
)
