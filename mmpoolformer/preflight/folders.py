"""Looks into image folders: image and mask pairs, mask values, one folder per class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmpoolformer.config_reading import (
    FOLDER_DATASETS,
    DataSet,
    files_below,
    get,
    heads,
    is_file,
    is_folder,
    join,
    lines_of,
    subfolders,
)
from mmpoolformer.preflight.problem import Problem, count, some

# What the class uses when the config gives no suffix; other classes have their own, unknown here.
_SUFFIXES = {'BaseSegDataset': ('.jpg', '.png'), 'ADE20KDataset': ('.jpg', '.png')}
_IMAGES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')
_SAMPLED_MASKS = 8  # decoding one ADE20K mask takes 5 ms


def check_masks(dataset: DataSet) -> list[Problem]:
    """Return what is wrong with the image and mask folders of a segmentation data set."""
    images, masks = dataset.images, dataset.folders.get('seg_map_path', '')
    suffix, mask_suffix = _suffixes(dataset)
    if not (is_folder(images) and is_folder(masks) and suffix and mask_suffix):
        return []
    names = _stems(images, suffix)
    if is_file(dataset.ann_file):
        names = set(lines_of(dataset.ann_file))
    if not names:
        other = sorted({Path(file).suffix for file in files_below(images)} - {''})
        what = f'{images} holds no {suffix} file, only {some(other) or "others"}.'
        return [Problem(what, f"Set {dataset.key}.img_suffix to the images' suffix.")]
    lost = sorted(names - _stems(masks, mask_suffix))
    if lost:
        what = (
            f'{len(lost):,} of {count(len(names), "image")} in {images} have no mask in {masks}: '
        )
        files = some([name + mask_suffix for name in lost], 3)
        cure = f'Add the masks, or correct {dataset.key}.seg_map_suffix (now {mask_suffix}).'
        return [Problem(f'{what}{files}.', cure)]
    step = max(1, len(names) // _SAMPLED_MASKS)
    sample = [join(masks, name + mask_suffix) for name in sorted(names)[::step]]
    return _check_values(dataset, sample[:_SAMPLED_MASKS])


def _suffixes(dataset: DataSet) -> tuple[str, str]:
    default = _SUFFIXES.get(dataset.type, ('', ''))
    found = [dataset.options.get(key) for key in ('img_suffix', 'seg_map_suffix')]
    image, mask = (a if isinstance(a, str) else b for a, b in zip(found, default, strict=True))
    return image, mask


def _stems(folder: str, suffix: str) -> set[str]:
    return {name[: -len(suffix)] for name in files_below(folder) if name.endswith(suffix)}


def _check_values(dataset: DataSet, paths: list[str]) -> list[Problem]:
    """Decode a few masks and compare their values with the number of classes."""
    try:
        from PIL import Image
    except ImportError:
        return []
    number = dataset.num_classes
    if dataset.type == 'ADE20KDataset':
        number = 150  # a shorter class list is mapped from the 150 of the files
    elif dataset.type not in _SUFFIXES:
        number = None
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
        for value in values:
            found.setdefault(value, path)
    return _judge_values(dataset, number, found)


def _judge_values(dataset: DataSet, number: int | None, found: dict[int, str]) -> list[Problem]:
    if number is None or not found:
        return []
    ignore = dataset.options.get('ignore_index', 255)
    shift = dataset.options.get('reduce_zero_label', dataset.type == 'ADE20KDataset')
    last = number if shift else number - 1
    wrong = sorted(value for value in found if value > last and value != ignore)
    if not wrong:
        return []
    what = f'The masks hold values that are no class: {some(wrong)}, e.g. in {found[wrong[0]]}. '
    what += f'Allowed: 0 to {last} ({count(number, "class", "classes")}'
    what += ', 0 is not scored' * bool(shift) + f'), and {ignore} for pixels to ignore.'
    if not shift and wrong == [number] and 0 not in found:
        cure = f'They seem to count from 1: set {dataset.key}.reduce_zero_label=True.'
    else:
        cure = f'Renumber the masks, or complete {dataset.key}.metainfo.classes.'
    return [Problem(what, cure)]


def check_class_folders(dataset: DataSet, cfg: Mapping[str, Any]) -> list[Problem]:
    """Return what is wrong with a classification data set: its folders or its list of labels."""
    root = dataset.images
    if dataset.type not in FOLDER_DATASETS or not is_folder(root):
        return []
    if dataset.options.get('with_label') is False or dataset.options.get('split') == 'test':
        return []
    number = get(cfg, 'model.head.num_classes')
    key = 'model.head.num_classes'
    if number is None or key not in heads(cfg):
        number = dataset.num_classes
    if is_file(dataset.ann_file):
        return _check_labels(dataset.ann_file, number)
    folders = subfolders(root)
    if not folders:
        what = f'{root} holds no folders; each class needs a folder of its own, named after it.'
        return [Problem(what, 'Sort the images into one folder per class, or give an `ann_file`.')]
    hidden = [name for name in folders if name.startswith('.')]
    wanted = dataset.num_classes if dataset.classes is not None else number
    if wanted is not None and len(folders) != wanted:
        what = f'{root} holds {count(len(folders), "class folder")} ({some(folders)}), but '
        what += f'{count(wanted, "class is", "classes are")} expected.'
        cure = (
            f'Set {key}={len(folders)} and name the classes in the metainfo, or complete the data.'
        )
        if hidden:
            cure = f'{some(hidden)} counts as a class because it is a folder: delete it.'
        return [Problem(what, cure)]
    empty = [name for name in folders if not _any_image(join(root, name))]
    if empty:
        what = f'{count(len(empty), "class folder")} of {root} without an image: {some(empty)}.'
        return [Problem(what, f'Add images ({", ".join(_IMAGES)}) or remove the class.')]
    return []


def _any_image(folder: str) -> bool:
    return any(name.lower().endswith(_IMAGES) for name in files_below(folder))


def _check_labels(path: str, number: int | None) -> list[Problem]:
    """Check a list with one 'image label' per line."""
    lines = lines_of(path)
    if not lines:
        return [Problem(f'{path} is empty.', 'Write one `image label` per line into it.')]
    for i, line in enumerate(lines, 1):
        label = line.rpartition(' ')[2]
        if ' ' not in line or not label.isdigit():
            what = f'{path}, line {i}: {line[:60]!r} is not an image name, a space and a number.'
            return [Problem(what, 'Write one `image label` per line, e.g. `cats/001.jpg 0`.')]
        if number is not None and int(label) >= number:
            what = f'{path}, line {i}: label {label} is no class. Allowed: 0 to {number - 1}.'
            return [
                Problem(what, f'Number the classes from 0, or set num_classes={int(label) + 1}.')
            ]
    return []
