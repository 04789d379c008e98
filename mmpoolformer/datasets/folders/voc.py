"""Reads Pascal VOC folders: one .xml of boxes, or outlines, for each picture.

The library supervision (0.31.2) reads them, too. It was tried and is not used here: it decodes
every picture, makes a mask of every outline, and ends at the first picture that is broken.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from mmpoolformer.datasets.folders.description import Findings, Folder, Instance, Picture
from mmpoolformer.datasets.folders.geometry import has_other_size, is_unturned, make_instance
from mmpoolformer.datasets.folders.pictures import (
    Head,
    Listing,
    normal,
    read_head,
    split_of_folders,
    split_of_name,
    text_lines,
)

LOOKS_FOR = 'an .xml with <annotation> for each picture'
_PROBE = 512  # Bytes in which a file says what it is.


@dataclass(frozen=True)
class _Object:
    name: str
    corners: tuple[float, ...] | None
    polygons: tuple[tuple[float, ...], ...]
    is_difficult: bool


@dataclass(frozen=True)
class _Sheet:
    """What one .xml says."""

    file: str
    picture: str
    size: tuple[int, int]
    objects: tuple[_Object, ...]


def label_files(listing: Listing) -> list[str]:
    """Return the .xml files that describe one picture each."""
    return [name for name in listing.ending('.xml') if _is_voc(listing.root / name)]


def _is_voc(path: Path) -> bool:
    with path.open('rb') as file:
        return re.search(rb'<annotation[\s>]', file.read(_PROBE)) is not None


def read(listing: Listing, files: list[str]) -> Folder:
    """Read these files, and the splits of ``ImageSets/Main/`` where there are any."""
    findings = Findings()
    sheets = [sheet for file in files if (sheet := _sheet(listing, file, findings))]
    start = _first_pixel(sheets)
    names = tuple(sorted({thing.name for sheet in sheets for thing in sheet.objects}))
    index = {name: label for label, name in enumerate(names)}
    split_of, pictures = _splits(listing), {}
    for sheet in sheets:
        if sheet.picture in pictures:
            findings.add('pictures have several label files', 'the first is used', sheet.file)
            continue
        head = read_head(listing.root, sheet.picture, findings)
        if head is None:
            continue
        if has_other_size(head, sheet.size, findings, sheet.picture):
            continue
        unturned = is_unturned(head, sheet.size)
        read = [
            _instance(thing, index, start, head, unturned, findings, sheet.file)
            for thing in sheet.objects
        ]
        instances = tuple(instance for instance in read if instance)
        labels = frozenset(instance.label for instance in instances)
        split = split_of.get(normal(PurePosixPath(sheet.picture).stem))
        split = split or split_of_folders(sheet.picture) or split_of_folders(sheet.file)
        pictures[sheet.picture] = Picture(sheet.picture, head.shown, split, instances, labels)
    labelled = {sheet.picture for sheet in sheets}
    for name in listing.pictures:
        if name not in labelled and 'segmentation' not in name.lower():
            findings.add('pictures have no label file', 'left out', name)
    ordered = tuple(pictures[name] for name in sorted(pictures))
    return Folder(listing.root, 'voc', names, ordered, findings.all())


def _sheet(listing: Listing, file: str, findings: Findings) -> _Sheet | None:
    try:
        # Bytes: a mark at the beginning or the declaration says how they are encoded.
        root = ElementTree.fromstring((listing.root / file).read_bytes())
    except ElementTree.ParseError:
        findings.add('label files are no valid xml', 'left out', file)
        return None
    # Pictures get renamed more often than what stands in the file.
    named = root.findtext('filename') or ''
    picture = listing.find_stem(PurePosixPath(file).stem, file)
    picture = picture or (listing.find(named, file) if named else None)
    if picture is None:
        findings.add('label files have no picture', 'left out', file)
        return None
    size = tuple(int(_number(root.findtext(f'size/{key}')) or 0) for key in ('width', 'height'))
    return _Sheet(file, picture, size, tuple(map(_object, root.findall('object'))))


def _object(node: ElementTree.Element) -> _Object:
    corners = [_number(node.findtext(f'bndbox/{key}')) for key in ('xmin', 'ymin', 'xmax', 'ymax')]
    polygons = []
    for polygon in node.findall('polygon'):
        numbers = [_number(value.text) for value in polygon.iter() if value is not polygon]
        polygons.append(tuple(number for number in numbers if number is not None))
    return _Object(
        (node.findtext('name') or '').strip() or 'unnamed',
        None if None in corners else tuple(corners),
        tuple(polygons),
        (node.findtext('difficult') or '0').strip() == '1',
    )


def _number(text: str | None) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def _first_pixel(sheets: list[_Sheet]) -> int:
    """Return from where coordinates count: 1 in VOC itself, 0 in what many tools write.

    VOC names the first and the last pixel of a box, from 1. A 0, or part of a pixel, anywhere
    means that the edges themselves are given, from 0.
    """
    values = [value for sheet in sheets for thing in sheet.objects for value in thing.corners or ()]
    return int(all(value >= 1 and value.is_integer() for value in values))


def _instance(
    thing: _Object,
    index: dict[str, int],
    start: int,
    head: Head,
    unturned: bool,
    findings: Findings,
    place: str,
) -> Instance | None:
    box = None
    if thing.corners:
        x1, y1, x2, y2 = thing.corners
        x1, x2, y1, y2 = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
        box = (x1 - start, y1 - start, x2 - x1 + start, y2 - y1 + start)
    instance = make_instance(
        index[thing.name],
        head,
        findings,
        place,
        box=box,
        polygons=[[value - start for value in points] for points in thing.polygons],
        unturned=unturned,
    )
    return replace(instance, is_crowd=thing.is_difficult) if instance else None


def _splits(listing: Listing) -> dict[str, str]:
    """Return the split of each stem, by ``ImageSets/Main/{train,val,test}.txt``."""
    found = {}
    for file in listing.ending('.txt'):
        path = PurePosixPath(file)
        if 'ImageSets' not in path.parts or path.stem not in ('train', 'val', 'test'):
            continue
        stems = filter(None, text_lines(listing.root / file))
        found |= dict.fromkeys(map(normal, stems), split_of_name(file))
    return found
