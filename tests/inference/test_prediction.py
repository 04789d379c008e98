"""What a prediction says, what it becomes, and how it is drawn."""

import doctest
import json
from dataclasses import replace

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from test_isolation import run_without

from mmpoolformer.inference import prediction
from mmpoolformer.inference.prediction import Prediction

NAMES = ['cat', 'dog', 'crane']
PALETTE = [(255, 0, 0), (0, 0, 255), (0, 200, 0)]


@pytest.fixture
def found():
    """Three objects in a grey image of 40 x 60 pixels, the most certain first."""
    boxes = np.array([[10, 14, 30, 36], [1, 20, 8, 30], [20, 16, 50, 30]], np.float32)
    masks = np.zeros((3, 40, 60), bool)
    masks[0, 20:30, 12:20] = True
    masks[2, 20:26, 34:44] = True
    return Prediction(
        classes=NAMES,
        size=(40, 60),
        boxes=boxes,
        scores=np.array([0.9, 0.5, 0.2], np.float32),
        labels=np.array([1, 0, 2]),
        masks=masks,
        palette=PALETTE,
        image=np.full((40, 60, 3), 128, np.uint8),
    )


def test_examples_show_what_is_returned():
    pytest.importorskip('supervision')
    tried = doctest.testmod(prediction, extraglobs={'np': np})
    assert tried.attempted >= 10
    assert not tried.failed


@pytest.mark.smoke
def test_it_needs_neither_torch_nor_openmmlab(tmp_path):
    """The file alone: importing the package brings torch."""
    code = f"""
import importlib.util
import numpy as np
spec = importlib.util.spec_from_file_location('prediction', {prediction.__file__!r})
module = importlib.util.module_from_spec(spec)
sys.modules['prediction'] = module
spec.loader.exec_module(module)
boxes = np.array([[1.0, 2.0, 11.0, 22.0]])
found = module.Prediction(['cat'], (40, 60), boxes, np.array([0.5]), np.array([0]))
print(found.to_coco()[0]['bbox'], attempts)
"""
    blocked = {'torch', 'mmengine', 'mmcv', 'mmdet', 'cv2', 'PIL', 'matplotlib', 'pycocotools'}
    result = run_without(blocked, code, tmp_path)
    assert result.stdout.strip() == '[1.0, 2.0, 10.0, 20.0] []', result.stderr


def test_what_is_certain_enough(found):
    certain = found.above(0.5)  # The bound itself is enough.
    assert (len(found), len(certain), certain.names) == (3, 2, ['dog', 'cat'])
    assert certain.masks.shape == (2, 40, 60)
    assert len(found.above(2)) == 0
    truth = replace(found, scores=None)
    assert truth.above(0.5) is truth


def test_nothing_found_is_a_prediction_too():
    nothing = Prediction(
        NAMES, (9, 9), np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), np.zeros((0, 9, 9), bool)
    )
    assert nothing
    assert (len(nothing), nothing.names, nothing.to_coco()) == (0, [], [])
    image = np.full((9, 9, 3), 7, np.uint8)
    assert (nothing.draw(image) == image).all()


def test_coco_results_are_exact(found):
    results = found.to_coco(image_id=42, category_ids=[3, 17, 90])
    assert [r['category_id'] for r in results] == [17, 3, 90]
    assert {r['image_id'] for r in results} == {42}
    read = json.loads(json.dumps(results))
    for i, result in enumerate(read):
        x, y, w, h = result['bbox']
        assert [x, y, x + w, y + h] == found.boxes[i].tolist()
        assert np.float32(result['score']) == found.scores[i]
        assert (coco_mask.decode(result['segmentation']) == found.masks[i]).all()


def test_supervision_gets_everything(found):
    pytest.importorskip('supervision')
    detections = found.to_supervision()
    assert (detections.xyxy == found.boxes).all()
    assert (detections.mask == found.masks).all()
    assert detections.confidence.tolist() == found.scores.tolist()
    assert detections['class_name'].tolist() == ['dog', 'cat', 'crane']


def test_what_is_not_there_is_not_made_up(found):
    segmented = Prediction(NAMES, (40, 60), label_map=np.zeros((40, 60), int))
    with pytest.raises(ValueError, match='boxes with scores: there are none'):
        segmented.to_coco()
    with pytest.raises(ValueError, match='takes boxes'):
        segmented.to_supervision()
    with pytest.raises(ValueError, match='only a classifier'):
        found.top()
    with pytest.raises(ValueError, match='does not hold its image'):
        segmented.draw()
    with pytest.raises(ValueError, match=r'is 60x40, height x width, .* one of 40x60'):
        segmented.draw(np.zeros((60, 40, 3), np.uint8))


def test_boxes_and_masks_are_drawn(found):
    before = found.image.copy()
    picture = found.draw(score_thr=0.4)
    assert (found.image == before).all()
    assert picture.shape == (40, 60, 3)
    assert picture[35, 10].tolist() == [0, 0, 255]  # its edge
    mixed = picture[25, 15].tolist()
    assert mixed[2] > 150 > 100 > mixed[0]  # its mask
    assert picture[25, 8].tolist() == [255, 0, 0]
    assert picture[24, 40].tolist() == [128, 128, 128]  # of too low a score
    assert found.draw(score_thr=0.1)[24, 40].tolist() != [128, 128, 128]
    assert found.draw(scale=3).shape == (120, 180, 3)


def test_ground_truth_has_no_scores(found):
    truth = replace(found, scores=None)
    assert not np.array_equal(truth.draw(), found.draw(score_thr=0))
    assert truth.draw()[24, 40].tolist() != [128, 128, 128]


def test_a_segmentation_is_drawn():
    label_map = np.full((80, 120), 255)
    label_map[:, :60] = 1
    image = np.full((80, 120, 3), 128, np.uint8)
    segmented = Prediction(['background', 'sky'], (80, 120), label_map=label_map, palette=PALETTE)
    picture = segmented.draw(image)
    assert picture[5, 5, 2] > 150 > picture[5, 5, 0]
    assert (picture[:, 70:] == 128).all()  # Of no class: nothing.
    assert (picture[30:50, 20:40] == (0, 0, 255)).all(-1).any(), 'the class is not named'
    label_map[:] = 0
    assert (segmented.draw(image) == 128).all()


def test_a_classification_is_drawn():
    scores = np.array([0.1, 0.2, 0.7])
    sorted_out = Prediction(NAMES, (80, 120), class_scores=scores, palette=PALETTE)
    assert sorted_out.top(2) == [('crane', 0.7), ('dog', 0.2)]
    picture = sorted_out.draw(np.full((80, 120, 3), 128, np.uint8))
    grounds = [tuple(picture[y, 0].tolist()) for y in (0, 15, 30)]
    assert grounds == [PALETTE[2], PALETTE[1], PALETTE[0]]
    assert (picture[50:] == 128).all()


@pytest.mark.parametrize('size', [(1, 1), (3, 900), (900, 3), (100, 100), (1200, 1600)])
def test_letters_fit_the_image(size):
    """Those of 10 pixels and more; lines are one pixel or more."""
    height, width = size
    image = np.full((*size, 3), 128, np.uint8)
    boxes = np.array([[0, 0, width, height]], float)
    found = Prediction(['cat'], size, boxes, np.array([0.5]), np.array([0]), palette=[(255, 0, 0)])
    picture = found.draw(image)
    assert picture.shape == image.shape
    assert (picture[-1, -1] == (255, 0, 0)).all()
    if min(size) >= 100:
        letters = np.flatnonzero((picture > 150).all(-1).any(1))
        assert max(6, 0.02 * height) <= np.ptp(letters) <= max(10, 0.05 * height)
