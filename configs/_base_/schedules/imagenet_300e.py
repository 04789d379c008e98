# 300 epochs of AdamW, learning rate 1e-3 for each 1024 images of the batch (arXiv 2111.11418).
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=300, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    # As in timm, with which the authors trained: vectors and scalars do not decay.
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,
        by_epoch=True,
        begin=0,
        end=5,
        convert_to_iter_based=True,
    ),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=5, end=300, T_max=295, eta_min=1e-5),
]
auto_scale_lr = dict(enable=False, base_batch_size=1024)  # 8 GPUs x 128 images
