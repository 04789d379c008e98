# Published: 84.4 % top-1, with ImageNet-21K 85.0 % (arXiv 2210.13452). For evaluation: the
# authors fine-tuned at 384 px for 30 epochs with AdamW, learning rate 5e-5, batch 1024.
_base_ = [
    '../_base_/models/metaformer_mlp_classifier.py',
    '../_base_/datasets/imagenet_384.py',
    '../_base_/schedules/imagenet_300e_4096.py',
    '../_base_/classification_runtime.py',
]
