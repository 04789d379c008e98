"""The pictures of a run: that they are written, show what they should, and read real logs."""

import cv2
import numpy as np
import pytest

from mmpoolformer.vis.runs import draw_curves, draw_grid, read_scalars
from mmpoolformer.vis.scene import Scene

CLASSES, PALETTE = ('cat', 'dog'), [(255, 0, 0), (0, 0, 255)]


def colours_of(path) -> set[tuple[int, int, int]]:
    pixels = cv2.imread(str(path))[..., ::-1].reshape(-1, 3)
    return {tuple(int(c) for c in pixel) for pixel in np.unique(pixels, axis=0)}


@pytest.mark.parametrize('masks', [None, np.ones((1, 33, 65), bool)], ids=['boxes', 'masks'])
def test_grid_shows_truth_and_prediction(tmp_path, masks):
    grey = np.full((33, 65, 3), 128, np.uint8)
    boxes = np.array([[5.0, 5, 40, 30]])
    truth = Scene(boxes=boxes, labels=np.array([0]), masks=masks)
    found = Scene(boxes=boxes, labels=np.array([1]), scores=np.array([0.9]), masks=masks)
    nothing = Scene(boxes=np.zeros((0, 4)), labels=np.zeros(0, int), scores=np.zeros(0))
    path = tmp_path / 'grid.png'
    draw_grid(path, [grey, grey], [truth, nothing], [found, nothing], CLASSES, PALETTE)
    assert {(255, 0, 0), (0, 0, 255), (128, 128, 128)} <= colours_of(path)


def test_grid_of_label_maps_leaves_background_and_ignored_pixels_alone(tmp_path):
    white = np.full((32, 32, 3), 255, np.uint8)
    labels = np.zeros((32, 32), np.uint8)
    labels[8:16], labels[20:24] = 1, 255
    path = tmp_path / 'grid.png'
    palette = [(1, 2, 3), (0, 0, 255)]
    scene = Scene(label_map=labels)
    draw_grid(path, [white], [scene], [scene], ('background', 'dog'), palette)
    colours = colours_of(path)
    assert (64, 64, 255) in colours  # three quarters blue over white
    assert (1, 2, 3) not in colours


def test_curves_are_drawn_from_a_log(tmp_path):
    logs = tmp_path / '20260101_000000' / 'vis_data'
    logs.mkdir(parents=True)
    (logs / 'scalars.json').write_text(
        '{"loss": 2.0, "epoch": 1, "iter": 10, "step": 10}\n{"coco/bbox_mAP": 0.5, "step": 1}\n'
    )
    scalars = read_scalars(tmp_path)
    assert [record['step'] for record in scalars] == [10, 1]
    path = tmp_path / 'curves.png'
    draw_curves(path, scalars, {'coco/bbox_mAP': 'box AP'})
    assert cv2.imread(str(path)).shape[1] > 800


def test_a_folder_without_log_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        read_scalars(tmp_path)
