"""The recipes in the configs are the paper's; those for Shapes agree with its generator."""

import re

import numpy as np
import pytest
from leaves import LEAVES, read
from mmengine.config import Config
from mmengine.registry import TRANSFORMS, DefaultScope

from mmpoolformer import ARCHS
from mmpoolformer.datasets.shapes import CLASSES, PALETTE, SEG_CLASSES, SEG_PALETTE

METAFORMERS = [
    name
    for name, path in LEAVES.items()
    if 'former' in name and path.parent.name in ('detection', 'segmentation')
]
DETECTORS = [name for name in METAFORMERS if name.endswith('_1x')]
SEGMENTERS = [name for name in METAFORMERS if name.endswith('_40k')]
SHAPES = [name for name in METAFORMERS if '_shapes' in name]


@pytest.fixture(params=DETECTORS)
def detector(request):
    return request.param, read(request.param)


@pytest.fixture(params=SEGMENTERS)
def segmenter(request):
    return request.param, read(request.param)


@pytest.fixture(params=SHAPES)
def shapes_config(request):
    return read(request.param)


def pipeline(cfg: Config, split: str) -> list[tuple[str, dict]]:
    """Return ``(type, arguments)`` of each transform."""
    transforms = [dict(t) for t in cfg[f'{split}_dataloader'].dataset.pipeline]
    return [(t.pop('type'), t) for t in transforms]


def assert_fine_tunes(name: str, cfg: Config) -> None:
    """What all recipes of the paper have in common."""
    model = re.search(r'[a-z]+former(?:v2)?_[a-z]\d+', name)[0]
    assert model in ARCHS
    backbone = dict(cfg.model.backbone)
    package, family = backbone.pop('type').split('.')
    assert package == 'mmpoolformer'
    assert f'{family.lower()}_{backbone.pop("arch")}' == model
    init_cfg = {'type': 'Pretrained', 'checkpoint': f'metaformer://{model}'}
    assert backbone.pop('init_cfg') == init_cfg
    # No drop path, nothing frozen: nothing but the defaults is left, apart from the outputs.
    expected = {'out_indices': (1, 2, 3)} if name.startswith('retinanet') else {}
    assert backbone == expected
    # FP32, no gradient clipping, no exceptions from the weight decay.
    assert cfg.optim_wrapper.type == 'OptimWrapper'
    assert set(cfg.optim_wrapper) == {'type', 'optimizer'}
    assert cfg.model.data_preprocessor.mean == [123.675, 116.28, 103.53]
    assert cfg.model.data_preprocessor.std == [58.395, 57.12, 57.375]
    assert cfg.model.data_preprocessor.bgr_to_rgb is True
    batch, gpus = cfg.train_dataloader.batch_size, 8
    assert cfg.auto_scale_lr == {'enable': False, 'base_batch_size': gpus * batch}


@pytest.mark.smoke
def test_detection_schedule(detector):
    name, cfg = detector
    assert_fine_tunes(name, cfg)
    assert cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.optim_wrapper.optimizer == {'type': 'AdamW', 'lr': 1e-4, 'weight_decay': 1e-4}
    assert cfg.train_cfg.type == 'EpochBasedTrainLoop'
    assert cfg.train_cfg.max_epochs == 12
    warm_up, steps = cfg.param_scheduler
    assert warm_up == {
        'type': 'LinearLR', 'start_factor': 0.001, 'by_epoch': False, 'begin': 0, 'end': 500,
    }  # fmt: skip
    assert (steps.type, steps.by_epoch, steps.gamma) == ('MultiStepLR', True, 0.1)
    assert (steps.begin, steps.milestones, steps.end) == (0, [8, 11], 12)


def test_detection_model(detector):
    name, cfg = detector
    neck = cfg.model.neck
    assert (neck.type, neck.out_channels, neck.num_outs) == ('FPN', 256, 5)
    if name.startswith('retinanet'):
        assert neck.start_level == 0
        assert neck.add_extra_convs == 'on_input'
        assert cfg.model.bbox_head.num_classes == 80
    else:
        assert 'add_extra_convs' not in neck
        assert cfg.model.roi_head.bbox_head.num_classes == 80
        assert cfg.model.roi_head.mask_head.num_classes == 80


@pytest.mark.smoke
def test_detection_data(detector):
    name, cfg = detector
    masks = {'with_mask': True} if name.startswith('mask_rcnn') else {}
    resize = ('Resize', {'scale': (1333, 800), 'keep_ratio': True})
    load = [('LoadImageFromFile', {}), ('LoadAnnotations', {'with_bbox': True, **masks})]
    flip = ('RandomFlip', {'prob': 0.5})
    assert pipeline(cfg, 'train') == [*load, resize, flip, ('PackDetInputs', {})]
    for split in ('val', 'test'):
        transforms = dict(pipeline(cfg, split))
        assert list(transforms)[:2] == ['LoadImageFromFile', 'Resize']
        assert transforms['Resize'] == resize[1]
        assert 'RandomFlip' not in transforms
        assert 'scale_factor' in transforms['PackDetInputs']['meta_keys']
        dataset = cfg[f'{split}_dataloader'].dataset
        assert dataset.type == 'CocoDataset'
        assert dataset.ann_file == 'annotations/instances_val2017.json'
        assert dataset.test_mode is True
        assert cfg[f'{split}_evaluator'].ann_file == dataset.data_root + dataset.ann_file
        metrics = cfg[f'{split}_evaluator'].metric
        assert metrics == (['bbox', 'segm'] if masks else 'bbox')
    assert cfg.train_dataloader.batch_size == 2
    assert cfg.train_dataloader.dataset.ann_file == 'annotations/instances_train2017.json'


@pytest.mark.smoke
def test_segmentation_schedule_and_model(segmenter):
    name, cfg = segmenter
    assert_fine_tunes(name, cfg)
    assert cfg.auto_scale_lr.base_batch_size == 32
    assert cfg.optim_wrapper.optimizer == {'type': 'AdamW', 'lr': 2e-4, 'weight_decay': 1e-4}
    assert cfg.train_cfg.type == 'IterBasedTrainLoop'
    assert cfg.train_cfg.max_iters == 40_000
    assert cfg.param_scheduler == [
        {
            'type': 'PolyLR', 'power': 0.9, 'eta_min': 0.0,
            'begin': 0, 'end': 40_000, 'by_epoch': False,
        }
    ]  # fmt: skip
    neck, head = cfg.model.neck, cfg.model.decode_head
    assert (neck.type, neck.out_channels, neck.num_outs) == ('FPN', 256, 4)
    assert (head.type, head.channels, head.num_classes) == ('FPNHead', 128, 150)
    assert head.norm_cfg == {'type': 'SyncBN', 'requires_grad': True}
    assert head.feature_strides == [4, 8, 16, 32]
    assert cfg.model.data_preprocessor.size == (512, 512)
    assert cfg.model.test_cfg.mode == 'whole'


@pytest.mark.smoke
def test_segmentation_data(segmenter):
    _, cfg = segmenter
    labels = ('LoadAnnotations', {'reduce_zero_label': True})
    image, pack = ('LoadImageFromFile', {}), ('PackSegInputs', {})
    assert pipeline(cfg, 'train') == [
        image,
        labels,
        ('RandomResize', {'scale': (2048, 512), 'ratio_range': (0.5, 2.0), 'keep_ratio': True}),
        ('RandomCrop', {'crop_size': (512, 512), 'cat_max_ratio': 0.75}),
        ('RandomFlip', {'prob': 0.5}),
        ('PhotoMetricDistortion', {}),
        pack,
    ]
    for split in ('val', 'test'):
        # The labels are loaded last, so that they keep their own size.
        assert pipeline(cfg, split) == [
            image,
            ('Resize', {'scale': (2048, 512), 'keep_ratio': True}),
            ('ResizeToMultiple', {'size_divisor': 32}),
            labels,
            pack,
        ]
        assert cfg[f'{split}_dataloader'].dataset.type == 'ADE20KDataset'
        assert cfg[f'{split}_dataloader'].dataset.data_prefix.img_path == 'images/validation'
        assert cfg[f'{split}_evaluator'] == {'type': 'IoUMetric', 'iou_metrics': ['mIoU']}
    assert cfg.train_dataloader.batch_size == 4
    assert cfg.train_dataloader.dataset.data_prefix.img_path == 'images/training'


@pytest.mark.parametrize(
    ('size', 'expected'),
    [((300, 401), (512, 704)), ((683, 512), (704, 512)), ((512, 512), (512, 512))],
    ids=str,
)
def test_segmentation_test_images_are_rounded_up_to_multiples_of_32(size, expected):
    cfg = read('fpn_poolformer_s12_40k')
    _, resize, round_up, *_ = cfg.test_dataloader.dataset.pipeline
    with DefaultScope.overwrite_default_scope('mmseg'):
        results = {'img': np.zeros((*size, 3), np.uint8), 'img_shape': size}
        results = TRANSFORMS.build(resize)(results)
        resized = results['img'].shape[:2]
        results = TRANSFORMS.build(round_up)(results)
    assert min(resized) == 512
    assert results['img'].shape[:2] == expected


@pytest.mark.smoke
def test_shapes_classes_and_colours_are_those_of_the_generator(shapes_config):
    segmentation = shapes_config.model.type == 'EncoderDecoder'
    classes, palette = (SEG_CLASSES, SEG_PALETTE) if segmentation else (CLASSES, PALETTE)
    for split in ('train', 'val', 'test'):
        metainfo = shapes_config[f'{split}_dataloader'].dataset.metainfo
        # The order counts: in masks a class is its position.
        assert tuple(metainfo.classes) == classes
        assert [tuple(colour) for colour in metainfo.palette] == list(palette)
    heads = {
        'RetinaNet': lambda m: [m.bbox_head],
        'MaskRCNN': lambda m: [m.roi_head.bbox_head, m.roi_head.mask_head],
        'EncoderDecoder': lambda m: [m.decode_head],
    }[shapes_config.model.type](shapes_config.model)
    assert {head.num_classes for head in heads} == {len(classes)}


def test_shapes_train_in_the_batch_their_rate_is_for(shapes_config):
    loader = shapes_config.train_dataloader
    assert shapes_config.auto_scale_lr.base_batch_size == loader.batch_size
    assert loader.dataset.data_root.startswith('data/shapes/')


def test_transfer_starts_from_what_the_classifier_leaves_behind():
    epochs = read('poolformer_s12_shapes').train_cfg.max_epochs
    assert read('retinanet_poolformer_s12_shapes_transfer').model.backbone.init_cfg == {
        'type': 'Pretrained',
        'checkpoint': f'work_dirs/poolformer_s12_shapes/epoch_{epochs}.pth',
    }


@pytest.mark.parametrize(
    ('size', 'resized'), [('s12', 248), ('s36', 248), ('m36', 235), ('m48', 235)]
)
def test_imagenet_recipe(size, resized):
    cfg = read(f'poolformer_{size}_in1k')
    assert cfg.model.backbone.drop_path_rate == ARCHS[f'poolformer_{size}'].drop_path_rate
    assert cfg.model.head.in_channels == ARCHS[f'poolformer_{size}'].dims[-1]
    assert cfg.model.head.loss.label_smooth_val == 0.1
    assert [augment.type for augment in cfg.model.train_cfg.augments] == ['Mixup', 'CutMix']
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 1e-3, 0.05)
    assert cfg.auto_scale_lr == {'enable': False, 'base_batch_size': 1024}
    assert cfg.train_dataloader.batch_size * 8 == 1024
    assert cfg.train_cfg.max_epochs == 300
    assert [scheduler.type for scheduler in cfg.param_scheduler] == [
        'LinearLR',
        'CosineAnnealingLR',
    ]
    assert cfg.param_scheduler[0].end == 5
    kinds = [kind for kind, _ in pipeline(cfg, 'train')]
    assert {'RandAugment', 'RandomErasing', 'RandomResizedCrop', 'RandomFlip'} <= set(kinds)
    for split in ('val', 'test'):
        resize, crop = (options for _, options in pipeline(cfg, split)[1:3])
        assert (resize['scale'], resize['edge'], resize['interpolation']) == (
            resized,
            'short',
            'bicubic',
        )
        assert crop == {'crop_size': 224}
