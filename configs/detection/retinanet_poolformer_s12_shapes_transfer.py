# Fine-tunes the classifier that configs/classification/poolformer_s12_shapes.py trains, for three
# epochs: the paper's flow in small. `make demo TASK=transfer` compares it with no pretraining.
_base_ = './retinanet_poolformer_s12_shapes.py'
model = dict(
    backbone=dict(
        init_cfg=dict(
            _delete_=True,
            type='Pretrained',
            checkpoint='work_dirs/poolformer_s12_shapes/epoch_4.pth',
        ),
    ),
)
train_cfg = dict(max_epochs=3, val_interval=1)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        end=3,
        T_max=3,
        eta_min=0.0,
        convert_to_iter_based=True,
    ),
]
