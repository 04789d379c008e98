# Published: 84.5 % top-1 (arXiv 2210.13452).
_base_ = './convformer_s18_in1k.py'
model = dict(
    backbone=dict(arch='m36', drop_path_rate=0.4),
    neck=dict(dim=576),
    head=dict(in_channels=2304),
)
