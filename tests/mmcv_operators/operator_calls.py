"""The calls whose results are compared: the same inputs for mmcv's compiled operators and ours."""

import itertools

import numpy as np
import torch
from mmcv.ops import RoIAlign, nms, soft_nms
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from processes import ROOT


def boxes_and_scores(kind: str, number: int = 120) -> tuple[torch.Tensor, torch.Tensor]:
    """Return boxes that overlap, ``(N, 4)``, and scores, ``(N,)``."""
    random = np.random.default_rng(number)
    corners = random.uniform(0, 40, (number, 2))
    sizes = random.uniform(5, 40, (number, 2))
    scores = random.uniform(0.05, 1, number)
    if kind == 'ties':
        # Whole numbers and few scores: overlaps that equal a threshold, and equal scores.
        corners, sizes = corners.round(-1), sizes.round(-1)
        scores = scores.round(1)
    if kind == 'flat':
        sizes[::3, 0] = 0
    boxes = np.concatenate([corners, corners + sizes], axis=1)
    return torch.tensor(boxes, dtype=torch.float32), torch.tensor(scores, dtype=torch.float32)


def nms_calls():
    """Yield names and results ``(indices,)`` of hard NMS."""
    for kind, threshold, offset in itertools.product(
        ('random', 'ties', 'flat'), (0.3, 0.5, 0.6, 0.7), (0, 1)
    ):
        _, indices = nms(*boxes_and_scores(kind), threshold, offset=offset)
        yield f'nms {kind} {threshold} {offset}', (indices,)
    for number in (0, 1):
        _, indices = nms(*boxes_and_scores('random', number), 0.5)
        yield f'nms of {number}', (indices,)


def softnms_calls():
    """Yield names and results ``(boxes with scores, indices)`` of soft NMS."""
    for kind, method, offset in itertools.product(
        ('random', 'ties', 'flat'), ('naive', 'linear', 'gaussian'), (0, 1)
    ):
        if (kind, method) == ('flat', 'gaussian'):
            continue  # mmcv divides zero by zero there, and its scores become NaN.
        found = soft_nms(*boxes_and_scores(kind), 0.3, method=method, offset=offset, min_score=0.05)
        yield f'softnms {kind} {method} {offset}', found
    yield 'softnms of 0', soft_nms(*boxes_and_scores('random', 0))


def regions() -> tuple[torch.Tensor, torch.Tensor]:
    """Return maps ``(2, 2, 13, 17)`` and regions ``(9, 5)``, some of them over the edge."""
    random = np.random.default_rng(0)
    maps = random.standard_normal((2, 2, 13, 17))
    corners = random.uniform(-20, 50, (9, 2))
    sizes = random.uniform(0.1, 60, (9, 2))
    image = random.integers(0, 2, (9, 1))
    rois = np.concatenate([image, corners, corners + sizes], axis=1)
    return torch.tensor(maps, dtype=torch.float32), torch.tensor(rois, dtype=torch.float32)


ROI_SETTINGS = tuple(itertools.product((True, False), (0, 2), (1 / 4, 0.3)))


def roi_align_calls():
    """Yield names and results ``(pooled, gradient)`` of RoIAlign."""
    for aligned, ratio, scale in ROI_SETTINGS:
        maps, rois = regions()
        pooled = RoIAlign((3, 5), scale, ratio, 'avg', aligned)(maps.requires_grad_(), rois)
        weights = torch.linspace(-1, 1, pooled.numel()).reshape(pooled.shape)
        (gradient,) = torch.autograd.grad(pooled, maps, weights)
        yield f'roi_align {aligned} {ratio} {scale}', (pooled.detach(), gradient)
    maps, rois = regions()
    yield 'roi_align of 0', (RoIAlign((3, 5), 1.0)(maps, rois[:0]),)


def mask_rcnn_calls():
    """Yield what a Mask R-CNN of random weights finds: ``(boxes, scores, labels, masks)``."""
    init_default_scope('mmdet')
    cfg = Config.fromfile(ROOT / 'configs/detection/mask_rcnn_poolformer_s12_shapes.py').model
    cfg.backbone.arch = dict(depths=(1, 1, 1, 1), dims=(16, 24, 32, 48))
    cfg.neck.in_channels = [16, 24, 32, 48]
    cfg.test_cfg.rcnn.score_thr = 0.0
    cfg.test_cfg.rcnn.max_per_img = 20
    torch.manual_seed(0)
    model = MODELS.build(cfg).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # Far from uniform, so that nothing is a close call.
            if parameter.ndim > 1:
                parameter.mul_(4 if parameter.shape[0] < 100 else 1.5)
    image = torch.rand(1, 3, 96, 128).mul(255)
    sample = DetDataSample(
        metainfo=dict(
            img_shape=(96, 128), ori_shape=(96, 128), scale_factor=(1.0, 1.0), pad_shape=(96, 128)
        )
    )
    data = model.data_preprocessor(dict(inputs=[image[0]], data_samples=[sample]))
    with torch.no_grad():
        (found,) = model.predict(data['inputs'], data['data_samples'])
    found = found.pred_instances
    yield 'mask_rcnn', (found.bboxes, found.scores, found.labels, found.masks)


def all_calls():
    """Yield all names and results."""
    for calls in (nms_calls, softnms_calls, roi_align_calls, mask_rcnn_calls):
        yield from calls()
