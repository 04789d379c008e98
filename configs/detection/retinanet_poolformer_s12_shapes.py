# From scratch on the built-in data set: `make demo`.
_base_ = [
    '../_base_/models/retinanet_poolformer.py',
    '../_base_/datasets/shapes_detection.py',
    '../_base_/schedules/shapes_detection.py',
    '../_base_/detection_runtime.py',
]
norm_cfg = dict(type='GN', num_groups=32)
model = dict(
    backbone=dict(init_cfg=None),
    # From scratch, neck and head need a norm (arXiv 1811.08883). Both are half as wide, the head
    # also half as deep, as for COCO: six classes need no more, and it saves time.
    neck=dict(norm_cfg=norm_cfg, out_channels=128, num_outs=3),
    bbox_head=dict(
        num_classes=6,
        in_channels=128,
        feat_channels=128,
        stacked_convs=2,
        norm_cfg=norm_cfg,
        # Images are small: anchors from 16 to 102 px on three levels.
        anchor_generator=dict(octave_base_scale=2, strides=[8, 16, 32]),
    ),
)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(max_keep_ckpts=2))
randomness = dict(seed=0)
