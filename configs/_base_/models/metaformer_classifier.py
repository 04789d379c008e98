# PoolFormerV2-S12 as an ImageNet classifier (arXiv 2210.13452): its norm comes after the pooling.
_base_ = './poolformer_classifier.py'
model = dict(
    backbone=dict(type='mmpoolformer.PoolFormerV2', out_norm_cfg=dict(type='Identity')),
    neck=dict(_delete_=True, type='mmpoolformer.ClassifierNeck', dim=512),
    head=dict(init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02)),
)
