"""How a scene looks: muted textured backgrounds, saturated shapes with a rim and a soft shadow.

Everything is painted at the image's own resolution from coverage maps in 0..1, which is what makes
the edges smooth.
"""

import colorsys
from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Layer:
    """What one object covers of the image, before anything is drawn over it.

    Args:
        coverage: (H, W) float32, share of each pixel inside the outline.
        rim: (H, W) float32, share of each pixel inside the darker rim.
        radius: circumscribed radius in pixels.
        hue: its colour's place on the colour circle, 0..1.
    """

    coverage: np.ndarray
    rim: np.ndarray
    radius: float
    hue: float


def paint(rng: np.random.Generator, height: int, width: int, layers: list[Layer]) -> np.ndarray:
    """Paint the layers over a fresh background, the first one at the back.

    Returns:
        (height, width, 3) uint8, RGB.
    """
    image = _background(rng, height, width)
    for layer in layers:
        image *= 1 - 0.2 * _shadow(layer)[..., None]
        fill = _fill(rng, layer.hue, height, width)
        fill *= 1 - 0.45 * layer.rim[..., None]
        image += (fill - image) * layer.coverage[..., None]
    return np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)


def _fill(rng: np.random.Generator, hue: float, height: int, width: int) -> np.ndarray:
    hue += rng.uniform(-0.05, 0.05)
    colour = _rgb(hue, rng.uniform(0.55, 0.9), rng.uniform(0.8, 1.0))
    light = 1 - 0.25 * _gradient(rng, *_grid(rng, height, width))
    return colour * light[..., None]


def _shadow(layer: Layer) -> np.ndarray:
    shift = 0.06 * layer.radius + 0.5
    move = np.float32([[1, 0, shift], [0, 1, shift]])
    height, width = layer.coverage.shape
    moved = cv2.warpAffine(layer.coverage, move, (width, height))
    return cv2.GaussianBlur(moved, (0, 0), 0.08 * layer.radius + 0.7)


def _background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    textures = (_gradient, _clouds, _stripes, _checks, _dots)
    texture = textures[rng.integers(len(textures))]
    u, v = _grid(rng, height, width)
    mix = 0.8 * texture(rng, u, v) + 0.2 * _clouds(rng, u, v)
    hue, saturation, value = rng.random(), rng.uniform(0.08, 0.35), rng.uniform(0.3, 0.9)
    step = rng.uniform(0.06, 0.16) * (-1 if value > 0.6 else 1)
    first = _rgb(hue, saturation, value)
    second = _rgb(hue + rng.uniform(-0.1, 0.1), saturation, value + step)
    return first + (second - first) * mix[..., None]


def _rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value), np.float32)


def _grid(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates u and v, each (height, width), turned by a random angle."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    u = x * np.cos(angle) + y * np.sin(angle)
    v = y * np.cos(angle) - x * np.sin(angle)
    return u.astype(np.float32), v.astype(np.float32)


# The textures: coordinates in pixels to a map in 0..1 of the same shape.


def _gradient(rng: np.random.Generator, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return (u - u.min()) / (u.max() - u.min())


def _clouds(rng: np.random.Generator, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    height, width = u.shape
    noise = np.zeros_like(u)
    for cell, weight in ((40, 0.6), (16, 0.3), (6, 0.1)):  # pixels per noise value
        values = rng.random((height // cell + 3, width // cell + 3), dtype=np.float32)
        noise += weight * cv2.resize(values, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(noise, 0, 1)


def _stripes(rng: np.random.Generator, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * _square_wave(u, rng.uniform(10, 30))


def _checks(rng: np.random.Generator, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    period = rng.uniform(16, 40)
    return 0.5 + 0.5 * _square_wave(u, period) * _square_wave(v, period)


def _dots(rng: np.random.Generator, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    frequency = 2 * np.pi / rng.uniform(10, 24)
    return 0.5 + 0.5 * np.tanh(3 * (np.cos(u * frequency) + np.cos(v * frequency) - 0.9))


def _square_wave(u: np.ndarray, period: float) -> np.ndarray:
    # tanh keeps the flanks a few pixels wide: a hard step would look jagged at an angle.
    return np.tanh(4 * np.sin(u * (2 * np.pi / period)))
