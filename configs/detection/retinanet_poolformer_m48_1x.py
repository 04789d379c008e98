# Not in the paper, which trains detectors on S-size backbones only: no published number.
_base_ = './retinanet_poolformer_s12_1x.py'
model = dict(
    backbone=dict(
        arch='m48',
        init_cfg=dict(checkpoint='metaformer://poolformer_m48'),
    ),
    neck=dict(in_channels=[192, 384, 768]),
)
