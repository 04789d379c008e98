"""Writes what a folder holds in standard formats, beside the run; never into the folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmpoolformer.datasets.folders.description import SPLITS, Folder, FolderError, Picture
from mmpoolformer.datasets.folders.masks import write_masks


def write_annotations(folder: Folder, target: Path, kind: str) -> dict[str, Path]:
    """Write the labels of each split, and ``split.json``, which says what is in which.

    Args:
        folder: A folder whose pictures all have a split.
        target: Where to write.
        kind: 'boxes' and 'polygons' become COCO json, 'classes' a list of names and numbers, and
            'masks' a list of names, with label maps in ``masks/``.

    Returns:
        The file of each split that has pictures.

    Raises:
        FolderError: If ``target`` lies in the folder.
    """
    if target.resolve().is_relative_to(folder.root.resolve()):
        raise FolderError(
            f'{target} lies in {folder.root}, and nothing is written there: choose another '
            '--work-dir.'
        )
    target.mkdir(parents=True, exist_ok=True)
    splits = {split: pictures for split in SPLITS if (pictures := folder.of(split))}
    names = {split: [picture.name for picture in group] for split, group in splits.items()}
    _write(target / 'split.json', json.dumps(names, indent=1, ensure_ascii=False))
    if kind == 'masks':
        write_masks(folder, target / 'masks')
    files = {}
    for split, pictures in splits.items():
        if kind in ('boxes', 'polygons'):
            files[split] = target / f'{split}.json'
            content = json.dumps(_coco(folder, pictures, kind), ensure_ascii=False)
        else:
            files[split] = target / f'{split}.txt'
            content = '\n'.join(_line(picture, kind) for picture in pictures)
        _write(files[split], content + '\n')
    return files


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding='utf-8')


def _line(picture: Picture, kind: str) -> str:
    return f'{picture.name} {min(picture.labels)}' if kind == 'classes' else picture.name


def _coco(folder: Folder, pictures: Sequence[Picture], kind: str) -> dict[str, Any]:
    images, annotations = [], []
    for image_id, picture in enumerate(pictures, 1):
        width, height = picture.size
        images.append({'id': image_id, 'file_name': picture.name, 'width': width, 'height': height})
        for instance in picture.instances:
            annotation = {
                'id': len(annotations) + 1,
                'image_id': image_id,
                'category_id': instance.label + 1,
                'bbox': instance.box,
                'area': instance.area,
                'iscrowd': int(instance.is_crowd),
            }
            if kind == 'polygons':
                # A box among outlines: its mask is not known, so it is neither learnt nor counted.
                annotation['iscrowd'] = int(instance.is_crowd or not instance.has_mask)
                annotation['segmentation'] = (
                    instance.rle or instance.polygons or [_corners(instance.box)]
                )
            annotations.append(annotation)
    categories = [{'id': i, 'name': name} for i, name in enumerate(folder.classes, 1)]
    return {'images': images, 'annotations': annotations, 'categories': categories}


def _corners(box: tuple[float, float, float, float]) -> list[float]:
    x, y, w, h = box
    return [x, y, x + w, y, x + w, y + h, x, y + h]
