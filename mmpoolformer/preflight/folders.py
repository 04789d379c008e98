"""Looks into image folders: image and mask pairs, mask values, one folder per class."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from mmpoolformer.config_reading import (
    FOLDER_DATASETS,
    DataSet,
    heads,
    is_file,
    is_folder,
    join,
    lines_of,
)
from mmpoolformer.preflight.problem import Problem, count, some

# What the class uses when the config gives no suffix; other classes have their own, unknown here.
_SUFFIXES = {'BaseSegDataset': ('.jpg', '.png'), 'ADE20KDataset': ('.jpg', '.png')}
_SAMPLED_MASKS = 8  # decoding one ADE20K mask takes 5 ms


def check_masks(dataset: DataSet) -> list[Problem]:
    """Return what is wrong with the image and mask folders of a segmentation data set."""
    images, masks = dataset.images, dataset.folders.get('seg_map_path', '')
    default = _SUFFIXES.get(dataset.type, (None, None))
    suffix = dataset.options.get('img_suffix', default[0])
    mask_suffix = dataset.options.get('seg_map_suffix', default[1])
    known = all(isinstance(ending, str) and ending for ending in (suffix, mask_suffix))
    if not (is_folder(images) and is_folder(masks) and known):
        return []
    files = _files_below(images)
    names = {name.removesuffix(suffix) for name in files if name.endswith(suffix)}
    if is_file(dataset.ann_file):
        names = set(lines_of(dataset.ann_file))
    if not names:
        other = sorted({Path(file).suffix for file in files} - {''})
        what = f'{images} holds no {suffix} file, only {some(other) or "others"}.'
        return [Problem(what, f"Set {dataset.key}.img_suffix to the images' suffix.")]
    lost = sorted({name + mask_suffix for name in names} - set(_files_below(masks)))
    if lost:
        what = f'{len(lost):,} of {count(len(names), "image")} in {images} have no mask in {masks}'
        cure = f'Add the masks, or correct {dataset.key}.seg_map_suffix (now {mask_suffix}).'
        return [Problem(f'{what}: {some(lost, 3)}.', cure)]
    sample = sorted(names)[:: max(1, len(names) // _SAMPLED_MASKS)][:_SAMPLED_MASKS]
    return _check_values(dataset, [join(masks, name + mask_suffix) for name in sample])


def _files_below(folder: str) -> list[str]:
    """Return all files below ``folder``, relative to it, as mmengine lists them."""
    return [
        str((Path(place) / name).relative_to(folder))
        for place, _, names in os.walk(folder, followlinks=True)
        for name in names
        if not name.startswith('.')
    ]


def _check_values(dataset: DataSet, paths: list[str]) -> list[Problem]:
    """Decode a few masks and compare their values with the number of classes."""
    found: dict[int, str] = {}
    for path in paths:
        try:
            with Image.open(path) as mask:
                if len(mask.getbands()) > 1:
                    what = f'{path} is a colour picture; a mask has one channel of class numbers.'
                    return [Problem(what, 'Convert the colours to class numbers 0, 1, 2, …')]
                # One channel of any depth; the number of distinct values is small in a mask.
                values = {int(value) for _, value in mask.getcolors(mask.width * mask.height)}
        except (OSError, ValueError, TypeError, SyntaxError) as error:
            what = f'{path} cannot be decoded: {error}.'
            return [Problem(what, 'Copy or make the file again.')]
        found = dict.fromkeys(values, path) | found
    is_ade = dataset.type == 'ADE20KDataset'
    # A shorter class list of ADE20K is mapped from the 150 of the files.
    number = 150 if is_ade else dataset.num_classes
    if number is None or dataset.type not in _SUFFIXES:
        return []
    ignore = dataset.options.get('ignore_index', 255)
    shift = dataset.options.get('reduce_zero_label', is_ade)
    last = number if shift else number - 1
    wrong = sorted(value for value in found if value > last and value != ignore)
    if not wrong:
        return []
    what = f'The masks hold values that are no class: {some(wrong)}, e.g. in {found[wrong[0]]}. '
    what += f'Allowed: 0 to {last} ({count(number, "class", "classes")}'
    what += ', 0 is not scored' * bool(shift) + f'), and {ignore} for pixels to ignore.'
    cure = f'Renumber the masks, or complete {dataset.key}.metainfo.classes.'
    if not shift and wrong == [number] and 0 not in found:
        cure = f'They seem to count from 1: set {dataset.key}.reduce_zero_label=True.'
    return [Problem(what, cure)]


def check_class_folders(dataset: DataSet, cfg: Mapping[str, Any]) -> list[Problem]:
    """Return what is wrong with a classification data set: its folders or its list of labels."""
    root, key = dataset.images, 'model.head.num_classes'
    if dataset.type not in FOLDER_DATASETS or not is_folder(root):
        return []
    if dataset.options.get('with_label') is False or dataset.options.get('split') == 'test':
        return []
    number = heads(cfg).get(key, dataset.num_classes)
    if is_file(dataset.ann_file):
        return _check_labels(dataset.ann_file, number)
    try:
        folders = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    except OSError:  # not readable: opening it will say so
        return []
    if not folders:
        what = f'{root} holds no folders; each class needs a folder of its own, named after it.'
        return [Problem(what, 'Sort the images into one folder per class, or give an `ann_file`.')]
    wanted = len(dataset.classes) if dataset.classes else number
    if wanted in (None, len(folders)):
        return []
    what = f'{root} holds {count(len(folders), "class folder")} ({some(folders)}), but '
    what += f'{count(wanted, "class is", "classes are")} expected.'
    cure = f'Set {key}={len(folders)} and name the classes in the metainfo, or complete the data.'
    if hidden := [name for name in folders if name.startswith('.')]:
        cure = f'{some(hidden)} counts as a class because it is a folder: delete it.'
    return [Problem(what, cure)]


def _check_labels(path: str, number: int | None) -> list[Problem]:
    """Check a list with one 'image label' per line."""
    for i, line in enumerate(lines_of(path) or [''], 1):
        name, _, label = line.rpartition(' ')
        if not name or not label.isdigit() or (number is not None and int(label) >= number):
            allowed = 'number' if number is None else f'class from 0 to {number - 1}'
            what = f'{path}, line {i}: {line[:60]!r} is not an image name, a space and a {allowed}.'
            return [Problem(what, 'Write one `image label` per line, e.g. `cats/001.jpg 0`.')]
    return []
