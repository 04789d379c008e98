"""The classes of Shapes: names, palette and outlines.

A class is an outline and a family of colours; size, tilt and shade are drawn at random for each
object. The colour is what lets a model learn the classes from scratch within minutes on a CPU: with
colours at random, RetinaNet found the objects in four minutes on two cores, but not their classes.
"""

import numpy as np


def _regular(corners: int) -> np.ndarray:
    # The image's y axis points down: a polygon with an odd number of corners stands on a side.
    first = -np.pi / 2 if corners % 2 else np.pi / corners
    angles = first + np.arange(corners) * 2 * np.pi / corners
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _star(points: int = 5, inner_radius: float = 0.45) -> np.ndarray:
    outer, inner = _regular(points), -inner_radius * np.roll(_regular(points), points // 2, axis=0)
    return np.stack([outer, inner], axis=1).reshape(-1, 2)


def _cross(half_width: float = 0.3) -> np.ndarray:
    a, b = half_width, np.sqrt(1 - half_width**2)
    arm = np.array([[b, -a], [b, a], [a, a]])
    quarter_turn = np.array([[0, 1], [-1, 0]])
    return np.concatenate([arm @ np.linalg.matrix_power(quarter_turn, k) for k in range(4)])


def _heart(corners: int = 96) -> np.ndarray:
    t = np.arange(corners) * 2 * np.pi / corners
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    outline = np.stack([x, y - (y.min() + y.max()) / 2], axis=1)
    return outline / np.linalg.norm(outline, axis=1).max()


# Each outline is (N, 2), x and y, counted from the centre, with a circumscribed radius of 1. The
# order is alphabetical because that is how folder-per-class data sets number their classes.
OUTLINES: dict[str, np.ndarray] = {
    'circle': _regular(96),
    'cross': _cross(),
    'heart': _heart(),
    'square': _regular(4),
    'star': _star(),
    'triangle': _regular(3),
}

# Places on the colour circle, 0..1, far enough apart to stay so when painting varies them by 0.05.
HUES: dict[str, float] = {
    'circle': 0.58,
    'cross': 0.76,
    'heart': 0.94,
    'square': 0.07,
    'star': 0.19,
    'triangle': 0.40,
}

CLASSES: tuple[str, ...] = tuple(OUTLINES)
"""Class names; the COCO category id is the position plus 1."""

PALETTE: tuple[tuple[int, int, int], ...] = (
    (64, 156, 255),
    (175, 110, 255),
    (255, 85, 120),
    (255, 170, 40),
    (250, 225, 70),
    (60, 200, 120),
)
"""One RGB colour per class, for drawing predictions."""

SEG_CLASSES: tuple[str, ...] = ('background', *CLASSES)
"""Names of the values in a segmentation mask: 0 is the background."""

SEG_PALETTE: tuple[tuple[int, int, int], ...] = ((38, 42, 52), *PALETTE)
"""One RGB colour per entry of :data:`SEG_CLASSES`."""
