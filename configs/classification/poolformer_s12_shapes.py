# From scratch on the built-in data set, without the augmentation that ImageNet needs.
_base_ = [
    '../_base_/models/poolformer_classifier.py',
    '../_base_/datasets/shapes_classification.py',
    '../_base_/classification_runtime.py',
]
model = dict(
    data_preprocessor=dict(num_classes=6),
    backbone=dict(drop_path_rate=0.0),
    head=dict(num_classes=6),
    train_cfg=dict(_delete_=True),
)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=4, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=10),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=20),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        end=4,
        T_max=4,
        eta_min=0.0,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(enable=False, base_batch_size=32)  # 1 process x 32 images
default_hooks = dict(logger=dict(interval=10))
randomness = dict(seed=0)
