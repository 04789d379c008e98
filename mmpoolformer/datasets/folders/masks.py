"""Reads pictures with a mask each: label maps of one channel, or of one colour for each class."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from mmpoolformer.datasets.folders.description import Findings, Folder, FolderError, Picture
from mmpoolformer.datasets.folders.pictures import (
    Listing,
    normal,
    read_head,
    split_of_folders,
    text_lines,
)

LOOKS_FOR = 'two folders, images/ and masks/ (or labels/, annotations/), with files of equal names'
IGNORED = 255
_FOLDERS = {
    'mask',
    'masks',
    'label',
    'labels',
    'annotation',
    'annotations',
    'gt',
    'groundtruth',
    'ground_truth',
    'segmentation',
    'segmentations',
    'segmentationclass',
    'seg',
    'labelmaps',
}
_ENDINGS = re.compile(r'[-_. ]?(mask|masks|label|labels|seg|gt|segmentation|annotation)$', re.I)
_MASK_SUFFIXES = ('.png', '.tif', '.tiff', '.bmp', '.gif')
_NAME_FILES = ('classes.txt', 'labels.txt', 'class_names.txt', 'labelmap.txt', 'label_names.txt')
_MOST_VALUES = 256  # More values than this are a photograph, not a mask.

Value = int | tuple[int, int, int]


def label_files(listing: Listing) -> list[str]:
    """Return the masks that have a picture."""
    return [mask for _, mask in _pairs(listing)]


def _is_mask(name: str) -> bool:
    path = PurePosixPath(name)
    if path.suffix.lower() not in _MASK_SUFFIXES:
        return False
    folders = {part.lower() for part in path.parts[:-1]}
    return bool(folders & _FOLDERS or _ENDINGS.search(path.stem))


def _key(name: str) -> tuple[str, str]:
    """Return what a picture and its mask have in common: their split and their stem."""
    stem = _ENDINGS.sub('', PurePosixPath(name).stem)
    return split_of_folders(name), normal(stem)


def _pairs(listing: Listing) -> list[tuple[str, str]]:
    masks = [name for name in listing.pictures if _is_mask(name)]
    own = set(masks)
    pictures = {_key(name): name for name in listing.pictures if name not in own}
    pairs = [(pictures[key], name) for name in masks if (key := _key(name)) in pictures]
    return sorted(pairs)


def read(listing: Listing, files: list[str]) -> Folder:
    """Read the pairs; every mask is decoded, to know its values.

    Raises:
        FolderError: If the masks are photographs, or a list of classes cannot be read.
    """
    findings, pairs = Findings(), _pairs(listing)
    _note_unpaired(listing, pairs, findings)
    found = []
    for name, mask in pairs:
        values, size = _values(listing.root, mask, findings)
        if not values:
            continue
        head = read_head(listing.root, name, findings)
        if head is None:
            continue
        if size != head.shown:
            findings.add('masks have another size than their pictures', 'left out', mask)
            continue
        found.append((Picture(name, head.shown, split_of_folders(name), mask=mask), values))
    counts = Counter(value for _, values in found for value in values)
    numbers, classes = _classes(listing, counts, findings)
    pictures = tuple(
        replace(picture, labels=frozenset(numbers[v] for v in values if v in numbers))
        for picture, values in found
    )
    return Folder(listing.root, 'masks', classes, pictures, findings.all(), numbers)


def _note_unpaired(listing: Listing, pairs: list[tuple[str, str]], findings: Findings) -> None:
    paired = {name for pair in pairs for name in pair}
    for name in listing.pictures:
        if name not in paired:
            what = 'masks have no picture' if _is_mask(name) else 'pictures have no mask'
            findings.add(what, 'left out', name)


def read_mask(path: Path) -> np.ndarray:
    """Return a mask as it is stored: ``(H, W)`` numbers, or ``(H, W, 3)`` RGB colours."""
    with Image.open(path) as image:
        if image.mode in ('L', 'P', '1', 'I', 'I;16', 'I;16B', 'F'):
            return np.asarray(image).astype(np.int32)
        return np.asarray(image.convert('RGB'))


def packed(mask: np.ndarray) -> np.ndarray:
    """Return one number for each pixel, of a colour 0xRRGGBB."""
    return mask if mask.ndim == 2 else _packed_colour(np.moveaxis(mask.astype(np.int32), -1, 0))


def _packed_colour(colour: Iterable[Any]) -> Any:
    red, green, blue = colour
    return red << 16 | green << 8 | blue


def _values(root: Path, name: str, findings: Findings) -> tuple[list[Value], tuple[int, int]]:
    try:
        mask = read_mask(root / name)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        findings.add('masks cannot be decoded', 'left out', name)
        return [], (0, 0)
    values = [int(value) for value in np.unique(packed(mask))]
    if len(values) > _MOST_VALUES:
        what = f'{root / name} has {len(values):,} values: a mask has one for each class. Was it '
        raise FolderError(f'{what}saved as JPEG, or resized with interpolation?')
    if mask.ndim == 3:
        values = [(v >> 16, v >> 8 & 255, v & 255) for v in values]
    return values, (mask.shape[1], mask.shape[0])


def _classes(
    listing: Listing, counts: Counter[Value], findings: Findings
) -> tuple[dict[Value, int], tuple[str, ...]]:
    """Return the label of each value, and the names of the classes."""
    named = _named(listing)
    values = sorted(counts, key=lambda v: (isinstance(v, tuple), v))
    numbers = [v for v in values if isinstance(v, int)]
    if not named and set(numbers) == {0, IGNORED}:
        return {0: 0, IGNORED: 1}, ('background', 'foreground')
    if named:
        unknown = [v for v in values if v not in named and v != IGNORED]
        for value in unknown:
            what = f'masks hold {_text(value)}, which has no name'
            findings.add(what, 'not learnt, nor scored', f'{counts[value]:,} masks')
        return {value: i for i, value in enumerate(named)}, tuple(named.values())
    used = [v for v in values if v != IGNORED]
    return {v: i for i, v in enumerate(used)}, tuple(_default_name(v) for v in used)


def _text(value: Value) -> str:
    return f'the colour {value}' if isinstance(value, tuple) else f'the value {value}'


def _default_name(value: Value) -> str:
    if value in (0, (0, 0, 0)):
        return 'background'
    if isinstance(value, tuple):
        return 'colour_{:02x}{:02x}{:02x}'.format(*value)
    return f'class_{value}'


def _named(listing: Listing) -> Mapping[Any, str]:
    """Return the names of a list of classes: one a line, or CVAT's ``name:r,g,b:parts:actions``.

    Raises:
        FolderError: If a line of colours cannot be read.
    """
    for file in listing.files:
        if PurePosixPath(file).name.lower() not in _NAME_FILES:
            continue
        lines = [line for line in text_lines(listing.root / file) if line and line[0] != '#']
        if not any(':' in line for line in lines):
            return dict(enumerate(lines))
        try:
            return dict(_coloured(lines))
        except ValueError:
            example = 'name:red,green,blue::'
            raise FolderError(f'{listing.root / file}: a line is not `{example}`.') from None
    return {}


def _coloured(lines: Iterable[str]):
    for line in lines:
        name, colour = line.split(':')[:2]
        red, green, blue = map(int, colour.split(','))
        yield (red, green, blue), name


def write_masks(folder: Folder, target: Path) -> None:
    """Write every mask as png of labels, named after its picture, below ``target``."""
    for picture in folder.pictures:
        mask = read_mask(folder.root / picture.mask)
        labels = np.full(mask.shape[:2], IGNORED, np.uint8)
        numbers = packed(mask)
        for value, label in folder.mask_values.items():
            is_colour = isinstance(value, tuple)
            if is_colour == (mask.ndim == 3):
                labels[numbers == (_packed_colour(value) if is_colour else value)] = label
        path = target / f'{picture.name}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(labels).save(path)
