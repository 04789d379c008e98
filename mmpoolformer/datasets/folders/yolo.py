"""Reads YOLO folders: data.yaml, one .txt of boxes or outlines for each picture.

The library supervision (0.31.2) reads YOLO, too. It was tried and is not used here: a byte-order
mark, a class id that data.yaml leaves out or a short line ends its reading, an outline becomes a
mask, and what it passes over it does not name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from mmpoolformer.datasets.folders.description import (
    SPLITS,
    Findings,
    Folder,
    FolderError,
    Instance,
    Picture,
)
from mmpoolformer.datasets.folders.geometry import make_instance
from mmpoolformer.datasets.folders.pictures import (
    Head,
    Listing,
    read_head,
    split_of_folders,
    text_lines,
)

LOOKS_FOR = 'data.yaml with `names`, or a .txt of `class x y width height` for each picture'
_NAME_FILES = ('classes.txt', 'obj.names', 'classes.names', 'labels.txt', 'predefined_classes.txt')
# Labels may be rounded over the picture's edge; numbers above this are pixels.
_LARGEST = 2.0


def label_files(listing: Listing) -> list[str]:
    """Return data.yaml, and the .txt files that stand where labels of pictures do."""
    labels = _label_of(listing)
    files = [name for name in labels.values() if _looks_like_labels(listing.root / name)]
    return [*_data_files(listing), *files]


def _data_files(listing: Listing) -> list[str]:
    names = [f for f in listing.ending('.yaml', '.yml') if f.count('/') <= 1]
    return [name for name in names if 'names' in _load(listing.root / name)]


def _load(path: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(path.read_bytes().decode('utf-8-sig'))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise FolderError(f'{path} is no valid yaml: {error}') from None
    return content if isinstance(content, dict) else {}


def _looks_like_labels(path: Path) -> bool:
    """Tell labels from other texts by their first line; an empty file says: no objects."""
    with path.open('rb') as file:
        words = file.readline(4096).decode('utf-8-sig', 'replace').split()
    try:
        return not words or (len(words) >= 5 and [float(word) for word in words] != [])
    except ValueError:
        return False


def _label_of(listing: Listing) -> dict[str, str]:
    """Return the label file of each picture that has one.

    As Ultralytics does: the last folder `images` of the path becomes `labels`; else beside it.
    """
    texts, found = set(listing.ending('.txt')), {}
    for picture in listing.pictures:
        parts = list(PurePosixPath(picture).with_suffix('.txt').parts)
        beside = '/'.join(parts)
        for i in range(len(parts) - 2, -1, -1):
            if parts[i].lower() in ('images', 'imgs', 'img'):
                parts[i] = 'labels'
                break
        for place in ('/'.join(parts), beside, f'labels/{beside}'):
            if place in texts:
                found[picture] = place
                break
    return found


def read(listing: Listing, files: list[str]) -> Folder:
    """Read the folder.

    Raises:
        FolderError: If data.yaml cannot be understood.
    """
    findings, labels = Findings(), _label_of(listing)
    data_files = [name for name in files if name.endswith(('.yaml', '.yml'))]
    if len(data_files) > 1:
        listed = ', '.join(data_files)
        raise FolderError(f'{listing.root} has {listed}. Name the one to use: {data_files[0]}')
    data = _load(listing.root / data_files[0]) if data_files else {}
    names = _names(listing, data, data_files)
    reader = _Reader(listing, names, _pose_values(data), findings)
    split_of = _splits(listing, data, data_files)
    pictures = []
    for name in listing.pictures:
        head = read_head(listing.root, name, findings)
        if head is None:
            continue
        if name not in labels:
            findings.add('pictures have no label file', 'taken as pictures without objects', name)
        instances = reader.instances(labels[name], head) if name in labels else ()
        used = frozenset(instance.label for instance in instances)
        pictures.append(Picture(name, head.shown, split_of(name), instances, used))
    _note_orphans(listing, labels, findings)
    if not names:  # Numbers that no file names: those that occur.
        used = sorted({i.label for picture in pictures for i in picture.instances})
        names = {number: f'class_{number}' for number in used}
    pictures, classes = _numbered(pictures, names)
    return Folder(listing.root, 'yolo', classes, pictures, findings.all())


def _names(listing: Listing, data: Mapping[str, Any], data_files: list[str]) -> dict[int, str]:
    """Return the class names by their numbers, which may have gaps; none if nothing says them."""
    if data_files:
        given = data['names']
        try:
            pairs = given.items() if isinstance(given, dict) else enumerate(given)
            return {int(number): str(name) for number, name in sorted(pairs)}
        except (TypeError, ValueError):
            place = listing.root / data_files[0]
            raise FolderError(f'{place}: `names` must be a list, or numbers and names.') from None
    for file in listing.files:
        if PurePosixPath(file).name.lower() in _NAME_FILES:
            lines = text_lines(listing.root / file)
            return {number: line for number, line in enumerate(lines) if line}
    return {}


def _pose_values(data: Mapping[str, Any]) -> int:
    """Return how many numbers of key points stand behind each box."""
    shape = data.get('kpt_shape')
    whole = isinstance(shape, list) and all(isinstance(value, int) for value in shape)
    return math.prod(shape) if whole else 0


def _splits(listing: Listing, data: Mapping[str, Any], data_files: list[str]):
    """Return a function from a picture to its split, by data.yaml, or else by its folders."""
    folders, listed = {}, {}
    keys = {'train': 'train', 'val': 'val', 'valid': 'val', 'test': 'test'}
    for key, split in keys.items():
        entries = data.get(key) or []
        for entry in entries if isinstance(entries, list) else [entries]:
            if not isinstance(entry, str):
                continue
            if entry.endswith('.txt'):
                listed |= dict.fromkeys(_listed(listing, entry, data), split)
            elif place := _place(listing, entry, data, data_files):
                folders[place] = split

    def split_of(name: str) -> str:
        if name in listed:
            return listed[name]
        inside = [f for f in folders if f == '.' or name.startswith(f'{f}/')]
        return folders[max(inside, key=len)] if inside else split_of_folders(name)

    # One folder for several splits says nothing: the data is yet to be split.
    return (
        split_of if len(set(folders)) == len(folders) and '.' not in folders else split_of_folders
    )


def _place(listing: Listing, entry: str, data: Mapping[str, Any], data_files: list[str]) -> str:
    """Return where a path of data.yaml leads, from the folder.

    It counts from `path`, from data.yaml or, in Roboflow's exports, from a folder beside it.
    """
    yaml_folder = (listing.root / data_files[0]).parent
    stripped = '/'.join(part for part in PurePosixPath(entry).parts if part not in ('..', '.'))
    starts = [yaml_folder / str(data.get('path') or '.'), yaml_folder, listing.root]
    for start in starts:
        for tail in (entry, stripped):
            place = (start / tail).resolve()
            if place.is_dir() and place.is_relative_to(listing.root.resolve()):
                return place.relative_to(listing.root.resolve()).as_posix()
    return ''


def _listed(listing: Listing, entry: str, data: Mapping[str, Any]) -> list[str]:
    """Return the pictures that a list of paths, as darknet has them, names."""
    for start in (listing.root / str(data.get('path') or '.'), listing.root):
        if (start / entry).is_file():
            found = [listing.find(line, entry) for line in text_lines(start / entry)]
            return [name for name in found if name]
    return []


class _Reader:
    """Reads label files.

    Args:
        listing: The folder.
        names: The class names by their numbers; if empty, every number is a class.
        pose_values: How many numbers of key points stand behind each box.
        findings: Where what is odd is noted.
    """

    def __init__(
        self, listing: Listing, names: Mapping[int, str], pose_values: int, findings: Findings
    ) -> None:
        self.listing, self.names, self.pose = listing, names, pose_values
        self.findings = findings

    def instances(self, file: str, head: Head) -> tuple[Instance, ...]:
        """Return the objects of a label file, their labels still the numbers in it."""
        path = self.listing.root / file
        if path.stat().st_size == 0:
            return ()
        read = [
            self._instance(line.split(), head, f'{file}:{number}')
            for number, line in enumerate(text_lines(path), 1)
            if line
        ]
        return tuple(instance for instance in read if instance)

    def _instance(self, words: list[str], head: Head, place: str) -> Instance | None:
        try:
            number, values = float(words[0]), [float(word) for word in words[1:]]
        except ValueError:
            number, values = math.nan, []
        if not number.is_integer() or number < 0 or len(values) < 4:
            what = 'lines are not `class x y width height` nor `class x1 y1 x2 y2 x3 y3 ...`'
            self.findings.add(what, 'left out', place)
            return None
        if self.names and number not in self.names:
            what = f'objects have the class number {number:g}, which has no name'
            self.findings.add(what, 'left out', place)
            return None
        if max(values[:4]) > _LARGEST:
            what = 'lines count in pixels, where YOLO counts in parts of the picture'
            self.findings.add(what, 'left out', place)
            return None
        width, height = head.shown
        if len(values) in (4, 5, 4 + self.pose):  # A fifth number is a confidence.
            x, y, w, h = values[:4]
            box = ((x - w / 2) * width, (y - h / 2) * height, w * width, h * height)
            return make_instance(int(number), head, self.findings, place, box=box)
        values = values[: len(values) // 2 * 2]  # A number that is left over, too.
        points = [value * (width, height)[i % 2] for i, value in enumerate(values)]
        return make_instance(int(number), head, self.findings, place, polygons=[points])


def _note_orphans(listing: Listing, labels: Mapping[str, str], findings: Findings) -> None:
    used = set(labels.values())
    for file in listing.ending('.txt'):
        name = PurePosixPath(file).name.lower()
        words = {*_NAME_FILES, *(f'{split}.txt' for split in (*SPLITS, 'valid', 'trainval'))}
        if file not in used and name not in words and _looks_like_labels(listing.root / file):
            findings.add('label files have no picture', 'left out', file)


def _numbered(pictures: list[Picture], names: Mapping[int, str]) -> tuple:
    """Number the classes without gaps."""
    index = {number: i for i, number in enumerate(names)}
    numbered = tuple(
        replace(
            picture,
            instances=tuple(replace(i, label=index[i.label]) for i in picture.instances),
            labels=frozenset(index[label] for label in picture.labels),
        )
        for picture in pictures
    )
    return numbered, tuple(names.values())
