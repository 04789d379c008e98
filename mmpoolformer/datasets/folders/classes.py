"""Reads folders of pictures, one for each class, with or without a folder for each split."""

from __future__ import annotations

from pathlib import PurePosixPath

from mmpoolformer.datasets.folders.description import Findings, Folder, Picture
from mmpoolformer.datasets.folders.pictures import Listing, read_head, split_of_folders

LOOKS_FOR = 'at least two folders of pictures, named after their classes'


def label_files(listing: Listing) -> list[str]:
    """Return the folders that are classes, if there are two or more."""
    folders = {_class_of(name) for name in listing.pictures} - {''}
    return sorted(folders) if len(folders) > 1 else []


def _class_of(name: str) -> str:
    """Return the class that a picture's path names: its first folder that is no split.

    Example:
        >>> _class_of('train/cats/a.jpg'), _class_of('cats/indoors/a.jpg'), _class_of('a.jpg')
        ('cats', 'cats', '')
    """
    parts = PurePosixPath(name).parts
    names = [parts[i] for i in range(len(parts) - 1) if not split_of_folders(f'{parts[i]}/x')]
    # A folder that holds all the data, such as images/, says nothing.
    names = [part for part in names if part.lower() not in ('images', 'data', 'imgs')]
    return names[0] if names else ''


def read(listing: Listing, files: list[str]) -> Folder:
    """Read the folder; the classes are numbered in the order of their names."""
    findings, index = Findings(), {name: label for label, name in enumerate(files)}
    pictures = []
    for name in listing.pictures:
        label = index.get(_class_of(name))
        if label is None:
            findings.add('pictures are in no folder of a class', 'left out', name)
        elif head := read_head(listing.root, name, findings):
            split = split_of_folders(name)
            pictures.append(Picture(name, head.shown, split, labels=frozenset([label])))
    return Folder(listing.root, 'classes', tuple(files), tuple(pictures), findings.all())
