"""A picture of the data set as it lies on disk: images, annotated objects, segmentation masks."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmpoolformer.datasets.shapes.classes import CLASSES, PALETTE, SEG_PALETTE
from mmpoolformer.datasets.shapes.formats import SPLITS

ZOOM = 2  # The images are small; lines and text need room.
GAP, LEGEND = 8, 40  # pixels
PAPER, INK = (255, 255, 255), (40, 40, 40)
FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_preview(root: str | Path, split: str = 'val', columns: int = 6) -> np.ndarray:
    """Draw the first scenes of a split, one per column, above a legend.

    The rows are the image, its boxes and polygons, and its segmentation mask, all read back from
    the files.

    Args:
        root: folder of a data set made by :func:`generate`.
        split: ``'train'`` or ``'val'``.
        columns: number of scenes at most.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        FileNotFoundError: there is no Shapes data set.

    Example:
        >>> draw_preview('data/shapes').shape
        (1056, 1968, 3)
    """
    root = Path(root)
    coco = json.loads((root / f'coco/annotations/instances_{split}.json').read_text())
    scenes = coco['images'][:columns]
    side = ZOOM * max(max(scene['height'], scene['width']) for scene in scenes)
    strips = [
        [_fit(panel, side) for panel in _panels(root, split, scene, coco['annotations'])]
        for scene in scenes
    ]
    grid = np.concatenate([np.concatenate(strip, axis=0) for strip in strips], axis=1)
    return np.concatenate([grid, _legend(grid.shape[1])], axis=0)


def _panels(
    root: Path, split: str, scene: dict[str, Any], annotations: list[dict[str, Any]]
) -> list[np.ndarray]:
    name = scene['file_name']
    image = cv2.imread(str(root / 'coco' / split / name))[..., ::-1]
    image = cv2.resize(image, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_CUBIC)
    mask_path = root / 'ade/annotations' / SPLITS[split] / name
    mask = cv2.imread(str(mask_path), cv2.IMREAD_UNCHANGED)
    mask = np.array(SEG_PALETTE, np.uint8)[mask].repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)
    objects = [item for item in annotations if item['image_id'] == scene['id']]
    return [image, _annotated(image, objects), mask]


def _annotated(image: np.ndarray, objects: list[dict[str, Any]]) -> np.ndarray:
    # The picture steps back to grey so that the colours of the classes stand out.
    grey = image.mean(axis=2, keepdims=True)
    canvas = np.ascontiguousarray((0.55 * grey + 0.45 * 255).repeat(3, axis=2), np.uint8)
    for item in objects:
        colour = PALETTE[item['category_id'] - 1]
        polygons = [_corners(np.reshape(flat, (-1, 2))) for flat in item['segmentation']]
        filled = cv2.fillPoly(canvas.copy(), polygons, colour, cv2.LINE_AA, shift=4)
        canvas = cv2.addWeighted(canvas, 0.4, filled, 0.6, 0)
        cv2.polylines(canvas, polygons, True, colour, 2, cv2.LINE_AA, shift=4)
    for item in objects:
        x, y, width, height = (round(ZOOM * value) for value in item['bbox'])
        cv2.rectangle(canvas, (x, y), (x + width - 1, y + height - 1), INK, 1)
    return canvas


def _corners(polygon: np.ndarray) -> np.ndarray:
    return np.rint((polygon * ZOOM - 0.5) * 16).astype(np.int32)


def _fit(panel: np.ndarray, side: int) -> np.ndarray:
    """Centre a panel on a square of paper, with a gap around it."""
    square = np.full((side + GAP, side + GAP, 3), PAPER, np.uint8)
    height, width = panel.shape[:2]
    top, left = (side + GAP - height) // 2, (side + GAP - width) // 2
    square[top : top + height, left : left + width] = panel
    return square


def _legend(width: int) -> np.ndarray:
    strip = np.full((LEGEND, width, 3), PAPER, np.uint8)
    step = width // len(CLASSES)
    for index, (name, colour) in enumerate(zip(CLASSES, PALETTE, strict=True)):
        left = index * step + GAP
        cv2.rectangle(strip, (left, 10), (left + 20, 30), colour, cv2.FILLED)
        cv2.putText(strip, name, (left + 30, 27), FONT, 0.6, INK, 1, cv2.LINE_AA)
    return strip
