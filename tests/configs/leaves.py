"""What the tests of configs share: each is read once, built empty once, and trained for a step."""

from copy import deepcopy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData, PixelData
from torch import nn

from mmpoolformer import ARCHS
from mmpoolformer.zoo.complexity import build_on_meta

ROOT = Path(__file__).parents[2]
LEAVES = {
    path.stem: path for path in sorted(ROOT.glob('configs/**/*.py')) if '_base_' not in path.parts
}
# Defaults of mmseg, which its own configs use, too.
WARNINGS_OF_MMSEG = [
    pytest.mark.filterwarnings('ignore:Default ``avg_non_ignore``:UserWarning'),
    pytest.mark.filterwarnings('ignore:`reduce_zero_label` will be deprecated:UserWarning'),
]
# Models with weights for images of 384 px, which have a config of their own.
LARGE = [name for name, arch in ARCHS.items() if 'in1k_384' in arch.weights]


@cache
def read(name: str) -> Config:
    """Return a config that tests may read but not change."""
    return Config.fromfile(LEAVES[name])


def load(name: str) -> Config:
    """Return a config of one's own, without pretrained weights."""
    cfg = deepcopy(read(name))
    cfg.model.backbone.init_cfg = None
    return cfg


def build(cfg: Config) -> nn.Module:
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return MODELS.build(cfg.model)


@cache
def empty(name: str) -> nn.Module:
    """Return a model without its numbers, which take time and memory."""
    return build_on_meta(load(name))


def trained_once(name: str) -> nn.Module:
    """Build a model, and give every parameter the gradient of one step on made-up data."""
    torch.manual_seed(0)
    cfg = load(name)
    batch = batch_for(cfg)
    model = revert_sync_batchnorm(build(cfg))  # As the tools do without several processes.
    model.init_weights()
    model.train()
    losses = model(**model.data_preprocessor(batch, training=True), mode='loss')
    loss, parts = model.parse_losses(losses)
    assert loss.isfinite()
    assert loss > 0
    assert len(parts) > 1 or cfg.model.type == 'ImageClassifier'
    loss.backward()
    trained = {key: p for key, p in model.named_parameters() if p.requires_grad}
    assert [key for key, p in trained.items() if p.grad is None] == []
    # One number tells of all: looking at each entry of M48 takes as long as its forward pass.
    assert nn.utils.get_total_norm([p.grad for p in trained.values()]).isfinite()
    return model


def batch_for(cfg: Config) -> dict:
    """Return a batch as a data loader does, of small images, and make the config ready for it."""
    if cfg.model.type == 'ImageClassifier':
        # Random matrices and spatial FC are made for one size; the others need not wait for it.
        text = cfg.pretty_text
        fixed = any(word in text for word in ('RandomMixing', 'SpatialFC', 'RandFormer'))
        # Enough images that drop path leaves one of them in the last block.
        size, pairs = (224, 1) if fixed else (64, 2)
        return classification_batch(cfg.model.head.num_classes, size, pairs)
    if cfg.model.type == 'EncoderDecoder':
        cfg.model.data_preprocessor.size = (64, 64)  # The paper's 512 would take seconds.
        return segmentation_batch(cfg.model.decode_head.num_classes, 64)
    if cfg.model.type == 'MaskRCNN':
        # COCO's 512 boxes for each image would take most of the time.
        cfg.model.train_cfg.rpn_proposal.update(nms_pre=100, max_per_img=50)
        cfg.model.train_cfg.rcnn.sampler.num = 16
        return detection_batch(cfg.model.roi_head.mask_head.num_classes, with_masks=True)
    return detection_batch(cfg.model.bbox_head.num_classes, with_masks=False)


def detection_batch(num_classes: int, with_masks: bool) -> dict:
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    rng = np.random.default_rng(0)
    inputs, samples = [], []
    for boxes in ([[8, 8, 40, 48], [30, 20, 90, 60]], [[0, 0, 64, 64]]):
        sample = DetDataSample(metainfo={'img_shape': (64, 96), 'ori_shape': (64, 96)})
        sample.set_metainfo({'scale_factor': (1.0, 1.0), 'img_id': len(samples)})
        labels = torch.from_numpy(rng.integers(num_classes, size=len(boxes)))
        truth = InstanceData(bboxes=torch.tensor(boxes, dtype=torch.float32), labels=labels)
        if with_masks:
            masks = np.zeros((len(boxes), 64, 96), dtype=np.uint8)
            for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
                mask[y1:y2, x1:x2] = 1
            truth.masks = BitmapMasks(masks, 64, 96)
        sample.gt_instances = truth
        samples.append(sample)
        inputs.append(torch.from_numpy(rng.integers(256, size=(3, 64, 96), dtype=np.uint8)))
    return {'inputs': inputs, 'data_samples': samples}


def segmentation_batch(num_classes: int, size: int) -> dict:
    from mmseg.structures import SegDataSample

    rng = np.random.default_rng(0)
    inputs, samples = [], []
    for _ in range(2):
        sample = SegDataSample(metainfo={'img_shape': (size, size), 'ori_shape': (size, size)})
        labels = torch.from_numpy(rng.integers(num_classes, size=(1, size, size)))
        labels[:, :8] = 255  # void
        sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
        inputs.append(torch.from_numpy(rng.integers(256, size=(3, size, size), dtype=np.uint8)))
    return {'inputs': inputs, 'data_samples': samples}


def classification_batch(num_classes: int, size: int, pairs: int) -> dict:
    from mmpretrain.structures import DataSample

    rng = np.random.default_rng(0)
    labels = [0, num_classes - 1] * pairs
    inputs = [
        torch.from_numpy(rng.integers(256, size=(3, size, size), dtype=np.uint8)) for _ in labels
    ]
    samples = [DataSample().set_gt_label(label) for label in labels]
    return {'inputs': inputs, 'data_samples': samples}
