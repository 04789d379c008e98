# Published: 80.0 % top-1 (arXiv 2210.13452).
_base_ = './identityformer_s12_in1k.py'
model = dict(
    backbone=dict(arch='m36', drop_path_rate=0.3),
    neck=dict(dim=768),
    head=dict(in_channels=768),
)
