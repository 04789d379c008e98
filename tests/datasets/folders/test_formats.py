"""Every format gives what COCO json gives, written by an exporter that knows no reader."""

import json

import numpy as np
import pytest
from exporters import write_class_folders, write_masks, write_voc, write_yolo
from PIL import Image

from mmpoolformer.datasets.folders import read_folder, with_splits, write_annotations
from mmpoolformer.datasets.shapes import CLASSES


def written(folder, target, kind='boxes'):
    files = write_annotations(with_splits(folder), target, kind)
    return {split: json.loads(path.read_text()) for split, path in files.items()}


def facts(coco):
    """What training reads, in the order of the file, without names of images."""
    keys = ('image_id', 'category_id', 'bbox', 'iscrowd')
    return (
        [(image['id'], image['width'], image['height']) for image in coco['images']],
        [tuple(annotation[key] for key in keys) for annotation in coco['annotations']],
        coco['categories'],
    )


@pytest.fixture(scope='module')
def reference(shapes, tmp_path_factory):
    folder = read_folder(shapes / 'coco')
    return written(folder, tmp_path_factory.mktemp('coco'))


def test_coco_says_what_the_file_says(shapes, reference):
    original = json.loads((shapes / 'coco/annotations/instances_val.json').read_text())
    images, objects, categories = facts(reference['val'])
    assert [category['name'] for category in categories] == list(CLASSES)
    assert [image[0] for image in images] == [image['id'] for image in original['images']]
    assert [list(o[2]) for o in objects] == [o['bbox'] for o in original['annotations']]
    assert len(objects) > 5


@pytest.mark.parametrize('write', [write_yolo, write_voc])
def test_boxes_are_those_of_coco(shapes, reference, tmp_path, write):
    folder = read_folder(write(shapes, tmp_path / 'data'))
    assert folder.format == write.__name__.removeprefix('write_')
    assert folder.kind == 'boxes'
    assert not folder.findings
    found = written(folder, tmp_path / 'out')
    assert {split: facts(coco) for split, coco in found.items()} == {
        split: facts(coco) for split, coco in reference.items()
    }


def test_pixels_of_voc_count_from_one(shapes, reference, tmp_path):
    folder = read_folder(write_voc(shapes, tmp_path / 'data', pixels=True))
    found = written(folder, tmp_path / 'out')['train']['annotations']
    for mine, theirs in zip(found, reference['train']['annotations'], strict=True):
        (x1, y1, w1, h1), (x2, y2, w2, h2) = mine['bbox'], theirs['bbox']
        gaps = (x2 - x1, y2 - y1, x1 + w1 - x2 - w2, y1 + h1 - y2 - h2)
        assert all(0 <= gap < 1 for gap in gaps)


def test_polygons_are_those_of_coco(shapes, tmp_path):
    folder = read_folder(write_yolo(shapes, tmp_path / 'data', polygons=True))
    assert folder.kind == 'polygons'
    found = written(folder, tmp_path / 'out', 'polygons')['train']['annotations']
    original = json.loads((shapes / 'coco/annotations/instances_train.json').read_text())
    assert len(found) == len(original['annotations']) > 10
    for mine, theirs in zip(found, original['annotations'], strict=True):
        largest = max(theirs['segmentation'], key=len)
        np.testing.assert_allclose(mine['segmentation'][0], largest, atol=1e-3)


def test_masks(shapes, tmp_path):
    data = write_masks(shapes, tmp_path / 'data')
    folder = with_splits(read_folder(data))
    assert folder.classes == ('background', *CLASSES)
    assert len(folder.of('train')) == 10
    assert len(folder.of('val')) == 2
    files = write_annotations(folder, tmp_path / 'out', 'masks')
    for name in files['train'].read_text().split():
        mask = Image.open(data / 'masks' / f'{name[7:-4]}_mask.png')
        copy = Image.open(tmp_path / f'out/masks/{name}.png')
        np.testing.assert_array_equal(np.asarray(copy), np.asarray(mask))


def test_class_folders(shapes, tmp_path):
    folder = with_splits(read_folder(write_class_folders(shapes, tmp_path / 'data')))
    assert folder.classes == CLASSES
    assert all(
        train > val > 0
        for train, val in zip(
            folder.objects(folder.of('train')), folder.objects(folder.of('val')), strict=True
        )
    )
    files = write_annotations(folder, tmp_path / 'out', 'classes')
    for line in files['val'].read_text().splitlines():
        name, _, label = line.rpartition(' ')
        assert name.split('/')[0] == CLASSES[int(label)]
