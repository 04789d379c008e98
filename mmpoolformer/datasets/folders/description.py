"""What lies in a folder of pictures and labels, whatever the format it was labelled in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SPLITS = ('train', 'val', 'test')


class FolderError(ValueError):
    """A folder that cannot be learnt from; the message says why, and what to do."""


@dataclass(frozen=True)
class Instance:
    """One labelled object, in pixels of the picture as it is shown (after EXIF rotation).

    Args:
        label: Index into the classes.
        box: x, y, width, height; inside the picture.
        area: Pixels that the object covers.
        polygons: Outlines of its parts, each x1, y1, x2, y2, ...; empty for a mere box.
        rle: COCO's run-length encoding, where there is one instead of polygons.
        is_crowd: Neither learnt nor counted: COCO's crowds, VOC's difficult objects.
    """

    label: int
    box: tuple[float, float, float, float]
    area: float
    polygons: tuple[tuple[float, ...], ...] = ()
    rle: Mapping[str, Any] | None = field(default=None, hash=False)
    is_crowd: bool = False

    @property
    def has_mask(self) -> bool:
        """Whether more is known of it than its box."""
        return bool(self.polygons) or self.rle is not None


@dataclass(frozen=True)
class Picture:
    """One picture and what was labelled in it.

    Args:
        name: Its path from the folder, with '/', or its full path if it lies elsewhere.
        size: Width and height in pixels as it is shown.
        split: 'train', 'val', 'test', or '' if the folder does not say.
        instances: The labelled objects.
        labels: Indices of the classes that occur in it.
        mask: Path of its label map, from the folder.
    """

    name: str
    size: tuple[int, int]
    split: str = ''
    instances: tuple[Instance, ...] = ()
    labels: frozenset[int] = frozenset()
    mask: str = ''


@dataclass(frozen=True)
class Finding:
    """Something odd in a folder, and what is done about it.

    Args:
        what: What was found, in the plural.
        done: What is done about it.
        count: How often it was found.
        examples: Where, the first three.
    """

    what: str
    done: str
    count: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        return f'{self.count:,} {self.what}: {self.done} (e.g. {", ".join(self.examples)})'


class Findings:
    """Collects what is odd while a folder is read."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, str], list[str]] = {}
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, what: str, done: str, place: str) -> None:
        """Note one oddity at ``place``; those of the same words are counted together."""
        self._counts[what, done] += 1
        places = self._places.setdefault((what, done), [])
        if len(places) < 3:
            places.append(place)

    def all(self) -> tuple[Finding, ...]:
        """Return what was collected, in the order of its first occurrence."""
        return tuple(
            Finding(what, done, self._counts[what, done], tuple(places))
            for (what, done), places in self._places.items()
        )


@dataclass(frozen=True)
class Folder:
    """A folder of pictures and labels.

    Args:
        root: The folder.
        format: 'coco', 'yolo', 'voc', 'masks' or 'classes'.
        classes: Names of the classes.
        pictures: All pictures that can be used, in the order of the label files.
        findings: What was odd in it.
        mask_values: For 'masks': the label of each value of a mask, or of each RGB colour.
    """

    root: Path
    format: str
    classes: tuple[str, ...]
    pictures: tuple[Picture, ...]
    findings: tuple[Finding, ...] = ()
    mask_values: Mapping[Any, int] = field(default_factory=dict, hash=False)

    @property
    def kind(self) -> str:
        """What the labels are: 'boxes', 'polygons', 'masks' or 'classes'.

        Where most objects have an outline it is 'polygons'.
        """
        if self.format in ('masks', 'classes'):
            return self.format
        outlined = Counter(i.has_mask for p in self.pictures for i in p.instances if not i.is_crowd)
        return 'polygons' if outlined[True] > outlined[False] else 'boxes'

    def of(self, split: str) -> tuple[Picture, ...]:
        """Return the pictures of a split."""
        return tuple(picture for picture in self.pictures if picture.split == split)

    def objects(self, pictures: Iterable[Picture]) -> list[int]:
        """Count the objects of each class; of label maps and class folders, the pictures."""
        counts = [0] * len(self.classes)
        for picture in pictures:
            if picture.instances:
                for instance in picture.instances:
                    counts[instance.label] += not instance.is_crowd
            else:
                for label in picture.labels:
                    counts[label] += 1
        return counts
