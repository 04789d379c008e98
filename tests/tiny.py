"""Configs for models of a few thousand parameters, derived from the shipped ones."""

from pathlib import Path

from processes import ROOT

_COMMON = """
default_hooks = dict(logger=dict(interval=1))
randomness = dict(seed=1, deterministic=True)
"""
_BACKBONE = """dict(
        arch=dict(_delete_=True, depths=(1, 1, 1, 1), dims=(16, 24, 32, 48)), drop_path_rate=0.2
    )"""
_DETECTION = """
_base_ = ['{root}/configs/detection/retinanet_poolformer_s12_shapes.py']
model = dict(
    backbone={backbone},
    neck=dict(in_channels=[24, 32, 48], out_channels=32),
    bbox_head=dict(in_channels=32, feat_channels=32, stacked_convs=1),
)
train_dataloader = dict(dataset=dict(data_root='{shapes}/coco/'))
val_dataloader = dict(dataset=dict(data_root='{shapes}/coco/'))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='{shapes}/coco/annotations/instances_val.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1, val_interval=1)
"""
_SEGMENTATION = """
_base_ = ['{root}/configs/segmentation/fpn_poolformer_s12_shapes.py']
model = dict(
    data_preprocessor=dict(size=(64, 64)),
    backbone={backbone},
    neck=dict(in_channels=[16, 24, 32, 48], out_channels=32),
    decode_head=dict(in_channels=[32] * 4, channels=16),
)
train_dataloader = dict(batch_size=4, dataset=dict(data_root='{shapes}/ade/'))
val_dataloader = dict(dataset=dict(data_root='{shapes}/ade/'))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=2, val_interval=2)
default_hooks = dict(checkpoint=dict(interval=2))
"""
_CLASSIFICATION = """
_base_ = ['{root}/configs/_base_/default_runtime.py']
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(num_classes=6, mean=[127.0] * 3, std=[60.0] * 3, to_rgb=True),
    backbone=dict(
        type='mmpoolformer.PoolFormer',
        arch=dict(depths=(1, 1, 1, 1), dims=(16, 24, 32, 48)),
        out_indices=3,
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=6,
        in_channels=48,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1),
    ),
)
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CustomDataset', data_root='{shapes}/imagenet', data_prefix='train', pipeline=pipeline
    ),
)
val_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CustomDataset', data_root='{shapes}/imagenet', data_prefix='val', pipeline=pipeline
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-3))
visualizer = dict(type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
"""
_TEMPLATES = dict(detection=_DETECTION, segmentation=_SEGMENTATION, classification=_CLASSIFICATION)


def write_config(path: Path, task: str, shapes: Path, extra: str = '') -> Path:
    """Write the tiny config of ``task``; ``extra`` is Python appended to it."""
    text = _TEMPLATES[task]
    for name, value in dict(root=ROOT, shapes=shapes, backbone=_BACKBONE).items():
        text = text.replace(f'{{{name}}}', str(value))
    # Python keeps the last assignment of a name, so what extra repeats must be said in full.
    common = _COMMON if task != 'segmentation' else _COMMON.replace('default_hooks', '_unused')
    path.write_text(text + common + extra)
    return path
