"""A trained model on image files: what is read, what is found, and where a class is seen."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from patches import CORNERS, patch_in, save_model, save_patch_classifier
from PIL import Image

from mmpoolformer.inference.trained_model import (
    CAM_METHODS,
    ImageError,
    ModelError,
    TrainedModel,
)
from mmpoolformer.vis.overlay import distinct_colours


@pytest.fixture
def classifier(tiny, tmp_path):
    """Build a classifier that looks for a patch in a corner, and load an image with it."""

    def build(corner='top left', meta=None):
        cfg = Config.fromfile(tiny('classification'))
        trained = save_patch_classifier(cfg, tmp_path / 'cls.pth', corner, meta)
        return trained, trained.load(tmp_path / 'cls.png')

    return build


@pytest.mark.parametrize('corner', CORNERS)
def test_activation_peaks_where_the_evidence_is(classifier, corner):
    trained, sample = classifier(corner)
    assert trained.scores(sample).argmax() == 1
    heat = trained.activation_map(sample, 1)
    assert heat.shape == (128, 128)
    assert (heat.min(), heat.max()) == (0, pytest.approx(1, abs=1e-3))
    peak = np.unravel_index(heat.argmax(), heat.shape)
    assert tuple(int(i >= 64) for i in peak) == CORNERS[corner]
    # Evidence against a class is none for it.
    against = trained.activation_map(sample, 2)
    assert against[peak] < 0.2


@pytest.mark.parametrize('method', CAM_METHODS)
def test_every_method_sees_it(classifier, method):
    trained, sample = classifier('bottom right')
    heat = trained.activation_map(sample, 1, method)
    assert heat[64:, 64:].mean() > 1.5 * heat.mean() > 0


def test_activation_needs_no_trainable_parameter(classifier):
    trained, sample = classifier()
    expected = trained.activation_map(sample, 1)
    trained.model.requires_grad_(False)
    assert np.array_equal(trained.activation_map(sample, 1), expected)


def test_activation_of_another_backbone_is_refused(classifier):
    trained, sample = classifier()
    trained.model.backbone = torch.nn.Identity()
    with pytest.raises(ModelError, match='Identity is no backbone of mmpoolformer'):
        trained.activation_map(sample, 1)


def test_stage_fits_the_size(classifier, tmp_path):
    trained, _ = classifier()
    found = {}
    for side in (28, 33, 64, 127, 128, 224):
        Image.new('RGB', (side, 300)).save(tmp_path / 'a.png')
        found[side] = trained.last_useful_stage(trained.load(tmp_path / 'a.png'))
    assert found == {28: 1, 33: 1, 64: 2, 127: 2, 128: 3, 224: 3}


def test_names_come_from_the_checkpoint_else_from_the_config(classifier, tiny, tmp_path):
    names = ['a', 'b', 'c', 'd', 'e', 'f']
    assert classifier(meta=dict(dataset_meta=dict(classes=names)))[0].classes == names
    assert classifier()[0].classes == [f'class {i}' for i in range(6)]

    cfg = Config.fromfile(tiny())
    trained = TrainedModel(cfg, save_model(cfg, tmp_path / 'det.pth'))
    metainfo = cfg.test_dataloader.dataset.metainfo
    assert trained.classes == list(metainfo.classes)
    assert trained.palette == list(metainfo.palette)
    del cfg.test_dataloader.dataset.metainfo  # The class's own: COCO.
    trained = TrainedModel(cfg, tmp_path / 'det.pth')
    assert trained.classes[:2] == ['person', 'bicycle']
    other = dict(dataset_meta=dict(classes=names * 20))  # More than COCO's palette has.
    trained = TrainedModel(cfg, save_model(cfg, tmp_path / 'det.pth', other))
    assert trained.palette == distinct_colours(120)


@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'L', 'LA', '1', 'P', 'I;16'])
def test_images_of_all_kinds_and_odd_sizes_are_read(classifier, tmp_path, mode):
    trained, _ = classifier()
    Image.new('RGB', (65, 33), (90, 90, 90)).convert(mode[0] if ';' in mode else mode).convert(
        mode
    ).save(tmp_path / 'odd.png')
    sample = trained.load(tmp_path / 'odd.png')
    assert sample.image.shape == sample.seen.shape == (33, 65, 3)
    assert trained.scores(sample).sum() == pytest.approx(1)
    assert trained.activation_map(sample, 0, stage=1).shape == (33, 65)


def test_colours_are_not_swapped(classifier, tmp_path):
    trained, _ = classifier()
    Image.new('RGB', (40, 40), (200, 100, 0)).save(tmp_path / 'orange.png')
    sample = trained.load(tmp_path / 'orange.png')
    for image in (sample.image, sample.seen):
        assert image[5, 5].tolist() == [200, 100, 0]


def test_what_is_no_image_is_refused(classifier, tmp_path):
    trained, _ = classifier()
    (tmp_path / 'text.png').write_text('no image')
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / 'whole.png')
    whole = (tmp_path / 'whole.png').read_bytes()
    (tmp_path / 'cut.png').write_bytes(whole[: len(whole) // 2])
    Image.new('RGB', (2, 90)).save(tmp_path / 'thin.png')
    reasons = {'text': 'no image', 'cut': 'truncated', 'thin': '2x90', 'absent': 'No such file'}
    for name, reason in reasons.items():
        with pytest.raises(ImageError, match=reason):
            trained.load(tmp_path / f'{name}.png')


def test_scene_keeps_what_is_certain_enough(tiny, tmp_path):
    cfg = Config.fromfile(tiny('detection', 'model["test_cfg"] = dict(score_thr=0.0)\n'))
    trained = TrainedModel(cfg, save_model(cfg, tmp_path / 'det.pth'))
    patch_in('top left', (61, 50)).save(tmp_path / 'image.png')
    sample = trained.load(tmp_path / 'image.png')
    everything = trained.scene(sample, score_thr=0)
    threshold = float(np.median(everything.scores))
    certain = trained.scene(sample, threshold)
    assert 0 < len(certain.boxes) < len(everything.boxes)
    assert certain.scores.min() >= threshold
    assert (np.diff(certain.scores) >= 0).all()
    assert len(certain.labels) == len(certain.scores) == len(certain.boxes)
    # In pixels of the file, not of the padded input.
    assert (everything.boxes[:, 2].max(), everything.boxes[:, 3].max()) <= (50, 61)


def test_features_are_named_by_stage(tiny, tmp_path):
    cfg = Config.fromfile(tiny())
    trained = TrainedModel(cfg, save_model(cfg, tmp_path / 'det.pth'))
    patch_in('top left', (61, 50)).save(tmp_path / 'image.png')
    features = trained.features(trained.load(tmp_path / 'image.png'))
    assert [(f.stage, f.stride, f.values.shape) for f in features] == [
        (1, 8, (24, 8, 8)),
        (2, 16, (32, 4, 4)),
        (3, 32, (48, 2, 2)),
    ]
    assert {f.size for f in features} == {(64, 64)}


def test_a_config_without_pipeline_is_refused(tiny, tmp_path):
    cfg = Config.fromfile(tiny())
    checkpoint = save_model(cfg, tmp_path / 'det.pth')
    del cfg.test_dataloader.dataset.pipeline
    with pytest.raises(ModelError, match='no pipeline'):
        TrainedModel(cfg, checkpoint)
