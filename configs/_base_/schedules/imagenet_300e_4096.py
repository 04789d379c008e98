# The same with a batch of 4096, and 20 epochs of warm-up (arXiv 2210.13452, ConvFormer).
_base_ = './imagenet_300e.py'
optim_wrapper = dict(optimizer=dict(lr=4e-3))
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=2.5e-4,
        by_epoch=True,
        begin=0,
        end=20,
        convert_to_iter_based=True,
    ),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=20, end=300, T_max=280, eta_min=1e-5),
]
auto_scale_lr = dict(base_batch_size=4096)  # 32 GPUs x 128 images
