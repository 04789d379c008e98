"""Looks at the disk and never raises: an unreadable path is an absent one. Standard library only.

``pathlib`` alone raises on a forbidden folder and on a name too long for the file system, and takes
'' for the current folder; a path out of a config can be any of these.
"""

from __future__ import annotations

import os
from pathlib import Path


def join(root: str, path: str) -> str:
    """Join as mmengine does: an absolute path stays as it is.

    Example:
        >>> join('data/coco/', 'train2017/'), join('data', '/b')
        ('data/coco/train2017', '/b')
    """
    return str(Path(root) / path)


def is_file(path: str) -> bool:
    """Tell whether ``path`` is a file that can be seen."""
    try:
        return bool(path) and Path(path).is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: str) -> bool:
    """Tell whether ``path`` is a folder that can be seen."""
    try:
        return bool(path) and Path(path).is_dir()
    except (OSError, ValueError):
        return False


def subfolders(folder: str) -> list[str]:
    """Return the sorted names of the folders in ``folder``, hidden ones too."""
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except OSError:
        return []


def files_below(folder: str) -> list[str]:
    """Return all files below ``folder``, relative to it, as mmengine lists them."""
    return [
        str((Path(place) / name).relative_to(folder))
        for place, _, names in os.walk(folder, followlinks=True)
        for name in names
        if not name.startswith('.')
    ]


def lines_of(path: str) -> list[str]:
    """Return the lines of a text file that are not empty, stripped."""
    try:
        text = Path(path).read_text(encoding='utf-8', errors='replace')
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip()]
