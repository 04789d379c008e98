"""Composition of scenes: which shapes, how large, where, and what stays visible of each.

Objects are rasterised on a canvas with ``SUPERSAMPLING`` times the image's resolution. Its owner
map, the index of the front-most object at each fine pixel, is the single source of the visible
masks, the polygons and the segmentation labels, so they agree with each other.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from mmpoolformer.datasets.shapes.classes import CLASSES, HUES, OUTLINES
from mmpoolformer.datasets.shapes.painting import Layer, paint

SUPERSAMPLING = 4
FRACTION_BITS = 4  # cv2 takes corners as integers; this many bits are behind the point.

# An object is kept only where it and everything under it can still be recognised: at least 85 %
# of the whole shape visible, at least about 7 x 7 pixels of it, no splinters and no holes (a COCO
# polygon cannot have one). Otherwise another place is tried, and after some attempts it is left
# out of the *picture*, so that nothing visible lacks an annotation.
MIN_VISIBLE_SHARE = 0.85
MIN_VISIBLE_AREA = 50.0  # pixels
MIN_PIECE_AREA = 8.0  # pixels
ATTEMPTS = 30

EMPTY_EVERY = 20  # One image in so many has nothing in it: detectors must learn to be silent too.
MIN_ASPECT = 0.75  # shortest possible side of an image / `size`
MIN_RADIUS = 7.0  # pixels; below it a star and a circle look alike
# Circumscribed radii as shares of `size`. At 128 px they are 8-13, 15-33 and 56-67 px, so that all
# three of COCO's area ranges (limits 32^2 and 96^2 px) occur.
SMALL, MEDIUM, LARGE = (0.06, 0.1), (0.12, 0.26), (0.44, 0.52)
SMALL_SHARE = 0.3  # of the objects
TILT = np.pi / 12  # An object is turned by up to so much to either side.
LARGE_SHARE = 0.4  # of the scenes; at most one each, or little else would fit
BORDER_SHARE = 0.1  # of the attempts may put an object across the border


@dataclass(frozen=True)
class Instance:
    """The visible part of one object.

    Args:
        label: index into ``CLASSES``.
        mask: (H, W) bool, the pixels that belong to it.
        polygons: (N, 2) float arrays, x and y in pixels from the image's upper left corner.
    """

    label: int
    mask: np.ndarray
    polygons: list[np.ndarray]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Tight box around the polygons, as in COCO: x, y, width, height in pixels."""
        corners = np.concatenate(self.polygons)
        low, high = corners.min(axis=0), corners.max(axis=0)
        return (*low.tolist(), *(high - low).tolist())


@dataclass(frozen=True)
class Scene:
    """An image, (H, W, 3) uint8 RGB, and its objects from back to front."""

    image: np.ndarray
    instances: list[Instance]

    @property
    def labels(self) -> np.ndarray:
        """(H, W) uint8 segmentation labels: 0 background, otherwise class index + 1."""
        labels = np.zeros(self.image.shape[:2], np.uint8)
        for instance in self.instances:
            labels[instance.mask] = instance.label + 1
        return labels


def make_scene(rng: np.random.Generator, size: int, empty: bool = False) -> Scene:
    """Compose a scene of up to six objects; those that find no place are left out.

    Args:
        rng: source of all randomness.
        size: longest possible side in pixels; each side is between 3/4 of it and it.
        empty: leave the background alone.
    """
    height, width = rng.integers(round(MIN_ASPECT * size), size + 1, size=2)
    canvas = _Canvas(int(height), int(width))
    for radius in () if empty else _radii(rng, size):
        label = int(rng.integers(len(CLASSES)))
        for _ in range(ATTEMPTS):
            centre = _centre(rng, height, width, radius)
            if canvas.add(label, radius, centre, angle=rng.uniform(-TILT, TILT)):
                break
    return canvas.scene(rng)


def make_crop(rng: np.random.Generator, label: int, size: int) -> Scene:
    """Compose a square picture of one object of class ``label``, perhaps with parts of others.

    Args:
        rng: source of all randomness.
        label: index into ``CLASSES``.
        size: side in pixels.
    """
    canvas = _Canvas(size, size)
    radius = rng.uniform(0.25, 0.45) * size
    centre = size / 2 + rng.uniform(-0.08, 0.08, size=2) * size
    canvas.add(label, radius, centre, angle=rng.uniform(-TILT, TILT))
    for _ in range(rng.integers(3)):
        bearing = rng.uniform(0, 2 * np.pi)
        away = np.array([np.cos(bearing), np.sin(bearing)]) * 0.6 * size
        neighbour = int(rng.integers(len(CLASSES)))
        canvas.add(
            neighbour,
            rng.uniform(0.15, 0.3) * size,
            size / 2 + away,
            angle=rng.uniform(-TILT, TILT),
        )
    return canvas.scene(rng)


def _radii(rng: np.random.Generator, size: int) -> list[float]:
    """Radii in pixels for one scene, largest first: what is drawn later lies in front."""
    ranges = [SMALL if rng.random() < SMALL_SHARE else MEDIUM for _ in range(rng.integers(2, 7))]
    if rng.random() < LARGE_SHARE:
        ranges[0] = LARGE
    radii = [rng.uniform(low, high) * size for low, high in ranges]
    return sorted((max(radius, MIN_RADIUS) for radius in radii), reverse=True)


def _centre(rng: np.random.Generator, height: int, width: int, radius: float) -> np.ndarray:
    extent = np.array([width, height])
    margin = 0.0 if rng.random() < BORDER_SHARE else np.minimum(radius, extent / 2)
    return rng.uniform(margin, extent - margin)


class _Canvas:
    def __init__(self, height: int, width: int):
        self.height, self.width = height, width
        fine = (height * SUPERSAMPLING, width * SUPERSAMPLING)
        self.owner = np.full(fine, -1, np.int8)
        self.labels: list[int] = []
        self.areas: list[float] = []  # of the whole shapes, in fine pixels
        self.layers: list[Layer] = []

    def add(self, label: int, radius: float, centre: np.ndarray, angle: float) -> bool:
        """Draw an object in front of the others, unless that leaves one unrecognisable."""
        cos, sin = np.cos(angle), np.sin(angle)
        outline = OUTLINES[CLASSES[label]] @ np.array([[cos, sin], [-sin, cos]]) * radius + centre
        # cv2 counts from pixel centres, we from the image's corner: hence the half.
        corners = (outline * SUPERSAMPLING - 0.5) * 2**FRACTION_BITS
        corners = np.rint(corners).astype(np.int32)
        inside = cv2.fillPoly(
            np.zeros(self.owner.shape, np.uint8), [corners], 1, shift=FRACTION_BITS
        )
        new = len(self.labels)
        owner = np.where(inside, np.int8(new), self.owner)
        area = cv2.contourArea(outline.astype(np.float32)) * SUPERSAMPLING**2
        areas = [*self.areas, area]
        touched = {new, *np.unique(self.owner[inside > 0]).tolist()} - {-1}
        if not all(_recognisable(owner == index, areas[index]) for index in touched):
            return False
        self.owner, self.areas = owner, areas
        self.labels.append(label)
        self.layers.append(self._layer(inside, corners, radius, HUES[CLASSES[label]]))
        return True

    def _layer(self, inside: np.ndarray, corners: np.ndarray, radius: float, hue: float) -> Layer:
        # Half of the line lies outside the shape and is cut off.
        thickness = 2 * round(SUPERSAMPLING * max(0.8, 0.06 * radius))
        rim = np.zeros_like(inside)
        cv2.polylines(rim, [corners], True, 1, thickness, shift=FRACTION_BITS)
        return Layer(self._shares(inside), self._shares(rim & inside), radius, hue)

    def _shares(self, fine: np.ndarray) -> np.ndarray:
        """(h * s, w * s) of 0 and 1 to the mean of each s x s tile, (h, w) float32."""
        fine = fine.astype(np.float32)
        return cv2.resize(fine, (self.width, self.height), interpolation=cv2.INTER_AREA)

    def scene(self, rng: np.random.Generator) -> Scene:
        # A pixel goes to whoever owns most of it, the background included.
        shares = [self._shares(self.owner == index) for index in range(-1, len(self.labels))]
        winner = np.argmax(shares, axis=0) - 1
        instances = [
            Instance(label, winner == index, _polygons(self.owner == index))
            for index, label in enumerate(self.labels)
        ]
        return Scene(paint(rng, self.height, self.width, self.layers), instances)


def _recognisable(visible: np.ndarray, whole_area: float) -> bool:
    area = np.count_nonzero(visible)
    if area < max(MIN_VISIBLE_SHARE * whole_area, MIN_VISIBLE_AREA * SUPERSAMPLING**2):
        return False
    contours, hierarchy = _contours(visible)
    has_hole = (hierarchy[0, :, 3] >= 0).any()
    smallest = min(cv2.contourArea(contour) for contour in contours)
    return not has_hole and smallest >= MIN_PIECE_AREA * SUPERSAMPLING**2


def _polygons(visible: np.ndarray) -> list[np.ndarray]:
    # A tolerance of one fine pixel takes out the stairs and moves no edge visibly.
    outlines = (cv2.approxPolyDP(contour, 1.0, closed=True) for contour in _contours(visible)[0])
    return [outline.reshape(-1, 2) / SUPERSAMPLING for outline in outlines]


def _contours(visible: np.ndarray) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Contours along the *edges* of the fine pixels, and cv2's hierarchy of them.

    cv2 runs through the centres of the outermost pixels, which would lose half a pixel all around.
    With every pixel spread to its right and lower neighbours, those centres are the edges.
    """
    spread = np.pad(visible, ((0, 1), (0, 1))).astype(np.uint8)
    spread[1:] |= spread[:-1]
    spread[:, 1:] |= spread[:, :-1]
    return cv2.findContours(spread, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
