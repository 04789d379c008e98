"""The operation for any device: one reduction, one stencil, and a sum instead of five passes.

Pooling keeps affine maps, so ``pool(norm(x)) - norm(x) = weight * rstd * (pool(x) - x)``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mmpoolformer.ops.pool_mixer.arguments import PoolParameters
from mmpoolformer.ops.tokens import CACHED, as_rows, needed_gradients, statistics


def pool_mixer(x: Tensor, parameters: PoolParameters, pool_size: int, eps: float) -> Tensor:
    """Compute it; see :func:`mmpoolformer.ops.pool_mixer`."""
    with torch.autocast(x.device.type, enabled=False):
        return _PoolMixer.apply(pool_size, eps, x, *parameters)


class _PoolMixer(torch.autograd.Function):
    """Saves the input and two numbers per sample."""

    @staticmethod
    def forward(ctx, pool_size, eps, x, *parameters):
        p = PoolParameters(*parameters)
        x = x.contiguous(memory_format=torch.channels_last)
        mean, rstd = statistics(as_rows(x), eps)
        factor = _outer(rstd, p.drop_factor, p.norm_weight, p.layer_scale)
        y = torch.empty_like(x, dtype=torch.promote_types(x.dtype, p.norm_weight.dtype))
        for strip in _strips(x, pool_size):
            near = x[strip.near].to(factor.dtype)
            pooled = _pool(near, pool_size, strip)[strip.kept]
            near, weight, target = near[strip.kept], factor[strip.samples], y[strip.rows]
            out = target if target.dtype == near.dtype else torch.empty_like(pooled)
            if p.res_scale is None:
                torch.lerp(near, pooled, weight, out=out)
            else:
                scale = p.res_scale.to(near.dtype)[:, None, None]
                torch.addcmul(pooled.sub_(near).mul_(weight), near, scale, out=out)
            if out is not target:
                target.copy_(out)
        ctx.save_for_backward(x, mean, rstd, *parameters)
        ctx.pool_size = pool_size
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, mean, rstd, *parameters = ctx.saved_tensors
        p = PoolParameters(*parameters)
        grad = grad.contiguous(memory_format=torch.channels_last)
        factor = _outer(rstd, p.drop_factor, p.norm_weight, p.layer_scale)
        grad_x = torch.empty_like(x, dtype=factor.dtype)
        # Per sample and channel, sums over positions of grad * (pool(x) - x) and of grad * x.
        branch, shortcut = torch.zeros_like(factor[..., 0, 0]), torch.zeros_like(factor[..., 0, 0])
        for strip in _strips(x, ctx.pool_size):
            near = grad[strip.near].to(factor.dtype)
            # The sum is that of (transposed pooling of grad - grad) * x, of which the mean cancels.
            pooled = _pool_transposed(near, ctx.pool_size, strip)[strip.kept].sub_(near[strip.kept])
            here = x[strip.rows].to(factor.dtype)
            centred = here - mean[strip.samples, None, None, None]
            branch[strip.samples] += centred.mul_(pooled).sum((2, 3))
            near = near[strip.kept]
            if p.res_scale is not None:
                shortcut[strip.samples] += (near * here).sum((2, 3))
                near = near * p.res_scale.to(near.dtype)[:, None, None]
            torch.addcmul(near, pooled, factor[strip.samples], out=grad_x[strip.rows])
        _add_through_statistics(grad_x, x, mean, rstd, (branch * factor[..., 0, 0]).sum(1))

        def per_channel(factor: Tensor | None) -> Tensor:
            return (_outer(rstd, p.drop_factor, factor)[..., 0, 0] * branch).sum(0)

        grads = PoolParameters(
            norm_weight=per_channel(p.layer_scale),
            norm_bias=torch.zeros_like(p.norm_weight),
            layer_scale=per_channel(p.norm_weight),
            res_scale=shortcut.sum(0),
        )
        needed = needed_gradients(grads, p, ctx.needs_input_grad[3:])
        return None, None, grad_x.to(x.dtype), *needed


def _add_through_statistics(
    grad_x: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, sums: Tensor
) -> None:
    """Add what reaches ``x`` through ``rstd``: ``-rstd² * sums * (x - mean) / count``."""
    slope = -sums * rstd.square() / x[0].numel()
    for strip in _strips(x, 1):
        here = x[strip.rows].to(grad_x.dtype)
        weight = slope[strip.samples, None, None, None]
        grad_x[strip.rows].addcmul_(here - mean[strip.samples, None, None, None], weight)


def _outer(rstd: Tensor, drop_factor: Tensor | None, *channels: Tensor | None) -> Tensor:
    """Return the product of what there is per sample and per channel, ``(B, C, 1, 1)``."""
    samples = rstd if drop_factor is None else rstd * drop_factor.to(rstd.dtype)
    product = samples[:, None]
    for values in channels:
        product = product if values is None else product * values.to(rstd.dtype)
    return product[..., None, None]


class _Strip(NamedTuple):
    """Some rows of some samples, as indices."""

    samples: slice
    rows: tuple  # Samples and rows of the whole map.
    near: tuple  # The same with the rows that windows reach.
    kept: tuple  # `rows` within `near`.
    first: int  # First row of `near`.
    height: int  # Rows of the map.


def _strips(x: Tensor, pool_size: int) -> Iterator[_Strip]:
    """Cut maps so that the temporaries of a strip stay in the cache; on a GPU there is one."""
    batch, channels, height, width = x.shape
    reach = pool_size // 2
    most = max(CACHED // (4 * channels * width), 1)  # Arithmetic is fp32.
    on_cpu = x.device.type == 'cpu'
    count = max(most // height, 1) if on_cpu else batch
    step = -(-height // -(-height // most)) if on_cpu else height
    for sample in range(0, batch, count):
        samples = slice(sample, sample + count)
        for row in range(0, height, step):
            end = min(row + step, height)
            first, last = max(row - reach, 0), min(end + reach, height)
            yield _Strip(
                samples=samples,
                rows=(samples, slice(None), slice(row, end)),
                near=(samples, slice(None), slice(first, last)),
                kept=(slice(None), slice(None), slice(row - first, end - first)),
                first=first,
                height=height,
            )


def _pool(x: Tensor, pool_size: int, strip: _Strip) -> Tensor:
    """Return the averages over windows; rows beside a cut are wrong."""
    if x.device.type != 'cpu':
        return F.avg_pool2d(x, pool_size, 1, pool_size // 2, count_include_pad=False)
    return _scale_edges(_box(x, pool_size).div_(pool_size**2), pool_size, strip)


def _pool_transposed(grad: Tensor, pool_size: int, strip: _Strip) -> Tensor:
    """Return the gradient of :func:`_pool`; rows beside a cut are wrong."""
    if grad.device.type != 'cpu':
        window, padding = [pool_size] * 2, [pool_size // 2] * 2
        # The sizes are not rounded up, and what lies outside the map does not count.
        return torch.ops.aten.avg_pool2d_backward(
            grad, grad, window, [1, 1], padding, False, False, None
        )
    return _box(_scale_edges(grad / pool_size**2, pool_size, strip), pool_size)


def _box(x: Tensor, pool_size: int) -> Tensor:
    """Return sums over windows: oneDNN's depthwise convolution is fastest.

    Weights of 1 / 9 instead of a division would be wrong by the same fraction everywhere.
    """
    channels = x.shape[1]
    kernel = x.new_ones(channels, 1, pool_size, pool_size)
    return F.conv2d(x, kernel, padding=pool_size // 2, groups=channels)


def _scale_edges(x: Tensor, pool_size: int, strip: _Strip) -> Tensor:
    """Multiply by the full area of windows over their area within the map, in place."""
    reach = pool_size // 2
    for axis, size, first in ((2, strip.height, strip.first), (3, x.shape[3], 0)):
        for i in {*range(min(reach, size)), *range(max(size - reach, 0), size)}:
            if first <= i < first + x.shape[axis]:
                inside = min(i + reach, size - 1) - max(i - reach, 0) + 1
                x.select(axis, i - first).mul_(pool_size / inside)
    return x
