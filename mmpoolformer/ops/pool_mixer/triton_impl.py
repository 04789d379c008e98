"""The operation for CUDA: statistics, then one stencil that reads the input once.

Pooling keeps affine maps, so the branch is ``a * (pool(x) - x)`` with one factor per sample and
channel, ``a = drop_factor * layer_scale * norm_weight * rstd``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmpoolformer.ops.pool_mixer import reference
from mmpoolformer.ops.pool_mixer import triton_kernels as kernels
from mmpoolformer.ops.pool_mixer.arguments import PoolParameters
from mmpoolformer.ops.tokens import needed_gradients
from mmpoolformer.ops.triton_statistics import part_statistics, size_class, width_of


def pool_mixer(x: Tensor, parameters: PoolParameters, pool_size: int, eps: float) -> Tensor:
    """Compute it; see :func:`mmpoolformer.ops.pool_mixer`.

    The reference takes fp64 and empty maps.
    """
    if torch.float64 in (x.dtype, parameters.norm_weight.dtype) or not x.numel():
        return reference.pool_mixer(x, parameters, pool_size, eps)
    return _PoolMixer.apply(pool_size, eps, x, *parameters)


class _PoolMixer(torch.autograd.Function):
    """Saves the input and two numbers per sample."""

    @staticmethod
    def forward(ctx, pool_size, eps, x, *parameters):
        x = _without_gaps(x)
        # Kernels read parameters without strides.
        p = PoolParameters(*(None if value is None else value.contiguous() for value in parameters))
        y = torch.empty_like(x, dtype=torch.promote_types(x.dtype, p.norm_weight.dtype))
        statistics = x.new_empty((len(x), 2), dtype=torch.float32)
        factors = p.norm_weight, p.layer_scale, p.res_scale, p.drop_factor
        with torch.cuda.device_of(x):
            parts, about = part_statistics(x), _about(x, pool_size)
            kernels.forward_kernel[_grid(x)](
                x, y, statistics, *factors, *parts, eps, size_class(x), **about
            )
        ctx.save_for_backward(x, statistics, *p)
        ctx.pool_size = pool_size
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, statistics, *parameters = ctx.saved_tensors
        p = PoolParameters(*parameters)
        rstd, grad_x = statistics[:, 1:], None
        strides, about = grad.stride(), _about(x, ctx.pool_size)
        factors = p.norm_weight, p.layer_scale, p.res_scale, p.drop_factor
        with torch.cuda.device_of(x):
            branch, shortcut = _sums(x, grad, statistics, p.res_scale is not None, about)
            per_sample = rstd if p.drop_factor is None else rstd * p.drop_factor.float()[:, None]
            branch = branch * per_sample
            if ctx.needs_input_grad[2]:
                # How far each number of a sample is pulled towards the mean, through rstd.
                pull = (branch * _times(p.norm_weight.float(), p.layer_scale)).sum(1, keepdim=True)
                pull = pull * rstd.square() / x[0].numel()
                grad_x = torch.empty_like(x)
                kernels.backward_kernel[_grid(x)](
                    x, grad_x, statistics, *factors, pull, grad, *strides, size_class(x), **about
                )
        branch = branch.sum(0)
        grads = PoolParameters(
            norm_weight=_times(branch, p.layer_scale),
            norm_bias=torch.zeros_like(branch),
            layer_scale=_times(branch, p.norm_weight),
            res_scale=None if shortcut is None else shortcut.sum(0),
        )
        return None, None, grad_x, *needed_gradients(grads, p, ctx.needs_input_grad[3:])


def _without_gaps(x: Tensor) -> Tensor:
    """Return ``x``, copied if it is neither contiguous nor channels-last."""
    channels_last = x.stride(1) == 1
    return x.contiguous(
        memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )


def _times(values: Tensor, factor: Tensor | None) -> Tensor:
    return values if factor is None else values * factor


def _sums(
    x: Tensor, grad: Tensor, statistics: Tensor, with_shortcut: bool, about: dict
) -> tuple[Tensor, Tensor | None]:
    """Return sums over positions of ``grad * (pool(x) - x)`` and ``grad * x``, ``(B, C)`` each."""
    batch, channels, height, width = x.shape
    tile = dict(tile=1024, rows=8 if height < 64 else 16, **about)
    columns, depth = _extent(tile)
    across, down = triton.cdiv(width, columns), triton.cdiv(height, tile['rows'])
    kinds = 2 if with_shortcut else 1
    partial = x.new_empty((batch, across * down, kinds, channels), dtype=torch.float32)
    kernels.sum_kernel[(across * triton.cdiv(channels, depth), down, batch)](
        x, partial, statistics, grad, *grad.stride(), with_shortcut, **tile
    )
    sums = partial.sum(1)
    return sums[:, 0], sums[:, 1] if with_shortcut else None


def _about(x: Tensor, pool_size: int) -> dict:
    """Return what every kernel is told about the map and the window."""
    channels, height, width = x.shape[1:]
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    return dict(
        channels=channels,
        height=height,
        width=width,
        pool_size=pool_size,
        channels_last=channels_last,
        contiguous=width_of(channels if channels_last else width, 64),
    )


def _extent(tile: dict) -> tuple[int, int]:
    """Return columns and channels of a tile."""
    other = tile['tile'] // tile['contiguous']
    return (other, tile['contiguous']) if tile['channels_last'] else (tile['contiguous'], other)


def _grid(x: Tensor) -> Callable[[dict], tuple[int, int, int]]:
    """Return the number of programs as a function of the tile, which is tuned."""
    batch, channels, height, width = x.shape

    def grid(tile: dict) -> tuple[int, int, int]:
        columns, depth = _extent(tile)
        tiles = triton.cdiv(width, columns) * triton.cdiv(channels, depth)
        return tiles, triton.cdiv(height, tile['rows']), batch

    return grid
