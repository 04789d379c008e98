"""Boxes and outlines: cut at the picture's edge, turned as EXIF says, or refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from mmpoolformer.datasets.folders.description import Findings, Instance
from mmpoolformer.datasets.folders.pictures import Head

# mmdet leaves out boxes of a side under a pixel.
_LEAST_SIDE = 1.0
# Decimals kept: label files round, and 1/1000 pixel is none.
_DECIMALS = 3
# From stored pixels (x, y) of a picture (w, h) to shown ones, by EXIF's orientation.
_TURNS: dict[int, Callable] = {
    5: lambda x, y, w, h: (y, x),
    6: lambda x, y, w, h: (h - y, x),
    7: lambda x, y, w, h: (h - y, w - x),
    8: lambda x, y, w, h: (y, w - x),
}
_MASK_TURNS: dict[int, Callable] = {
    5: lambda mask: mask.T,
    6: lambda mask: np.rot90(mask, -1),
    7: lambda mask: np.rot90(mask.T, 2),
    8: lambda mask: np.rot90(mask, 1),
}


def is_unturned(head: Head, labelled: tuple[int, int]) -> bool:
    """Tell whether labels of a picture of this size count its pixels before EXIF turns them."""
    return head.stored != head.shown and labelled == head.stored


def has_other_size(
    head: Head, labelled: tuple[int | None, int | None], findings: Findings, name: str
) -> bool:
    """Tell, and note, that a picture has another size than its labels say, turned or not."""
    if not all(labelled) or labelled == head.shown or is_unturned(head, labelled):
        return False
    what = 'pictures have another size than when they were labelled'
    findings.add(what, 'left out', name)
    return True


def make_instance(
    label: int,
    head: Head,
    findings: Findings,
    place: str,
    *,
    box: Sequence[float] | None = None,
    polygons: Sequence[Sequence[float]] = (),
    rle: Mapping[str, Any] | None = None,
    area: float = 0.0,
    is_crowd: bool = False,
    unturned: bool = False,
) -> Instance | None:
    """Return a checked object; None, and a finding at ``place``, if it cannot be used.

    Args:
        label: Index of its class.
        head: The picture's sizes.
        findings: Where what is odd is noted.
        place: Where it stands, for the findings.
        box: x, y, width, height; by default what its outline covers.
        polygons: Its outlines.
        rle: Its mask in COCO's run-length encoding.
        area: Its pixels; by default those of its outline, else of its box.
        is_crowd: Whether it is neither learnt nor counted.
        unturned: Whether the coordinates are those before EXIF turns the picture.
    """
    outlines = [points for points in polygons if len(points) >= 6 and len(points) % 2 == 0]
    if len(outlines) < len(polygons):
        findings.add('outlines have fewer than three points', 'their boxes are kept', place)
        if box is None:
            box = _around(polygons)
    if box is None and (outlines or rle is not None):
        box = _around(outlines) if outlines else tuple(coco_mask.toBbox(_compressed(rle)))
    if box is None or not all(map(math.isfinite, [*box, *(v for o in outlines for v in o)])):
        findings.add('objects have no coordinates, or some that are no numbers', 'left out', place)
        return None
    if unturned:
        box, outlines, rle = _turn(head, box, outlines, rle)
    inside = _cut(box, head.shown)
    if min(inside[2:]) < _LEAST_SIDE:
        outside = min(box[2:]) >= _LEAST_SIDE
        what = 'boxes lie outside their picture' if outside else 'boxes have no area'
        findings.add(what, 'left out', place)
        return None
    if max(abs(a - b) for a, b in zip(box, inside, strict=True)) > _LEAST_SIDE:
        findings.add('boxes reach over the edge of their picture', 'cut at the edge', place)
    outlines = tuple(_cut_outline(points, head.shown) for points in outlines)
    area = area or sum(map(_area, outlines)) or inside[2] * inside[3]
    return Instance(label, inside, round(area, _DECIMALS), outlines, rle, is_crowd)


def _around(polygons: Sequence[Sequence[float]]) -> tuple[float, float, float, float] | None:
    xs = [x for points in polygons for x in points[0::2]]
    ys = [y for points in polygons for y in points[1::2]]
    if not xs or not ys:
        return None
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _cut(box: Sequence[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    x, y, w, h = box
    left, top = max(x, 0.0), max(y, 0.0)
    right, bottom = min(x + w, size[0]), min(y + h, size[1])
    return tuple(round(float(v), _DECIMALS) for v in (left, top, right - left, bottom - top))


def _cut_outline(points: Sequence[float], size: tuple[int, int]) -> tuple[float, ...]:
    limits = [size[i % 2] for i in range(len(points))]
    pairs = zip(points, limits, strict=True)
    return tuple(round(min(max(float(v), 0.0), limit), _DECIMALS) for v, limit in pairs)


def _area(points: Sequence[float]) -> float:
    xs, ys = np.array(points[0::2]), np.array(points[1::2])
    return float(abs(np.dot(xs, np.roll(ys, -1)) - np.dot(ys, np.roll(xs, -1))) / 2)


def _turn(head: Head, box: Sequence[float], outlines: list, rle: Mapping[str, Any] | None) -> tuple:
    turn = _TURNS[head.orientation]
    x, y, w, h = box
    corners = [turn(*corner, *head.stored) for corner in ((x, y), (x + w, y + h))]
    turned = _around([[value for corner in corners for value in corner]])
    outlines = [
        [v for pair in zip(o[0::2], o[1::2], strict=True) for v in turn(*pair, *head.stored)]
        for o in outlines
    ]
    if rle is not None:
        mask = _MASK_TURNS[head.orientation](coco_mask.decode(_compressed(rle)))
        rle = coco_mask.encode(np.asfortranarray(mask))
        rle['counts'] = rle['counts'].decode()
    return turned, outlines, rle


def _compressed(rle: Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(rle['counts'], list):
        return coco_mask.frPyObjects(dict(rle), *rle['size'])
    return rle
