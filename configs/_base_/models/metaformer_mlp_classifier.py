# ConvFormer-S18 as an ImageNet classifier (arXiv 2210.13452): the head is an MLP.
_base_ = './metaformer_classifier.py'
model = dict(
    backbone=dict(type='mmpoolformer.ConvFormer', arch='s18', drop_path_rate=0.2),
    neck=dict(mlp_ratio=4),
    head=dict(in_channels=2048),
)
