"""Lists the files of a folder, and looks at the heads of its pictures."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from PIL import Image

from mmpoolformer.datasets.folders.description import Findings, FolderError

SUFFIXES = (
    '.jpg',
    '.jpeg',
    '.jpe',
    '.png',
    '.bmp',
    '.webp',
    '.tif',
    '.tiff',
    '.gif',
    '.ppm',
    '.pgm',
    '.jp2',
    '.avif',
    '.heic',
    '.heif',
)
_ORIENTATION = 0x0112  # EXIF's number for it
_QUARTER_TURNS = (5, 6, 7, 8)
# Where a whole file ends. Some cameras write more after it.
_ENDS = {'JPEG': b'\xff\xd9', 'MPO': b'\xff\xd9', 'PNG': b'IEND'}
_SPLIT_WORDS = {
    'train': ('train', 'training', 'trainset'),
    'val': ('val', 'valid', 'validation', 'dev'),
    'test': ('test', 'testing'),
}
_SPLIT_OF_WORD = {word: split for split, words in _SPLIT_WORDS.items() for word in words}


def normal(name: str) -> str:
    """Return a name as it is compared: macOS writes 'é' as two characters, others as one."""
    return unicodedata.normalize('NFC', name.replace('\\', '/'))


def text_lines(path: Path) -> list[str]:
    """Return the lines of a text, stripped; a mark at its beginning belongs to none of them."""
    text = path.read_bytes().decode('utf-8-sig', 'replace')
    return [line.strip() for line in text.splitlines()]


def split_of_folders(name: str) -> str:
    """Return the split that the folders of a path name, the innermost first, or ''.

    Example:
        >>> split_of_folders('images/train2017/a.jpg'), split_of_folders('train.jpg')
        ('train', '')
    """
    for part in reversed(PurePosixPath(name).parts[:-1]):
        word = re.sub(r'[-_. ]?\d*$', '', part.lower())
        if word in _SPLIT_OF_WORD:
            return _SPLIT_OF_WORD[word]
    return ''


def split_of_name(name: str) -> str:
    """Return the split that a file's name or else its folders name, or ''.

    Example:
        >>> split_of_name('annotations/instances_val2017.json')
        'val'
    """
    for word in re.findall('[a-z]+', PurePosixPath(name).stem.lower()):
        if word in _SPLIT_OF_WORD:
            return _SPLIT_OF_WORD[word]
    return split_of_folders(name)


@dataclass(frozen=True)
class Listing:
    """All files below a folder, links followed, hidden ones left out.

    Args:
        root: The folder.
        files: Their paths from it, with '/', sorted.
    """

    root: Path
    files: tuple[str, ...]

    @classmethod
    def of(cls, root: Path) -> Listing:
        """Walk the folder once.

        Raises:
            FolderError: If it cannot be read.
        """

        def fail(error: OSError) -> None:
            raise FolderError(f'{error.filename} cannot be read: {error.strerror}.')

        files, seen = [], set()
        for place, folders, names in os.walk(root, followlinks=True, onerror=fail):
            real = os.path.realpath(place)
            if real in seen:  # A link to a folder above it would never end.
                folders.clear()
                continue
            seen.add(real)
            folders[:] = [f for f in folders if not f.startswith('.') and f != '__MACOSX']
            inside = Path(place).relative_to(root).as_posix()
            prefix = '' if inside == '.' else f'{inside}/'
            files += [f'{prefix}{name}' for name in names if not name.startswith('.')]
        return cls(root, tuple(sorted(files)))

    @cached_property
    def pictures(self) -> tuple[str, ...]:
        """The files that are pictures by their names."""
        return tuple(f for f in self.files if PurePosixPath(f).suffix.lower() in SUFFIXES)

    def ending(self, *suffixes: str) -> list[str]:
        """Return the files with one of these suffixes."""
        return [file for file in self.files if file.lower().endswith(suffixes)]

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        index = defaultdict(list)
        for picture in self.pictures:
            index[normal(PurePosixPath(picture).name)].append(picture)
        return index

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        index = defaultdict(list)
        for picture in self.pictures:
            index[normal(PurePosixPath(picture).stem)].append(picture)
        return index

    def find(self, name: str, near: str = '') -> str | None:
        """Return the one picture that a label file means by ``name``, or None.

        Label files count paths from all kinds of places: what counts is the end of the path, then
        the split, then how much of its path a picture shares with the label file, ``near``.
        """
        wanted = normal(name)
        found = self._by_name.get(PurePosixPath(wanted).name, [])
        return _nearest([f for f in found if f'/{normal(f)}'.endswith(f'/{wanted}')] or found, near)

    def find_stem(self, stem: str, near: str = '') -> str | None:
        """Return the one picture called ``stem`` before its suffix, or None."""
        return _nearest(self._by_stem.get(normal(stem), []), near)


def _nearest(found: list[str], near: str) -> str | None:
    if len(found) > 1 and near:
        split = split_of_name(near)
        found = [f for f in found if split_of_folders(f) == split] or found

        def shared(file: str) -> int:
            pairs = zip(PurePosixPath(file).parts, PurePosixPath(near).parts, strict=False)
            return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

        most = max(map(shared, found))
        found = [file for file in found if shared(file) == most]
    return found[0] if len(found) == 1 else None


@dataclass(frozen=True)
class Head:
    """What the first bytes of a picture say.

    Args:
        stored: Width and height of the pixels in the file.
        orientation: How EXIF says they are to be turned, 1 to 8.
    """

    stored: tuple[int, int]
    orientation: int = 1

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height once turned, as OpenCV reads them."""
        return self.stored[::-1] if self.orientation in _QUARTER_TURNS else self.stored


def read_head(root: Path, name: str, findings: Findings) -> Head | None:
    """Return the head of a picture; None, and a finding, if it cannot be used."""
    path = root / name
    try:
        if path.stat().st_size == 0:
            findings.add('pictures are empty files', 'left out', name)
            return None
        with path.open('rb') as file, Image.open(file) as image:
            head = Head(image.size, image.getexif().get(_ORIENTATION, 1))
            kind = image.format
            file.seek(-min(path.stat().st_size, 2048), os.SEEK_END)
            end = file.read()
        if kind in _ENDS:
            # A missing end does not matter to some decoders: the one in use decides.
            whole = _ENDS[kind] in end or _decode(path) is not None
        else:
            whole = (image := _decode(path)) is not None and image.shape[1::-1] == head.shown
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        whole = False
    if not whole:
        findings.add('pictures cannot be decoded', 'left out', name)
        return None
    return head


def _decode(path: Path) -> np.ndarray | None:
    """Return the picture as training reads it, None if it cannot."""
    level = cv2.setLogLevel(0)  # What it would print is said in our own words.
    try:
        return cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    finally:
        cv2.setLogLevel(level)


def same_content(root: Path, names: Iterable[str]) -> dict[str, str]:
    """Return, for each picture that has copies, a mark that its copies share.

    Only files of equal length are read.
    """
    by_length = defaultdict(list)
    for name in names:
        by_length[(root / name).stat().st_size].append(name)
    marks = {}
    for group in by_length.values():
        if len(group) > 1:
            for name in group:
                marks[name] = hashlib.sha256((root / name).read_bytes()).hexdigest()
    shared = defaultdict(list)
    for name, mark in marks.items():
        shared[mark].append(name)
    return {name: mark for mark, group in shared.items() if len(group) > 1 for name in group}
