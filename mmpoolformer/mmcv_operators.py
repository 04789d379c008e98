"""mmcv's operators from torchvision and PyTorch, where mmcv has none compiled.

mmcv's operators come as C++ source that takes a compiler and ten minutes or more, and mmdet cannot
be imported without them. RetinaNet, Mask R-CNN and Semantic FPN need four, which are here: ``nms``,
``softnms``, ``roi_align`` (average) and ``sigmoid_focal_loss``. Importing mmpoolformer offers them
as the module ``mmcv._ext``. A compiled one, if there is any, is found first and is used instead.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError, version
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType

import mmcv
import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

_NAME = 'mmcv._ext'
# What mmpoolformer brings, in the words of its messages.
OPERATORS = ('nms', 'softnms', 'roi_align', 'sigmoid_focal_loss')
# The layers of mmcv.ops that run with these; those of the other files need none.
_SUPPORTED_LAYERS = ('RoIAlign', 'SigmoidFocalLoss')
_PURE_FILES = ('mmcv.ops.deprecated_wrappers', 'mmcv.ops.merge_cells', 'mmcv.ops.point_sample')
# Elements of which the focal loss keeps temporary tensors: 16 MiB each, where all anchors of a
# batch against 80 classes would take gigabytes.
_CHUNK = 2**22


class MissingOperatorError(NotImplementedError):
    """A layer needs an operator of mmcv that is neither compiled nor here."""


def offer_operators() -> None:
    """Let ``import mmcv._ext`` find the operators of this module where none are compiled."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def are_compiled() -> bool:
    """Return whether mmcv has compiled operators, without loading them."""
    return PathFinder.find_spec(_NAME, mmcv.__path__) is not None


def describe_operators() -> str:
    """Say in one line which operators a run uses."""
    if are_compiled():
        return f"mmcv's operators: compiled with mmcv {mmcv.__version__}"
    return (
        f"mmcv's operators: {', '.join(OPERATORS)} from torchvision {torchvision.__version__} and "
        'PyTorch (mmcv has none compiled)'
    )


def how_to_compile() -> str:
    """Return the command that compiles mmcv's own operators for the installed PyTorch."""
    return (
        'MMCV_WITH_OPS=1 pip install --no-build-isolation --no-cache-dir --no-deps '
        f'--force-reinstall {_mmcv_pin()}'
    )


def how_to_mend_operators() -> str:
    """Say what to do about compiled operators that cannot be loaded."""
    return (
        f"mmcv's operators were compiled for another PyTorch than {torch.__version__}. Remove "
        'them, and mmpoolformer brings those that its models need:\n'
        f'  rm {Path(mmcv.__file__).parent}/_ext.*\n'
        f'or compile them again:\n  {how_to_compile()}'
    )


def _mmcv_pin() -> str:
    try:
        return f'onedl-mmcv=={version("onedl-mmcv")}'
    except PackageNotFoundError:
        return f'mmcv=={mmcv.__version__}'


def refuse_missing_operators(model: nn.Module) -> None:
    """Look for layers that would fail in their first forward pass for want of an operator.

    Raises:
        MissingOperatorError: If there are any; the message names the first and the cure.
    """
    if are_compiled():
        return
    for name, module in model.named_modules():
        if file := _unsupported_file(module):
            raise MissingOperatorError(_explain(f'{type(module).__name__} ({name})', file))


def _unsupported_file(module: nn.Module) -> str | None:
    """Return the file of ``mmcv.ops`` that makes ``module`` need what is missing, if one does."""
    for cls in type(module).__mro__:
        file = cls.__module__
        if not file.startswith('mmcv.ops.') or file in _PURE_FILES:
            continue
        if cls.__name__ == 'MultiScaleDeformableAttention':
            # It has a PyTorch version of its own for CPUs.
            needs_operator = any(parameter.is_cuda for parameter in module.parameters())
        else:
            takes_maxima = getattr(module, 'pool_mode', 'avg') == 'max'
            needs_operator = cls.__name__ not in _SUPPORTED_LAYERS or takes_maxima
        return file if needs_operator else None
    return None


def _explain(what: str, file: str) -> str:
    return (
        f'{what} needs an operator of {file} that is not compiled. mmpoolformer brings '
        f'{", ".join(OPERATORS)}. For all others compile mmcv, which takes a C++ compiler, ninja '
        f'and ten minutes or more:\n  pip install ninja && {how_to_compile()}'
    )


def _missing(name: str, *args, **kwargs):
    """Stand in for an operator that is not here."""
    raise MissingOperatorError(_explain(f'`{name}`', sys._getframe(1).f_globals['__name__']))


class _Operators(ModuleType):
    """``mmcv._ext``: mmcv asks for all names on import, and calls only what a model needs."""

    def __getattr__(self, name: str) -> Callable:
        if name.startswith('__'):
            raise AttributeError(name)
        return partial(_missing, name)


class _Loader(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Operators(spec.name, __doc__)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__.update(
            nms=nms,
            softnms=softnms,
            roi_align_forward=roi_align_forward,
            roi_align_backward=roi_align_backward,
            sigmoid_focal_loss_forward=sigmoid_focal_loss_forward,
            sigmoid_focal_loss_backward=sigmoid_focal_loss_backward,
            get_compiler_version=lambda: 'not compiled',
            get_compiling_cuda_version=lambda: 'not compiled',
        )


class _Finder(MetaPathFinder):
    """The last one asked, so that a compiled ``mmcv._ext`` is found first."""

    def find_spec(self, fullname: str, path=None, target=None) -> ModuleSpec | None:
        return spec_from_loader(fullname, _Loader()) if fullname == _NAME else None


def _widen(x: Tensor) -> Tensor:
    """Return half and bfloat16 as float32: torchvision has no kernels for all of them."""
    return x if x.dtype == torch.float64 else x.float()


def _as_float32(value: float) -> float:
    """Round as mmcv does, whose thresholds are C floats: 0.6 is a little more than 0.6 there."""
    return float(np.float32(value))


# What follows has the names and arguments by which mmcv.ops calls its compiled operators. Boxes are
# (N, 4) corners x1, y1, x2, y2; with an offset of 1 the corner x2, y2 belongs to the box.


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy non-maximum suppression: return the indices that are kept, best first, ``(M,)``."""
    boxes, scores = _widen(boxes), _widen(scores)
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    # Of equal scores mmcv takes the first in PyTorch's default order, torchvision in a stable one.
    order = scores.argsort(descending=True)
    ranks = torch.arange(len(order), 0, -1, dtype=boxes.dtype, device=boxes.device)
    return order[torchvision.ops.nms(boxes[order], ranks, _as_float32(iou_threshold))]


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft non-maximum suppression (arXiv 1704.04503), on a CPU.

    Method 0 sets the scores of boxes that overlap a better one by ``iou_threshold`` or more to 0, 1
    lowers them by the overlap, 2 lowers all by a Gaussian of it. The first M rows of ``dets``,
    ``(N, 5)``, become the boxes whose score stays at ``min_score`` or above, with that score.

    Returns:
        Indices of these boxes, ``(M,)``, best first.
    """
    corners, values = _widen(boxes.detach()).numpy(), _widen(scores.detach()).numpy()
    threshold, sigma, min_score = corners.dtype.type([iou_threshold, sigma, min_score])
    areas = (corners[:, 2] - corners[:, 0] + offset) * (corners[:, 3] - corners[:, 1] + offset)
    table = np.column_stack([corners, values, areas])
    indices, end = np.arange(len(table)), len(table)
    start = 0
    while start < end:
        best = start + int(np.argmax(table[start:end, 4]))
        table[[start, best]], indices[[start, best]] = table[[best, start]], indices[[best, start]]
        chosen, rest, rest_indices = table[start], table[start + 1 : end], indices[start + 1 : end]
        low = np.maximum(chosen[:2], rest[:, :2])
        high = np.minimum(chosen[2:4], rest[:, 2:4])
        shared = np.maximum(high - low + offset, 0).prod(axis=1)
        with np.errstate(invalid='ignore', divide='ignore'):
            overlap = shared / (chosen[5] + rest[:, 5] - shared)
        overlap[np.isnan(overlap)] = 0  # Two boxes without area; mmcv's scores become NaN there.
        if method == 2:
            rest[:, 4] *= np.exp(-(overlap * overlap) / sigma)
        else:
            rest[:, 4] *= np.where(overlap >= threshold, (1 - overlap) * method, 1)
        # mmcv fills each gap with the last box that is left. The order decides between equal
        # scores, so it is the same here.
        dropped = rest[:, 4] < min_score
        left = len(rest) - int(dropped.sum())
        gaps = np.flatnonzero(dropped[:left])
        fillers = left + np.flatnonzero(~dropped[left:])[::-1]
        rest[gaps], rest_indices[gaps] = rest[fillers], rest_indices[fillers]
        start, end = start + 1, start + 1 + left
    dets[:end] = torch.from_numpy(table[:end, :5])
    return torch.from_numpy(indices[:end])


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Average ``input``, ``(B, C, H, W)``, over regions (RoIAlign, arXiv 1703.06870).

    ``rois`` are ``(K, 5)``: index of the image, then corners, in units of which ``input`` has
    ``spatial_scale`` pixels. ``output``, ``(K, C, aligned_height, aligned_width)``, is overwritten.

    Raises:
        MissingOperatorError: If ``pool_mode`` is 0, for maxima instead of averages.
    """
    if pool_mode == 0:
        raise MissingOperatorError(_explain("RoIAlign with pool_mode='max'", 'mmcv.ops.roi_align'))
    pooled = torchvision.ops.roi_align(
        _widen(input),
        _widen(rois).to(_widen(input).dtype),
        (aligned_height, aligned_width),
        spatial_scale,
        sampling_ratio,
        aligned,
    )
    output.copy_(pooled)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the gradient of :func:`roi_align_forward` into ``grad_input``, ``(B, C, H, W)``."""
    grad, shape = _widen(grad_output), grad_input.shape
    rois = _widen(rois).to(grad.dtype)
    size = (aligned_height, aligned_width)
    if grad.is_cuda and torch.are_deterministic_algorithms_enabled():
        # torchvision's own kernel refuses; its version in PyTorch, which autograd can run
        # backwards, does not. RoIAlign is linear: any input gives the same gradient.
        with torch.enable_grad():
            zeros = grad.new_zeros(shape).requires_grad_()
            pooled = torchvision.ops.roi_align(
                zeros, rois, size, spatial_scale, sampling_ratio, aligned
            )
            (result,) = torch.autograd.grad(pooled, zeros, grad)
    else:
        result = torch.ops.torchvision._roi_align_backward(
            grad, rois, spatial_scale, *size, *shape, sampling_ratio, aligned
        )
    grad_input.copy_(result)


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Focal loss of every class for itself (arXiv 1708.02002, equation 5).

    ``input`` are logits, ``(N, C)``; ``target`` is the class of each row, C for background;
    ``weight`` is a factor per class, ``(C,)``, or empty, and 1 for background. ``output``,
    ``(N, C)``, is overwritten.
    """
    for rows, logit, _, factor in _focal_chunks(input, target, weight, alpha):
        # The sigmoid of -z is 1 - p without its cancellation.
        loss = torch.sigmoid(-logit).pow(gamma).mul(F.logsigmoid(logit)).mul(factor).neg()
        output[rows] = loss.to(output.dtype)


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write the gradient of :func:`sigmoid_focal_loss_forward` into ``grad_input``, ``(N, C)``.

    With p the probability of the right answer and z its logit, the loss is
    ``-factor · (1 - p)^gamma · log p``, and its derivative by z is
    ``factor · (1 - p)^gamma · (gamma · p · log p - (1 - p))``.
    """
    for rows, logit, sign, factor in _focal_chunks(input, target, weight, alpha):
        log_p, wrong = F.logsigmoid(logit), torch.sigmoid(-logit)
        inner = log_p.exp().mul(log_p).mul(gamma).sub(wrong)
        grad = wrong.pow(gamma).mul(inner).mul(factor).mul(sign)
        grad_input[rows] = grad.to(grad_input.dtype)


def _focal_chunks(
    input: Tensor, target: Tensor, weight: Tensor, alpha: float
) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """Yield some rows at a time: the rows, the logit of the right answer, its sign, and a factor.

    The right answer is "yes" for the row's own class and "no" for the others, whose logit is the
    negative one.
    """
    classes = torch.arange(input.shape[1], device=input.device)
    step = max(1, _CHUNK // max(1, input.shape[1]))
    for start in range(0, len(input), step):
        rows = slice(start, start + step)
        positive = target[rows, None] == classes
        sign = positive.to(_widen(input[:0]).dtype).mul(2).sub(1)
        factor = torch.where(positive, alpha, 1 - alpha)
        if weight.numel():
            per_class = torch.cat([_widen(weight), weight.new_ones(1, dtype=factor.dtype)])
            factor = factor * per_class[target[rows], None]
        yield rows, _widen(input[rows]) * sign, sign, factor
