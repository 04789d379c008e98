# Published: 37.2 mIoU (37.1 in its text) (arXiv 2111.11418).
_base_ = [
    '../_base_/models/fpn_poolformer.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/40k.py',
    '../_base_/segmentation_runtime.py',
]
