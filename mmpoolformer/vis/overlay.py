"""What was found in an image, painted onto it in its own resolution."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

# Shares of an image's shorter side: what reads well on a screen that shows all of the image.
_TEXT, _LINE = 1 / 28, 1 / 240
# Smaller letters cannot be read, however small the image.
_SMALLEST_TEXT = 10  # pixels
_OPACITY = 0.45
# Smaller regions of a segmentation carry no name: it would hide them.
_SMALLEST_REGION = 0.002  # of the image


def distinct_colours(count: int) -> list[Colour]:
    """Return RGB colours, 0 to 255, around the colour circle.

    Example:
        >>> distinct_colours(3)
        [(242, 48, 48), (48, 242, 48), (48, 48, 242)]
    """
    circle = (colorsys.hsv_to_rgb(i / count, 0.8, 0.95) for i in range(count))
    return [tuple(round(255 * c) for c in colour) for colour in circle]


def paint_objects(
    image: np.ndarray,
    boxes: np.ndarray,
    texts: Sequence[str],
    colours: Sequence[Colour],
    masks: np.ndarray | None = None,
) -> np.ndarray:
    """Return the image with boxes, what to write on each, and masks; the first lie on top.

    Args:
        image: RGB, ``(H, W, 3)``, 0 to 255; it stays as it is.
        boxes: ``(N, 4)`` corners x1, y1, x2, y2 in pixels.
        texts: N texts; an empty one leaves a box without.
        colours: RGB colour of each box, 0 to 255.
        masks: ``(N, H, W)`` booleans.
    """
    order = range(len(boxes))[::-1]
    if masks is not None:
        image = image.copy()
        for i in order:
            _tint(image, masks[i], colours[i])
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    width = max(1, round(min(picture.size) * _LINE))
    for i in order:
        x1, y1, x2, y2 = (float(edge) for edge in boxes[i])
        # Lines grow inwards, so that they stay visible on the image's edge.
        corners = (
            x1,
            y1,
            max(x1, min(x2, picture.width - 1)),
            max(y1, min(y2, picture.height - 1)),
        )
        draw.rectangle(corners, outline=colours[i], width=width)
    for i in order:
        if texts[i]:
            _write(draw, texts[i], colours[i], (float(boxes[i][0]), float(boxes[i][1])))
    return np.asarray(picture)


def paint_label_map(
    image: np.ndarray,
    label_map: np.ndarray,
    names: Sequence[str],
    colours: Sequence[Colour],
) -> np.ndarray:
    """Return the image with each class in its colour, and its name where its region is thickest.

    Args:
        image: RGB, ``(H, W, 3)``, 0 to 255; it stays as it is.
        label_map: ``(H, W)`` indices of classes; higher ones than there are belong to none.
        names: Names of the classes; ``'background'`` stays as it is.
        colours: RGB colour of each class, 0 to 255.
    """
    import cv2

    image = image.copy()
    places = []
    for label in np.unique(label_map[label_map < len(names)]):
        region = label_map == label
        if names[label] == 'background':
            continue
        _tint(image, region, colours[label])
        if region.mean() >= _SMALLEST_REGION:
            framed = np.pad(region.astype(np.uint8), 1)  # The image's edge ends a region, too.
            depth = cv2.distanceTransform(framed, cv2.DIST_L2, 3)[1:-1, 1:-1]
            y, x = np.unravel_index(depth.argmax(), depth.shape)
            places.append((label, (float(x), float(y))))
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    for label, place in places:
        _write(draw, names[label], colours[label], place, centred=True)
    return np.asarray(picture)


def paint_lines(image: np.ndarray, lines: Sequence[str], colours: Sequence[Colour]) -> np.ndarray:
    """Return the image with lines of text in its upper left corner, as many as half of it holds.

    Args:
        image: RGB, ``(H, W, 3)``, 0 to 255; it stays as it is.
        lines: What to write; at least the first line is.
        colours: RGB colour of each line's ground, 0 to 255.
    """
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    bottom = 0.0
    for i, line in enumerate(lines):
        if i and bottom > picture.height / 2:
            break
        bottom = _write(draw, line, colours[i], (0.0, bottom), below=True)
    return np.asarray(picture)


def _tint(image: np.ndarray, region: np.ndarray, colour: Colour) -> None:
    """Mix a colour into a region ``(H, W)`` of the image, in place."""
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    if not len(rows):
        return
    # Most masks cover little of an image.
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    inside = region[part]
    mixed = image[part][inside] * (1 - _OPACITY) + np.array(colour) * _OPACITY
    image[part][inside] = mixed.round().astype(np.uint8)


def _write(
    draw: ImageDraw.ImageDraw,
    text: str,
    colour: Colour,
    place: tuple[float, float],
    centred: bool = False,
    below: bool = False,
) -> float:
    """Write on a ground of a colour, above, below or around a place (x, y), inside the image.

    Returns:
        Where the ground ends, y in pixels.
    """
    width, height = draw.im.size
    font = _font(max(_SMALLEST_TEXT, round(min(width, height) * _TEXT)))
    margin = max(1, round(font.size / 8))
    ascent, descent = font.getmetrics()
    across, down = font.getlength(text) + 2 * margin, ascent + descent
    x, y = place
    if centred:
        x, y = x - across / 2, y - down / 2
    elif not below:
        y -= down
    x, y = round(max(0, min(x, width - across))), round(max(0, min(y, height - down)))
    draw.rectangle((x, y, x + across, y + down - 1), fill=colour)
    red, green, blue = colour
    # Luma of ITU-R BT.601: how bright people see a colour.
    bright = 0.299 * red + 0.587 * green + 0.114 * blue > 140
    draw.text((x + margin, y), text, fill='black' if bright else 'white', font=font)
    return y + down


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Return matplotlib's font, which has the letters of most alphabets, in a size in pixels."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path(), 'fonts/ttf/DejaVuSans.ttf'), size)
