# From scratch on the built-in data set: `make demo TASK=segmentation`.
_base_ = [
    '../_base_/models/fpn_poolformer.py',
    '../_base_/datasets/shapes_segmentation.py',
    '../_base_/schedules/shapes_segmentation.py',
    '../_base_/segmentation_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(init_cfg=None),
    decode_head=dict(num_classes=7),
)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=100, max_keep_ckpts=2))
randomness = dict(seed=0)
