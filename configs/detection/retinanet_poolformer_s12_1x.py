# Published: 36.2 box AP (arXiv 2111.11418).
_base_ = [
    '../_base_/models/retinanet_poolformer.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/1x.py',
    '../_base_/detection_runtime.py',
]
