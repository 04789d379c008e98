# From scratch on the built-in data set: `make demo`.
_base_ = [
    '../_base_/models/retinanet_poolformer.py',
    '../_base_/datasets/shapes_detection.py',
    '../_base_/schedules/shapes_detection.py',
    '../_base_/detection_runtime.py',
]
model = dict(backbone=dict(init_cfg=None), bbox_head=dict(num_classes=6, feat_channels=128))
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(max_keep_ckpts=2))
randomness = dict(seed=0)
