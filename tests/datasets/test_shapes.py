import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from mmpoolformer.datasets.shapes import (
    CLASSES,
    PALETTE,
    SEG_CLASSES,
    SEG_PALETTE,
    generate,
)
from mmpoolformer.datasets.shapes.scenes import make_scene

SPLITS = [('train', 'training', 512), ('val', 'validation', 64)]


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    """The data set at its defaults."""
    root = tmp_path_factory.mktemp('data') / 'shapes'
    generate(root)
    return root


def read_coco(root, split):
    return json.loads((root / f'coco/annotations/instances_{split}.json').read_text())


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.rglob('*.png')}


# What is written


@pytest.mark.smoke
@pytest.mark.parametrize(('split', 'ade_split', 'count'), SPLITS)
def test_coco_json_is_complete(shapes, split, ade_split, count):
    coco = read_coco(shapes, split)
    assert coco.keys() == {'info', 'licenses', 'images', 'annotations', 'categories'}
    assert [item['name'] for item in coco['categories']] == list(CLASSES)
    assert [item['id'] for item in coco['categories']] == list(range(1, len(CLASSES) + 1))
    assert all(item['supercategory'] for item in coco['categories'])
    assert [item['id'] for item in coco['images']] == list(range(1, count + 1))
    assert len({item['id'] for item in coco['annotations']}) == len(coco['annotations']) > count
    keys = {'id', 'image_id', 'category_id', 'bbox', 'area', 'iscrowd', 'segmentation'}
    assert all(item.keys() == keys and item['iscrowd'] == 0 for item in coco['annotations'])
    assert {item['image_id'] for item in coco['annotations']} <= set(range(1, count + 1))
    assert sorted(path.name for path in (shapes / 'coco' / split).iterdir()) == [
        item['file_name'] for item in coco['images']
    ]


@pytest.mark.parametrize(('split', 'ade_split', 'count'), SPLITS)
def test_boxes_and_polygons_are_inside_the_image(shapes, split, ade_split, count):
    coco = read_coco(shapes, split)
    images = {item['id']: item for item in coco['images']}
    for item in coco['annotations']:
        extent = np.array([images[item['image_id']][key] for key in ('width', 'height')])
        box = np.array(item['bbox'])
        assert (box[:2] >= 0).all() and (box[2:] > 0).all() and (box[:2] + box[2:] <= extent).all()
        assert item['segmentation']
        polygons = [np.reshape(polygon, (-1, 2)) for polygon in item['segmentation']]
        assert all(len(polygon) >= 3 for polygon in polygons)
        corners = np.concatenate(polygons)
        assert np.array_equal(corners.min(axis=0), box[:2])
        assert np.array_equal(corners.max(axis=0), box[:2] + box[2:])


@pytest.mark.parametrize(('split', 'ade_split', 'count'), SPLITS)
def test_masks_have_valid_labels_and_agree_with_coco(shapes, split, ade_split, count):
    coco = read_coco(shapes, split)
    masks = sorted((shapes / 'ade/annotations' / ade_split).iterdir())
    assert len(masks) == count
    for path, image in zip(masks, coco['images'], strict=True):
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert mask.dtype == np.uint8
        assert mask.shape == (image['height'], image['width'])
        objects = [item for item in coco['annotations'] if item['image_id'] == image['id']]
        assert set(np.unique(mask)) - {0} == {item['category_id'] for item in objects}
        assert np.count_nonzero(mask) == sum(item['area'] for item in objects)
    assert contents(shapes / 'ade/images' / ade_split) == contents(shapes / 'coco' / split)


def test_polygons_agree_with_the_drawn_masks(shapes):
    coco = COCO(shapes / 'coco/annotations/instances_train.json')
    overlaps = []
    for index in range(48):
        scene = make_scene(np.random.default_rng([0, 0, index]), 128)
        annotations = coco.loadAnns(coco.getAnnIds(index + 1))
        if not annotations:
            continue  # an image left empty on purpose
        file = shapes / 'coco/train' / coco.imgs[index + 1]['file_name']
        assert np.array_equal(cv2.imread(str(file))[..., ::-1], scene.image)
        for annotation, instance in zip(annotations, scene.instances, strict=True):
            drawn, read = instance.mask, coco.annToMask(annotation).astype(bool)
            assert annotation['area'] == drawn.sum() >= 45
            x, y, width, height = annotation['bbox']
            rows, columns = drawn.nonzero()
            assert x - 1 < columns.min() and columns.max() < x + width
            assert y - 1 < rows.min() and rows.max() < y + height
            overlaps.append((drawn & read).sum() / (drawn | read).sum())
    assert len(overlaps) > 100
    assert min(overlaps) > 0.85  # the smallest stars have 60 pixels
    assert np.mean(overlaps) > 0.97


@pytest.mark.parametrize(('split', 'ade_split', 'count'), SPLITS)
def test_scenes_vary(shapes, split, ade_split, count):
    coco = read_coco(shapes, split)
    areas = np.array([item['area'] for item in coco['annotations']])
    assert 0.35 < (areas < 32**2).mean() < 0.65
    assert (areas >= 96**2).sum() >= 2
    objects = np.bincount([item['image_id'] for item in coco['annotations']], minlength=count + 1)
    assert 0.03 < (objects[1:] == 0).mean() < 0.08
    assert set(objects[1:]) == {0, 1, 2, 3, 4, 5, 6}
    classes = np.bincount([item['category_id'] for item in coco['annotations']])[1:]
    assert len(classes) == len(CLASSES)
    assert classes.min() > 0.6 * classes.max()
    sides = {(item['height'], item['width']) for item in coco['images']}
    assert len(sides) > count / 2
    assert {min(min(pair) for pair in sides), max(max(pair) for pair in sides)} <= {*range(96, 129)}
    assert any(height % 2 and width % 2 for height, width in sides)


def test_some_objects_are_cut_and_some_are_covered(shapes):
    coco = read_coco(shapes, 'train')
    images = {item['id']: item for item in coco['images']}
    cut, covered = 0, set()
    for item in coco['annotations']:
        x, y, width, height = item['bbox']
        image = images[item['image_id']]
        cut += not (x > 0 and y > 0 and x + width < image['width'] and y + height < image['height'])
        for other in coco['annotations']:
            if other['image_id'] == item['image_id'] and other['id'] > item['id']:
                left, top = max(x, other['bbox'][0]), max(y, other['bbox'][1])
                right = min(x + width, other['bbox'][0] + other['bbox'][2])
                bottom = min(y + height, other['bbox'][1] + other['bbox'][3])
                if (right - left) > 4 and (bottom - top) > 4:
                    covered.add(item['id'])
    total = len(coco['annotations'])
    assert 0.08 < cut / total < 0.3
    assert 0.1 < len(covered) / total < 0.5
    assert any(len(item['segmentation']) > 1 for item in coco['annotations'])


def test_crops_are_balanced_and_show_their_class(shapes):
    for split, count in (('train', 768), ('val', 192)):
        folders = sorted((shapes / 'imagenet' / split).iterdir())
        assert [folder.name for folder in folders] == list(CLASSES)
        for folder in folders:
            files = list(folder.iterdir())
            assert len(files) == count // len(CLASSES)
            assert {cv2.imread(str(file)).shape for file in files} == {(64, 64, 3)}


def test_no_picture_occurs_twice(shapes):
    for tree, count in (('coco', 512 + 64), ('imagenet', 768 + 192)):
        files = list((shapes / tree).rglob('*.png'))
        assert len({file.read_bytes() for file in files}) == len(files) == count


def test_palette_has_one_colour_per_class():
    assert len(set(PALETTE)) == len(CLASSES)
    assert ('background', *CLASSES) == SEG_CLASSES
    assert len(set(SEG_PALETTE)) == len(SEG_CLASSES)


# The stock data set classes read it


def test_mmdet_reads_it(shapes):
    from mmdet.datasets import CocoDataset
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    dataset = CocoDataset(
        data_root=str(shapes / 'coco'),
        ann_file='annotations/instances_val.json',
        data_prefix={'img': 'val/'},
        metainfo={'classes': CLASSES, 'palette': PALETTE},
        pipeline=[
            {'type': 'LoadImageFromFile'},
            {'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': True},
            {'type': 'PackDetInputs'},
        ],
    )
    coco = read_coco(shapes, 'val')
    assert len(dataset) == 64
    count = 0
    for index, image in enumerate(coco['images']):
        sample = dataset[index]
        expected = [item for item in coco['annotations'] if item['image_id'] == image['id']]
        found = sample['data_samples'].gt_instances
        assert sample['inputs'].shape == (3, image['height'], image['width'])
        assert found.labels.tolist() == [item['category_id'] - 1 for item in expected]
        assert len(found.masks) == len(expected)
        count += len(expected)
    assert count == len(coco['annotations'])


def test_mmseg_reads_it(shapes):
    from mmseg.datasets import BaseSegDataset
    from mmseg.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    dataset = BaseSegDataset(
        data_root=str(shapes / 'ade'),
        data_prefix={'img_path': 'images/validation', 'seg_map_path': 'annotations/validation'},
        metainfo={'classes': SEG_CLASSES, 'palette': SEG_PALETTE},
        img_suffix='.png',
        seg_map_suffix='.png',
        reduce_zero_label=False,
        pipeline=[
            {'type': 'LoadImageFromFile'},
            {'type': 'LoadAnnotations'},
            {'type': 'PackSegInputs'},
        ],
    )
    assert len(dataset) == 64
    seen = set()
    for sample in dataset:
        labels = sample['data_samples'].gt_sem_seg.data
        assert labels.shape[1:] == sample['inputs'].shape[1:]
        seen |= set(labels.unique().tolist())
    assert seen == set(range(len(SEG_CLASSES)))


def test_mmpretrain_reads_it(shapes):
    from mmpretrain.datasets import CustomDataset, ImageNet
    from mmpretrain.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    pipeline = [{'type': 'LoadImageFromFile'}, {'type': 'PackInputs'}]
    root, metainfo = str(shapes / 'imagenet'), {'classes': CLASSES}
    datasets = [
        ImageNet(data_root=root, split='val', metainfo=metainfo, pipeline=pipeline),
        CustomDataset(data_root=root, data_prefix='val', pipeline=pipeline),
    ]
    for dataset in datasets:
        assert tuple(dataset.CLASSES) == CLASSES
        assert len(dataset) == 192
        for index in range(0, 192, 13):
            name = Path(dataset.get_data_info(index)['img_path']).parent.name
            assert CLASSES[dataset[index]['data_samples'].gt_label] == name


def test_torchvision_reads_it(shapes):
    from torchvision.datasets import ImageFolder

    dataset = ImageFolder(shapes / 'imagenet/train')
    assert tuple(dataset.classes) == CLASSES
    assert len(dataset) == 768
