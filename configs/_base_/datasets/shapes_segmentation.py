# The built-in data set: `python -m mmpoolformer.datasets.shapes` writes data/shapes/.
dataset_type = 'BaseSegDataset'
data_root = 'data/shapes/ade/'
metainfo = dict(
    classes=('background', 'circle', 'cross', 'heart', 'square', 'star', 'triangle'),
    palette=[
        (38, 42, 52),
        (64, 156, 255),
        (175, 110, 255),
        (255, 85, 120),
        (255, 170, 40),
        (250, 225, 70),
        (60, 200, 120),
    ],
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=8,  # 1 process x 8 images
    num_workers=0,  # Images are small: a worker would cost more than it brings.
    persistent_workers=False,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        img_suffix='.png',
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        img_suffix='.png',
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
