"""Write the COCO json of Shapes in the formats of other tools, without any code of the readers."""

import json
import shutil
from math import ceil, floor
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools.coco import COCO


def _splits(shapes: Path):
    for split in ('train', 'val'):
        coco = json.loads((shapes / f'coco/annotations/instances_{split}.json').read_text())
        objects = {image['id']: [] for image in coco['images']}
        for annotation in coco['annotations']:
            objects[annotation['image_id']].append(annotation)
        yield split, coco, objects


def write_yolo(shapes: Path, target: Path, *, polygons: bool = False) -> Path:
    """Write ``images/<split>/``, ``labels/<split>/`` and ``data.yaml`` as Ultralytics has them."""
    names = []
    for split, coco, objects in _splits(shapes):
        names = [category['name'] for category in coco['categories']]
        shutil.copytree(shapes / 'coco' / split, target / 'images' / split)
        labels = target / 'labels' / split
        labels.mkdir(parents=True)
        for image in coco['images']:
            size = image['width'], image['height']
            lines = [_yolo_line(o, size, polygons) for o in objects[image['id']]]
            name = Path(image['file_name']).with_suffix('.txt')
            (labels / name).write_text(''.join(f'{line}\n' for line in lines))
    listed = ''.join(f'  {i}: {name}\n' for i, name in enumerate(names))
    text = f'path: .\ntrain: images/train\nval: images/val\nnames:\n{listed}'
    (target / 'data.yaml').write_text(text)
    return target


def _yolo_line(annotation, size, polygons) -> str:
    width, height = size
    if polygons:
        points = [(x, i) for i, x in enumerate(max(annotation['segmentation'], key=len))]
        numbers = [value / (width, height)[i % 2] for value, i in points]
    else:
        x, y, w, h = annotation['bbox']
        numbers = [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
    values = ' '.join(f'{number:.6f}' for number in numbers)
    return f'{annotation["category_id"] - 1} {values}'


def write_voc(shapes: Path, target: Path, *, pixels: bool = False) -> Path:
    """Write ``JPEGImages/``, ``Annotations/`` and ``ImageSets/Main/``.

    Edges are counted from 0 and have fractions, as CVAT writes them; or, with ``pixels``, the first
    and the last pixel of a box are given, from 1, as the challenge has it.
    """
    for folder in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
        (target / folder).mkdir(parents=True)
    for split, coco, objects in _splits(shapes):
        names = {category['id']: category['name'] for category in coco['categories']}
        stems = []
        for image in coco['images']:
            stem = f'{split}_{Path(image["file_name"]).stem}'
            stems.append(stem)
            source = shapes / 'coco' / split / image['file_name']
            shutil.copy(source, target / f'JPEGImages/{stem}.png')
            things = ''.join(_voc_object(o, names, pixels) for o in objects[image['id']])
            (target / f'Annotations/{stem}.xml').write_text(
                f'<annotation><folder>VOC</folder><filename>{stem}.png</filename><size>'
                f'<width>{image["width"]}</width><height>{image["height"]}</height>'
                f'<depth>3</depth></size>{things}</annotation>'
            )
        (target / f'ImageSets/Main/{split}.txt').write_text('\n'.join(stems))
    return target


def _voc_object(annotation, names, pixels) -> str:
    x, y, w, h = annotation['bbox']
    values = dict(xmin=x, ymin=y, xmax=x + w, ymax=y + h)
    if pixels:
        values = dict(xmin=floor(x) + 1, ymin=floor(y) + 1, xmax=ceil(x + w), ymax=ceil(y + h))
    corners = ''.join(f'<{key}>{value:g}</{key}>' for key, value in values.items())
    name = names[annotation['category_id']]
    return f'<object><name>{name}</name><bndbox>{corners}</bndbox></object>'


def write_masks(shapes: Path, target: Path) -> Path:
    """Write ``images/`` and ``masks/`` without splits, values with gaps, and ``classes.txt``."""
    (target / 'images').mkdir(parents=True)
    (target / 'masks').mkdir()
    names = {}
    for split, coco, _ in _splits(shapes):
        api = COCO(str(shapes / f'coco/annotations/instances_{split}.json'))
        names = {category['id']: category['name'] for category in coco['categories']}
        for image in coco['images']:
            label_map = np.zeros((image['height'], image['width']), np.uint8)
            for annotation in api.loadAnns(api.getAnnIds(image['id'])):
                label_map[api.annToMask(annotation) > 0] = annotation['category_id']
            stem = f'{split}_{Path(image["file_name"]).stem}'
            with Image.open(shapes / 'coco' / split / image['file_name']) as picture:
                picture.save(target / f'images/{stem}.jpg', quality=95)
            Image.fromarray(label_map).save(target / f'masks/{stem}_mask.png')
    (target / 'classes.txt').write_text('\n'.join(['background', *names.values()]))
    return target


def write_class_folders(shapes: Path, target: Path) -> Path:
    """Cut out every object and put it into a folder named after its class, without splits."""
    for split, coco, objects in _splits(shapes):
        names = {category['id']: category['name'] for category in coco['categories']}
        for image in coco['images']:
            with Image.open(shapes / 'coco' / split / image['file_name']) as picture:
                for annotation in objects[image['id']]:
                    x, y, w, h = annotation['bbox']
                    folder = target / names[annotation['category_id']]
                    folder.mkdir(parents=True, exist_ok=True)
                    crop = picture.crop((x, y, x + w, y + h)).resize((64, 64))
                    crop.save(folder / f'{split}_{annotation["id"]}.png')
    return target
