# Published: 77.2 % top-1 (arXiv 2111.11418).
_base_ = [
    '../_base_/models/poolformer_classifier.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_300e.py',
    '../_base_/classification_runtime.py',
]
