"""What there is, or was found, in one image, and how it is drawn.

Figures are made without pyplot, which would choose a back-end and keep every figure for the whole
process: a notebook that imports this still shows its own plots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

DPI = 130


@dataclass
class Scene:
    """What there is, or what was found, in one image.

    Args:
        boxes: ``(N, 4)`` corners x1, y1, x2, y2 in pixels.
        labels: ``(N,)`` class indices.
        scores: ``(N,)`` confidences, ``None`` for ground truth.
        masks: ``(N, H, W)`` booleans, ``None`` where there are only boxes.
        label_map: ``(H, W)`` class indices of a segmentation.
        caption: What is written over the image, such as its class.
    """

    boxes: np.ndarray | None = None
    labels: np.ndarray | None = None
    scores: np.ndarray | None = None
    masks: np.ndarray | None = None
    label_map: np.ndarray | None = None
    caption: str = ''


def draw_scene(
    axis: Axes,
    scene: Scene,
    classes: Sequence[str],
    colours: np.ndarray,
    named: bool = False,
) -> None:
    """Draw boxes, masks and labels, or a segmentation, over the image that ``axis`` shows.

    Args:
        axis: Where to draw.
        scene: What to draw.
        classes: Names of the classes; ``'background'`` stays as it is.
        colours: RGB colour of each class, 0 to 1.
        named: Whether boxes carry the names of their classes beside their scores.
    """
    if scene.caption:
        axis.set_title(scene.caption, fontsize=8)
    if scene.label_map is not None:
        overlay = np.zeros((*scene.label_map.shape, 4))
        for label in np.unique(scene.label_map[scene.label_map < len(colours)]):
            alpha = 0.0 if classes[label] == 'background' else 0.75
            overlay[scene.label_map == label] = (*colours[label], alpha)
        axis.imshow(overlay)
        return
    for i, (x1, y1, x2, y2) in enumerate(() if scene.boxes is None else scene.boxes):
        label = scene.labels[i]
        colour = colours[label]
        axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color=colour, lw=1.6))
        if scene.masks is not None:
            axis.imshow(scene.masks[i][..., None] * np.array([*colour, 0.6]))
        if scene.scores is not None:
            score = f'{scene.scores[i]:.2f}'
            text = f'{classes[label]} {score}' if named else score
            _draw_label(axis, (x1, y1, x2), text, colour, fontsize=8 if named else 6)


def _draw_label(
    axis: Axes,
    edge: tuple[float, float, float],
    text: str,
    colour: np.ndarray,
    fontsize: int,
) -> None:
    """Write ``text`` on the upper edge (x1, y1, x2) of a box, inside the image."""
    x1, y1, x2 = edge
    left, right = axis.get_xlim()
    bottom, top = axis.get_ylim()
    far_right = x1 > left + 0.7 * (right - left)
    at_top = y1 < top + 0.06 * (bottom - top)
    red, green, blue = colour
    axis.annotate(
        text,
        (min(x2, right) if far_right else x1, max(y1, top)),
        xytext=(0, -1 if at_top else 1),
        textcoords='offset points',
        ha='right' if far_right else 'left',
        va='top' if at_top else 'bottom',
        fontsize=fontsize,
        color='black' if 0.3 * red + 0.59 * green + 0.11 * blue > 0.6 else 'white',
        bbox=dict(facecolor=colour, edgecolor='none', pad=0.6),
        annotation_clip=True,
    )
