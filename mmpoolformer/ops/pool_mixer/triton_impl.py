"""The operation for CUDA: statistics, then one stencil that reads the input once.

Pooling keeps affine maps, so the branch is ``a * (pool(x) - x)`` with one factor per sample and
channel, ``a = drop_factor * layer_scale * norm_weight * rstd``.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmpoolformer.ops.pool_mixer import reference
from mmpoolformer.ops.pool_mixer import triton_kernels as kernels
from mmpoolformer.ops.triton_statistics import MOST_PARTS, part_statistics, size_class, width_of


def pool_mixer(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor | None,
    layer_scale: Tensor | None,
    res_scale: Tensor | None,
    drop_factor: Tensor | None,
    pool_size: int,
    eps: float,
) -> Tensor:
    """Compute it; see :func:`mmpoolformer.ops.pool_mixer`.

    The reference takes fp64 and empty maps.
    """
    parameters = (norm_weight, norm_bias, layer_scale, res_scale, drop_factor)
    if torch.float64 in (x.dtype, norm_weight.dtype) or not x.numel():
        return reference.pool_mixer(x, *parameters, pool_size, eps)
    return _PoolMixer.apply(x, *parameters, pool_size, eps)


class _PoolMixer(torch.autograd.Function):
    """Saves the input and two numbers per sample."""

    @staticmethod
    def forward(
        ctx, x, norm_weight, norm_bias, layer_scale, res_scale, drop_factor, pool_size, eps
    ):
        x = _without_gaps(x)
        factors = [_packed(v) for v in (norm_weight, layer_scale, res_scale, drop_factor)]
        y = torch.empty_like(x, dtype=torch.promote_types(x.dtype, norm_weight.dtype))
        statistics = x.new_empty((len(x), 2), dtype=torch.float32)
        with torch.cuda.device_of(x):
            parts = part_statistics(x)
            _mix(x, None, y, factors, statistics, parts, None, pool_size, eps)
        ctx.save_for_backward(x, statistics, *factors)
        ctx.pool_size = pool_size
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, statistics, *factors = ctx.saved_tensors
        norm_weight, layer_scale, res_scale, drop_factor = factors
        needs_x, needs_weight, needs_bias, needs_layer, needs_res, *_ = ctx.needs_input_grad
        scale = norm_weight.float()
        if layer_scale is not None:
            scale = scale * layer_scale.float()
        with torch.cuda.device_of(x):
            branch, shortcut = _sums(x, grad, statistics, ctx.pool_size, res_scale is not None)
            rstd = statistics[:, 1:]
            branch = branch * (rstd if drop_factor is None else rstd * drop_factor.float()[:, None])
            grad_x = None
            if needs_x:
                # How far each number of a sample is pulled towards the mean, through rstd.
                pull = (branch * scale).sum(1, keepdim=True) * rstd.square() / x[0].numel()
                grad_x = torch.empty_like(x)
                _mix(grad, x, grad_x, factors, statistics, None, pull, ctx.pool_size, 0.0)
        branch = branch.sum(0)
        return (
            grad_x,
            _times(branch, layer_scale).to(norm_weight.dtype) if needs_weight else None,
            torch.zeros_like(norm_weight) if needs_bias else None,
            _times(branch, norm_weight).to(layer_scale.dtype) if needs_layer else None,
            shortcut.sum(0).to(res_scale.dtype) if needs_res else None,
            *(None, None, None),
        )


def _without_gaps(x: Tensor) -> Tensor:
    """Return ``x``, copied if it is neither contiguous nor channels-last."""
    if x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last):
        return x
    channels_last = x.stride(1) == 1
    return x.contiguous(
        memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )


def _packed(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.contiguous()


def _times(values: Tensor, factor: Tensor | None) -> Tensor:
    return values if factor is None else values * factor


def _tile(x: Tensor) -> dict:
    """Return which axis of a tile is contiguous in memory, and its length."""
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    axis = x.shape[1] if channels_last else x.shape[3]
    return dict(channels_last=channels_last, contiguous=width_of(axis, 64))


def _mix(source, x, out, factors, statistics, parts, pull, pool_size, eps) -> None:
    """Launch the stencil: forward from ``x``, or backward from the gradient if ``x`` is given."""
    batch, channels, height, width = source.shape

    def grid(meta):
        columns, depth = _extent(meta)
        tiles = triton.cdiv(width, columns) * triton.cdiv(channels, depth)
        return tiles, triton.cdiv(height, meta['rows']), batch

    values, length = (None, 0) if parts is None else parts
    kernels.mix_kernel[grid](
        *(source, x, out, *factors, statistics, values, pull),
        *(channels, height, width, *source.stride(), *out.stride(), length, eps),
        *(size_class(out), pool_size, x is not None, MOST_PARTS),
        **_tile(out),
    )


def _extent(meta: dict) -> tuple[int, int]:
    """Return columns and channels of a tile."""
    other = meta['tile'] // meta['contiguous']
    return (other, meta['contiguous']) if meta['channels_last'] else (meta['contiguous'], other)


def _sums(x, grad, statistics, pool_size, with_shortcut) -> tuple[Tensor, Tensor | None]:
    """Return sums over positions of ``grad * (pool(x) - x)`` and ``grad * x``, ``(B, C)`` each."""
    batch, channels, height, width = x.shape
    meta = dict(tile=1024, rows=8 if height < 64 else 16, **_tile(x))
    columns, depth = _extent(meta)
    across, down = triton.cdiv(width, columns), triton.cdiv(height, meta['rows'])
    kinds = 2 if with_shortcut else 1
    partial = x.new_empty((batch, across * down, kinds, channels), dtype=torch.float32)
    kernels.sum_kernel[(across * triton.cdiv(channels, depth), down, batch)](
        *(x, grad, statistics, partial, channels, height, width, *x.stride(), *grad.stride()),
        *(pool_size, with_shortcut),
        **meta,
        num_warps=4,
    )
    sums = partial.sum(1)
    return sums[:, 0], sums[:, 1] if with_shortcut else None
