# Published: 85.4 % top-1, with ImageNet-21K 86.4 % (arXiv 2210.13452). For evaluation:
# see convformer_s18_384_in1k.py.
_base_ = './convformer_s18_384_in1k.py'
model = dict(backbone=dict(arch='s36', drop_path_rate=0.3))
