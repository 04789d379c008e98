# From scratch on the built-in data set: `make demo TASK=instance`.
_base_ = [
    '../_base_/models/mask_rcnn_poolformer.py',
    '../_base_/datasets/shapes_instance.py',
    '../_base_/schedules/shapes_detection.py',
    '../_base_/detection_runtime.py',
]
norm_cfg = dict(type='GN', num_groups=32)
model = dict(
    backbone=dict(init_cfg=None),
    # From scratch, neck and mask head need a norm (arXiv 1811.08883).
    neck=dict(norm_cfg=norm_cfg),
    rpn_head=dict(anchor_generator=dict(scales=[4])),  # From 16 px: images are small.
    roi_head=dict(
        bbox_head=dict(num_classes=6),
        mask_head=dict(num_classes=6, norm_cfg=norm_cfg),
    ),
    # Scenes hold a handful of objects: fewer proposals than on COCO save most of the time.
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=200),
        rcnn=dict(sampler=dict(num=64)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=100)),
)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(max_keep_ckpts=2))
randomness = dict(seed=0)
