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
    # From scratch, neck and mask head need a norm (arXiv 1811.08883). All heads are half as wide,
    # the mask head also half as deep, as for COCO: six classes need no more, and it saves time.
    neck=dict(norm_cfg=norm_cfg, out_channels=128, num_outs=4),
    rpn_head=dict(
        in_channels=128,
        feat_channels=128,
        # Images are small: anchors from 16 to 128 px on four levels.
        anchor_generator=dict(scales=[4], strides=[4, 8, 16, 32]),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=128),
        bbox_head=dict(in_channels=128, fc_out_channels=512, num_classes=6),
        mask_roi_extractor=dict(out_channels=128),
        mask_head=dict(
            num_convs=2,
            in_channels=128,
            conv_out_channels=128,
            num_classes=6,
            norm_cfg=norm_cfg,
        ),
    ),
    # Scenes hold a handful of objects: fewer proposals than on COCO save most of the time.
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=200),
        rcnn=dict(sampler=dict(num=64)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=100)),
)
# Masks are learnt in half the epochs of RetinaNet's boxes, and each takes longer.
train_cfg = dict(max_epochs=3, val_interval=1)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        end=3,
        T_max=3,
        eta_min=0.0,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(max_keep_ckpts=2))
randomness = dict(seed=0)
