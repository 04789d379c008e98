# Published: 85.6 % top-1, with ImageNet-21K 86.9 % (arXiv 2210.13452). For evaluation:
# see convformer_s18_384_in1k.py.
_base_ = './convformer_s18_384_in1k.py'
model = dict(
    backbone=dict(arch='m36', drop_path_rate=0.4),
    neck=dict(dim=576),
    head=dict(in_channels=2304),
)
