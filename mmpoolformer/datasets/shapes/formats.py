"""Draws the pictures of Shapes and writes them in the layouts of COCO, ADE20K and ImageNet.

.. code-block:: none

    <root>/
      coco/annotations/instances_{train,val}.json   category ids 1..6, polygons of visible parts
      coco/{train,val}/000000000001.png
      ade/images/{training,validation}/000000000001.png        the same scenes
      ade/annotations/{training,validation}/000000000001.png   0 background, 1..6 the classes
      imagenet/{train,val}/<class>/000001.png                  64 x 64 px, one object each
      shapes.json                                              parameters, statistics, file list
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmpoolformer.datasets.shapes.classes import CLASSES
from mmpoolformer.datasets.shapes.scenes import EMPTY_EVERY, Instance, Scene, make_crop, make_scene

SPLITS = {'train': 'training', 'val': 'validation'}  # COCO's names and ADE20K's
CROP_SIZE = 64  # pixels
PNG_LEVEL = 6
SMALL_AREA, LARGE_AREA = 32**2, 96**2  # pixels, as COCO draws the lines

Job = tuple[str, str, int]
Progress = Callable[[Sequence[Job]], Iterable[Job]]


def write_tree(root: Path, parameters: dict[str, int], progress: Progress) -> dict[str, Any]:
    """Draw all pictures and write them, with their annotations, below ``root``.

    Returns:
        For each split the number of images, crops, objects, objects per class and so on.
    """
    size, seed = parameters['size'], parameters['seed']
    counts = {
        ('scene', 'train'): parameters['num_train'],
        ('scene', 'val'): parameters['num_val'],
        ('crop', 'train'): parameters['num_crops'],
        ('crop', 'val'): max(parameters['num_crops'] // 4, len(CLASSES)),
    }
    streams = list(counts)
    coco = {split: _empty_coco(split) for split in SPLITS}
    statistics = {split: Counter(crops=counts['crop', split]) for split in SPLITS}
    jobs = [(*stream, index) for stream, count in counts.items() for index in range(count)]
    for kind, split, index in progress(jobs):
        rng = np.random.default_rng([seed, streams.index((kind, split)), index])
        if kind == 'crop':
            _write_crop(root, split, index, rng)
            continue
        scene = make_scene(rng, size, empty=index % EMPTY_EVERY == EMPTY_EVERY // 2)
        _write_scene(root, split, index, scene)
        _append_coco(coco[split], index, scene)
        statistics[split].update(_statistics(scene))
    for split in SPLITS:
        path = root / f'coco/annotations/instances_{split}.json'
        _write(path, json.dumps(coco[split]).encode())
    return {split: dict(sorted(counter.items())) for split, counter in statistics.items()}


def _write_crop(root: Path, split: str, index: int, rng: np.random.Generator) -> None:
    label = index % len(CLASSES)
    name = f'{index // len(CLASSES) + 1:06d}.png'
    image = make_crop(rng, label, CROP_SIZE).image
    _write(root / 'imagenet' / split / CLASSES[label] / name, _png(image))


def _write_scene(root: Path, split: str, index: int, scene: Scene) -> None:
    name, ade_split = _image_name(index), SPLITS[split]
    image = _png(scene.image)
    _write(root / 'coco' / split / name, image)
    _write(root / 'ade/images' / ade_split / name, image)
    _write(root / 'ade/annotations' / ade_split / name, _png(scene.labels))


def _image_name(index: int) -> str:
    return f'{index + 1:012d}.png'


def _png(image: np.ndarray) -> bytes:
    # Not cv2.imwrite: on a full disk it returns False, or nothing at all.
    bgr = image[..., ::-1] if image.ndim == 3 else image
    return cv2.imencode('.png', bgr, [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL])[1].tobytes()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _empty_coco(split: str) -> dict[str, Any]:
    url = 'https://www.apache.org/licenses/LICENSE-2.0'
    return {
        'info': {'description': f'Shapes, {split}', 'version': '1.0'},
        'licenses': [{'id': 1, 'name': 'Apache License 2.0', 'url': url}],
        'images': [],
        'annotations': [],
        'categories': [
            {'id': label + 1, 'name': name, 'supercategory': 'shape'}
            for label, name in enumerate(CLASSES)
        ],
    }


def _append_coco(coco: dict[str, Any], index: int, scene: Scene) -> None:
    height, width = scene.image.shape[:2]
    image = {'id': index + 1, 'file_name': _image_name(index), 'height': height, 'width': width}
    coco['images'].append(image | {'license': 1})
    for instance in scene.instances:
        annotation_id = len(coco['annotations']) + 1
        coco['annotations'].append(
            {
                'id': annotation_id,
                'image_id': index + 1,
                'category_id': instance.label + 1,
                'bbox': list(instance.box),
                'area': float(instance.mask.sum()),
                'iscrowd': 0,
                'segmentation': [polygon.ravel().tolist() for polygon in instance.polygons],
            }
        )


def _statistics(scene: Scene) -> Counter:
    counter = Counter(images=1, empty=int(not scene.instances), objects=len(scene.instances))
    for instance in scene.instances:
        counter[CLASSES[instance.label]] += 1
        counter[_area_range(instance)] += 1
        counter['truncated'] += _truncated(instance)
    return counter


def _area_range(instance: Instance) -> str:
    area = np.count_nonzero(instance.mask)
    return 'small' if area < SMALL_AREA else 'large' if area >= LARGE_AREA else 'medium'


def _truncated(instance: Instance) -> int:
    mask = instance.mask
    return int(any(edge.any() for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1])))
