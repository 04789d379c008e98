"""The operators of this package give what mmcv's own give, and a clear message where one lacks."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch
import torchvision
from mmcv.ops import (
    DeformConv2dPack,
    RoIAlign,
    nms,
    sigmoid_focal_loss,
    soft_nms,
)
from mmdet.models.losses.focal_loss import py_sigmoid_focal_loss
from operator_calls import ROI_SETTINGS, all_calls, boxes_and_scores, regions
from processes import ROOT
from torch import nn

from mmpoolformer import mmcv_operators
from mmpoolformer.mmcv_operators import (
    MissingOperatorError,
    are_compiled,
    describe_operators,
    refuse_missing_operators,
)

without_compiled = pytest.mark.skipif(are_compiled(), reason='mmcv has compiled operators')
pytestmark = pytest.mark.smoke


def test_results_are_those_of_the_compiled_operators():
    """Same indices, labels and masks; the same numbers but for the exp of soft NMS."""
    reference = np.load(ROOT / 'tests/mmcv_operators/reference.npz')
    compared = set()
    for name, values in all_calls():
        for i, value in enumerate(values):
            key = f'{name}: {i}'
            found, expected = value.numpy(), reference[key]
            compared.add(key)
            if found.dtype == bool:
                # Masks: a score at the threshold may fall on either side of it.
                differing = np.unpackbits(np.packbits(found) ^ expected).mean()
                assert differing < 1e-4, key
                continue
            tolerance = 1e-6 if name.startswith('softnms') else 0
            if name.startswith('mask_rcnn'):
                tolerance = 0.01  # Pixels: sums of convolutions differ between processors.
            np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=key)
    assert compared == set(reference.files)


@pytest.mark.parametrize('aligned, ratio, scale', ROI_SETTINGS)
def test_roi_align_has_the_right_gradient(aligned, ratio, scale):
    maps, rois = (value.double() for value in regions())
    pool = RoIAlign((2, 3), scale, ratio, 'avg', aligned)
    maps = maps[:, :1, :7, :9].contiguous().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: pool(x, rois), maps)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_low_precision_is_computed_in_float32(dtype):
    boxes, scores = boxes_and_scores('random')
    low, wide = boxes.to(dtype), boxes.to(dtype).float()
    scores = scores.to(dtype)
    assert torch.equal(nms(low, scores, 0.5)[1], nms(wide, scores.float(), 0.5)[1])
    assert torch.equal(soft_nms(low, scores)[1], soft_nms(wide, scores.float())[1])
    maps, rois = (value.to(dtype) for value in regions())
    pool = RoIAlign((3, 5), 0.25)
    wide_maps = maps.float().requires_grad_()
    wide_pooled = pool(wide_maps, rois.float())
    pooled = pool(maps.requires_grad_(), rois)
    assert torch.equal(pooled, wide_pooled.to(dtype))
    wide_pooled.backward(torch.ones_like(wide_pooled))
    pooled.backward(torch.ones_like(pooled))
    assert torch.equal(maps.grad, wide_maps.grad.to(dtype))


def test_soft_nms_of_boxes_without_area_has_finite_scores():
    found, _ = soft_nms(*boxes_and_scores('flat'), method='gaussian')
    assert len(found) > 10
    assert found.isfinite().all()


@without_compiled
@pytest.mark.parametrize('gamma, alpha', [(2.0, 0.25), (1.5, 0.6), (0.0, 0.5)])
def test_focal_loss_is_that_of_torchvision_and_mmdet(gamma, alpha, monkeypatch):
    monkeypatch.setattr(mmcv_operators, '_CHUNK', 25)  # Seven rows in three chunks.
    logits = torch.linspace(-9, 9, 35).reshape(7, 5).requires_grad_()
    target = torch.tensor([0, 4, 5, 2, 5, 1, 3])  # 5 is background.
    weights = torch.linspace(0.5, 2, 35).reshape(7, 5)
    one_hot = nn.functional.one_hot(target, 6)[:, :5].float()
    losses = [
        sigmoid_focal_loss(logits, target, gamma, alpha, None, 'none'),
        torchvision.ops.sigmoid_focal_loss(logits, one_hot, alpha, gamma),
        py_sigmoid_focal_loss(logits, one_hot, gamma=gamma, alpha=alpha, reduction='none'),
    ]
    gradients = [torch.autograd.grad(loss, logits, weights)[0] for loss in losses]
    for loss, gradient in zip(losses[1:], gradients[1:], strict=True):
        torch.testing.assert_close(losses[0], loss, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(gradients[0], gradient, rtol=1e-5, atol=1e-6)


@without_compiled
@pytest.mark.parametrize('weight', [None, torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)])
def test_focal_loss_has_the_right_gradient(weight):
    logits = torch.linspace(-4, 4, 12, dtype=torch.float64).reshape(4, 3).requires_grad_()
    target = torch.tensor([0, 3, 2, 1])
    assert torch.autograd.gradcheck(
        lambda x: sigmoid_focal_loss(x, target, 2.0, 0.25, weight, 'sum'), logits
    )


@without_compiled
def test_focal_loss_of_nothing_and_in_bfloat16():
    none = sigmoid_focal_loss(torch.zeros(0, 5), torch.zeros(0, dtype=torch.long), 2.0, 0.25)
    assert none.isnan() or none == 0  # mmcv's mean over no rows.
    logits, target = torch.linspace(-3, 3, 20).reshape(4, 5), torch.tensor([0, 5, 1, 2])
    low = sigmoid_focal_loss(logits.bfloat16(), target, 2.0, 0.25, None, 'none')
    wide = sigmoid_focal_loss(logits.bfloat16().float(), target, 2.0, 0.25, None, 'none')
    assert torch.equal(low, wide.bfloat16())


@without_compiled
def test_a_layer_without_its_operator_is_refused_before_it_runs():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), RoIAlign(7), DeformConv2dPack(3, 3, 3))
    with pytest.raises(MissingOperatorError) as refused:
        refuse_missing_operators(model)
    message = str(refused.value)
    assert 'DeformConv2dPack (2) needs an operator of mmcv.ops.deform_conv' in message
    assert 'MMCV_WITH_OPS=1 pip install' in message
    with pytest.raises(MissingOperatorError, match='`deform_conv_forward`'):
        model[2](torch.rand(1, 3, 8, 8))
    refuse_missing_operators(model[:2])
    with pytest.raises(MissingOperatorError, match='RoIAlign'):
        refuse_missing_operators(RoIAlign(7, pool_mode='max'))


@without_compiled
def test_the_spec_and_the_line_of_the_log_tell_the_truth():
    assert importlib.util.find_spec('mmcv._ext').loader is not None
    assert 'torchvision' in describe_operators()


def test_compiled_operators_win(tmp_path):
    """Also where they were found only after this package had been imported."""
    (tmp_path / '_ext.py').write_text('compiled = True\n')
    code = f"""
import mmcv
mmcv.__path__.insert(0, {str(tmp_path)!r})
import mmpoolformer, importlib.util
from mmpoolformer.mmcv_operators import describe_operators
assert importlib.util.find_spec('mmcv._ext').origin.startswith({str(tmp_path)!r})
from mmcv import _ext
print(_ext.compiled, describe_operators())
"""
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert "True mmcv's operators: compiled" in result.stdout, result.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('aligned, ratio, scale', ROI_SETTINGS)
def test_roi_align_under_deterministic_algorithms(aligned, ratio, scale):
    pool = RoIAlign((3, 5), scale, ratio, 'avg', aligned)
    results = []
    for device in ('cpu', 'cuda'):
        maps, rois = (value.to(device) for value in regions())
        torch.use_deterministic_algorithms(True)
        try:
            pooled = pool(maps.requires_grad_(), rois)
            pooled.sum().backward()
        finally:
            torch.use_deterministic_algorithms(False)
        results.append((pooled.detach().cpu(), maps.grad.cpu()))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-5)
