# Not in the paper, which trains detectors on S-size backbones only: no published number.
_base_ = './mask_rcnn_poolformer_s12_1x.py'
model = dict(
    backbone=dict(
        arch='m36',
        init_cfg=dict(checkpoint='metaformer://poolformer_m36'),
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
