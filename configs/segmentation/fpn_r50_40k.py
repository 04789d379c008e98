# Published, probably with another recipe: 36.7 mIoU (arXiv 2111.11418, table 4).
# The row is the PVT paper's, whose repository trains ResNets and ResNeXts with SGD, lr 0.02.
_base_ = './fpn_poolformer_s12_40k.py'
model = dict(
    backbone=dict(
        _delete_=True,
        # With three 3x3 convolutions for a stem, as in mmsegmentation's Semantic FPN.
        type='ResNetV1c',
        depth=50,
        # Also as there: nothing is frozen, and batches of 32 give statistics of their own.
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://resnet50_v1c'),
    ),
    neck=dict(in_channels=[256, 512, 1024, 2048]),
)
