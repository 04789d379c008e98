"""Reads COCO json: COCO's own, and what Roboflow, CVAT, Label Studio and others call COCO."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmpoolformer.datasets.folders.description import (
    Findings,
    Folder,
    FolderError,
    Instance,
    Picture,
)
from mmpoolformer.datasets.folders.geometry import has_other_size, is_unturned, make_instance
from mmpoolformer.datasets.folders.pictures import Head, Listing, read_head, split_of_name

LOOKS_FOR = 'a .json file with the lists `images`, `annotations` and `categories`'
_KEYS = (b'"images"', b'"annotations"', b'"categories"')
_PROBE = 2**16  # Bytes at either end of a file, in which the three lists begin or are named.


def label_files(listing: Listing) -> list[str]:
    """Return the files that are COCO json."""
    return [name for name in listing.ending('.json') if _is_coco(listing.root / name)]


def _is_coco(path: Path) -> bool:
    """Look for the three lists, at both ends first: some of these files have gigabytes."""
    size = path.stat().st_size
    with path.open('rb') as file:
        ends = file.read(_PROBE)
        file.seek(max(0, size - _PROBE))
        ends += file.read()
        found = [key in ends for key in _KEYS]
        if size <= 2 * _PROBE or not any(found) or all(found):
            return all(found)
        file.seek(0)
        text = file.read()
    return all(key in text for key in _KEYS)


def read(listing: Listing, files: list[str]) -> Folder:
    """Read these files, one split each, or several parts of one.

    Raises:
        FolderError: If one is damaged, or two speak of the same pictures.
    """
    findings, contents = Findings(), {name: _load(listing.root / name) for name in files}
    classes = _classes(contents.values(), findings)
    pictures, source = {}, {}
    for name, content in contents.items():
        reader = _Reader(listing, name, content, classes, findings)
        for picture in reader.pictures():
            if picture.name in pictures:
                raise FolderError(
                    f'{source[picture.name]} and {name} both label {picture.name}.\n'
                    f'Name the one to use: {listing.root / name}'
                )
            pictures[picture.name], source[picture.name] = picture, name
    for name in listing.pictures:
        if name not in pictures:
            findings.add('pictures are in no annotation file', 'left out', name)
    ordered = tuple(pictures.values())  # As listed: who reads the file in order finds them so.
    return Folder(listing.root, 'coco', classes, ordered, findings.all())


def _load(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_bytes().decode('utf-8-sig'))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise FolderError(f'{path} is no valid json: {error}. Export it again.') from None
    for key in ('images', 'annotations', 'categories'):
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise FolderError(f'{path} has no list of {key}, so it is no COCO json.')
    return content


def _classes(contents, findings: Findings) -> tuple[str, ...]:
    """Return the names of the categories, by id in each file, those of the first file first."""
    names, used, parents = {}, set(), set()
    for content in contents:
        counted = {entry.get('category_id') for entry in content['annotations']}
        categories = [c for c in content['categories'] if 'id' in c]
        for category in sorted(categories, key=lambda c: c['id']):
            name = _name_of(category)
            names.setdefault(name, None)
            parents.add(str(category.get('supercategory')))
            if category['id'] in counted:
                used.add(name)
    # Roboflow's exports have a category 0 that only gives the others their name.
    empty = [name for name in names if name in parents and name not in used]
    if len(names) > len(empty):
        for name in empty:
            findings.add('categories only group others, and have no objects', 'left out', name)
            del names[name]
    return tuple(names)


def _name_of(category: Mapping[str, Any]) -> str:
    return str(category.get('name', f'class_{category.get("id")}'))


class _Reader:
    """Reads one file.

    Args:
        listing: The folder.
        file: The file's name from there.
        content: What is in it.
        classes: The names of all classes.
        findings: Where what is odd is noted.
    """

    def __init__(
        self,
        listing: Listing,
        file: str,
        content: Mapping[str, Any],
        classes: tuple[str, ...],
        findings: Findings,
    ) -> None:
        self.listing, self.file, self.findings = listing, file, findings
        self.images = content['images']
        index = {name: label for label, name in enumerate(classes)}
        self.labels = {
            category['id']: index[_name_of(category)]
            for category in content['categories']
            if _name_of(category) in index
        }
        self.objects = defaultdict(list)
        known = {image.get('id') for image in self.images}
        for entry in content['annotations']:
            if entry.get('image_id') in known:
                self.objects[entry['image_id']].append(entry)
            else:
                self._note('objects belong to no picture', 'left out', entry)

    def _note(self, what: str, done: str, entry: Mapping[str, Any]) -> None:
        self.findings.add(what, done, f'{self.file}: id {entry.get("id")}')

    def pictures(self):
        """Yield the pictures that can be used."""
        split = split_of_name(self.file)
        for image in self.images:
            named = str(image.get('file_name', ''))
            name = self.listing.find(named, self.file) if named else None
            if name is None:
                self.findings.add('pictures in annotation files are not there', 'left out', named)
                continue
            head = read_head(self.listing.root, name, self.findings)
            if head is None:
                continue
            labelled = (image.get('width'), image.get('height'))
            if has_other_size(head, labelled, self.findings, name):
                continue
            unturned = is_unturned(head, labelled)
            entries = self.objects[image.get('id')]
            read = [self._instance(entry, head, unturned) for entry in entries]
            instances = tuple(instance for instance in read if instance)
            labels = frozenset(instance.label for instance in instances)
            yield Picture(name, head.shown, split, instances, labels)

    def _instance(self, entry: Mapping[str, Any], head: Head, unturned: bool) -> Instance | None:
        if entry.get('category_id') not in self.labels:
            self._note('objects have a category that is not listed', 'left out', entry)
            return None
        box, outline = entry.get('bbox'), entry.get('segmentation')
        is_rle = isinstance(outline, dict) and {'counts', 'size'} <= outline.keys()
        polygons = outline if isinstance(outline, list) else []
        try:
            return make_instance(
                self.labels[entry['category_id']],
                head,
                self.findings,
                f'{self.file}: id {entry.get("id")}',
                box=box if isinstance(box, list) and len(box) == 4 else None,
                polygons=[points for points in polygons if isinstance(points, list)],
                rle=outline if is_rle else None,
                area=float(entry.get('area') or 0),
                is_crowd=bool(entry.get('iscrowd', 0)),
                unturned=unturned,
            )
        except (TypeError, ValueError, ZeroDivisionError):
            self._note('objects cannot be read', 'left out', entry)
            return None
