# Published: 83.0 % top-1 (arXiv 2210.13452).
_base_ = [
    '../_base_/models/metaformer_mlp_classifier.py',
    '../_base_/datasets/imagenet_full_crop.py',
    '../_base_/schedules/imagenet_300e_4096.py',
    '../_base_/classification_runtime.py',
]
