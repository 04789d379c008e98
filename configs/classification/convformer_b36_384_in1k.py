# Published: 85.7 % top-1, with ImageNet-21K 87.6 % (arXiv 2210.13452). For evaluation:
# see convformer_s18_384_in1k.py.
_base_ = './convformer_s18_384_in1k.py'
model = dict(
    backbone=dict(arch='b36', drop_path_rate=0.6),
    neck=dict(dim=768),
    head=dict(in_channels=3072),
)
