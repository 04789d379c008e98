"""Pictures of single images: that each panel shows what it should, whatever the image's shape."""

import numpy as np
import pytest
from PIL import Image

from mmpoolformer.vis.images import (
    FeatureMap,
    draw_activation,
    draw_features,
    draw_prediction,
    draw_scores,
)
from mmpoolformer.vis.scene import Scene

PALETTE = [(255, 0, 0), (0, 0, 255)]
GREY = (128, 128, 128)


def grey(height, width):
    return np.full((height, width, 3), 128, np.uint8)


def shows(pixels, colour):
    return bool((np.abs(pixels.astype(int) - colour) <= 1).all(axis=-1).any())


def read(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert('RGB'))


def halves(path, axis=1):
    """The left and right half of a picture, or with axis 0 the upper and lower one."""
    return np.array_split(read(path), 2, axis)


@pytest.mark.parametrize('size', [(33, 65), (65, 33), (400, 20), (20, 400), (1, 1), (900, 1600)])
def test_what_is_found_is_drawn_beside_the_image(tmp_path, size):
    height, width = size
    found = Scene(
        boxes=np.array([[0, 0, width / 2, height / 2], [0.8 * width, 0.1, width + 9, height]]),
        labels=np.array([0, 1]),
        scores=np.array([0.5, 0.9]),
    )
    path = tmp_path / 'a.png'
    draw_prediction(path, 'a' * 99, grey(*size), found, ('cat', 'dog'), PALETTE, 0.3)
    original, drawn = halves(path, axis=0 if width > 1.6 * height else 1)
    assert shows(original, GREY)
    assert not any(shows(original, colour) for colour in PALETTE)
    assert all(shows(drawn, colour) for colour in PALETTE)
    assert 300 < max(read(path).shape) < 3000


@pytest.mark.parametrize(('first', 'painted'), [('wall', True), ('background', False)])
def test_only_a_background_stays_unpainted(tmp_path, first, painted):
    labels = np.zeros((32, 32), np.uint8)
    labels[8:16], labels[20:24] = 1, 255
    path, scene = tmp_path / 'a.png', Scene(label_map=labels)
    draw_prediction(path, 'a.png', grey(32, 32), scene, (first, 'dog'), PALETTE, 0.3)
    _, drawn = halves(path)
    assert shows(drawn, (32, 32, 223))  # three quarters blue over grey
    assert shows(drawn, (223, 32, 32)) == painted
    assert shows(drawn, GREY)  # Pixels without a class.


def test_nothing_found(tmp_path):
    nothing = Scene(boxes=np.zeros((0, 4)), labels=np.zeros(0, int), scores=np.zeros(0))
    draw_prediction(tmp_path / 'a.png', 'a', grey(32, 32), nothing, ('cat', 'dog'), PALETTE, 0.3)
    original, drawn = halves(tmp_path / 'a.png')
    assert shows(original, GREY)
    assert shows(drawn, GREY)


def test_heat_has_the_place_of_the_image(tmp_path):
    heat = np.zeros((64, 64), np.float32)
    heat[:16, 48:] = 1
    draw_activation(tmp_path / 'a.png', grey(64, 64), heat, ('a', 'b'))
    _, drawn = halves(tmp_path / 'a.png')
    red = np.argwhere(drawn[..., 0].astype(int) - drawn[..., 2] > 40)
    y, x = red.mean(axis=0) / drawn.shape[:2]
    assert y < 0.35
    assert x > 0.65


def test_scores_of_fewer_than_five_classes(tmp_path):
    scores = np.array([0.7, 0.2, 0.1])
    draw_scores(tmp_path / 'a.png', 'a', grey(32, 32), scores, ('cat', 'dog', 'e' * 90))
    bars = (np.abs(read(tmp_path / 'a.png').astype(int) - (31, 119, 180)) <= 1).all(axis=-1)
    lengths = [bars[row].sum() for row in np.flatnonzero(bars.any(axis=1))]
    assert max(lengths) == pytest.approx(7 * min(lengths), rel=0.1)


def test_features_lie_over_the_image_without_their_padding(tmp_path):
    """Of a map for 64 x 64 pixels only the part over the 32 x 32 of the image is seen."""
    values = np.ones((5, 4, 4), np.float32)
    values[:, :, 2:] = 9
    values[:, 0, 0] = 0
    feature = FeatureMap(stage=2, stride=16, values=values, size=(64, 64))
    draw_features(tmp_path / 'a.png', 'a', grey(32, 32), [feature])
    picture = read(tmp_path / 'a.png')
    assert shows(picture, GREY)
    assert shows(picture, (68, 1, 84))  # the lowest
    assert not shows(picture, (253, 231, 36))  # the highest: padding
