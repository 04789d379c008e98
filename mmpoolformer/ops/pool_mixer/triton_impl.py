"""The operation for CUDA: statistics, then one stencil that reads the input once.

Pooling keeps affine maps, so the branch is ``a * (pool(x) - x)`` with one factor per sample and
channel, ``a = drop_factor * layer_scale * norm_weight * rstd``. Kernels take strides: any memory
format is read in place.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmpoolformer.ops.pool_mixer import reference
from mmpoolformer.ops.triton_statistics import (
    MOST_PARTS,
    join_parts,
    part_statistics,
    size_class,
    tuned,
    width_of,
)


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
    """Compute it; see :func:`mmpoolformer.ops.pool_mixer`. The reference takes fp64."""
    parameters = (norm_weight, norm_bias, layer_scale, res_scale, drop_factor)
    if torch.float64 in (x.dtype, norm_weight.dtype):
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
    _mix_kernel[grid](
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
    _sum_kernel[(across * triton.cdiv(channels, depth), down, batch)](
        *(x, grad, statistics, partial, channels, height, width, *x.stride(), *grad.stride()),
        *(pool_size, with_shortcut),
        **meta,
        num_warps=4,
    )
    sums = partial.sum(1)
    return sums[:, 0], sums[:, 1] if with_shortcut else None


@triton.jit
def _inside(index, size, pool_size: tl.constexpr):
    """Return how many positions of a window around ``index`` lie within the axis, fp32."""
    reach: tl.constexpr = pool_size // 2
    count = tl.minimum(index + reach, size - 1) - tl.maximum(index - reach, 0) + 1
    return tl.maximum(count, 1).to(tl.float32)


@triton.jit
def _row(pointers, row, stride_h, stride_w, column, known, height, width, shift,
         pool_size: tl.constexpr, transposed: tl.constexpr):  # fmt: skip
    """Return sums over windows of one row, 0 outside the map, and the row itself.

    ``shift`` is subtracted first, so that sums keep their digits when the mean is large.
    """
    reach: tl.constexpr = pool_size // 2
    centre = tl.zeros(pointers.shape, tl.float32)
    total = tl.zeros(pointers.shape, tl.float32)
    exists = known & (row >= 0) & (row < height)
    for tap in tl.static_range(pool_size):
        near = column + (tap - reach)
        inside = exists & (near >= 0) & (near < width)
        offset = tl.cast(row, tl.int64) * stride_h + (tap - reach) * stride_w
        value = tl.load(pointers + offset, mask=inside, other=0.0).to(tl.float32)
        if tap == reach:
            centre = value
        value = tl.where(inside, value - shift, 0.0)
        total += value / _inside(near, width, pool_size) if transposed else value
    return total / _inside(row, height, pool_size) if transposed else total, centre


@triton.jit
def _window(pointers, row, stride_h, stride_w, column, known, height, width, shift,
            pool_size: tl.constexpr, transposed: tl.constexpr):  # fmt: skip
    """Return sums over whole windows around one row, and the row itself."""
    centre = tl.zeros(pointers.shape, tl.float32)
    total = tl.zeros(pointers.shape, tl.float32)
    for tap in range(0, pool_size):
        here = row + tap - pool_size // 2
        part, value = _row(pointers, here, stride_h, stride_w, column, known, height, width,
                           shift, pool_size, transposed)  # fmt: skip
        total += part
        centre = tl.where(here == row, value, centre)
    return total, centre


@triton.jit
def _place(channels, width, channels_last: tl.constexpr, contiguous: tl.constexpr,
           tile: tl.constexpr):  # fmt: skip
    """Return columns ``(n, 1)`` and channels ``(1, m)`` of this program's tile."""
    other: tl.constexpr = tile // contiguous
    columns: tl.constexpr = other if channels_last else contiguous
    depth: tl.constexpr = contiguous if channels_last else other
    deep = tl.cdiv(channels, depth)
    column = tl.program_id(0) // deep * columns + tl.arange(0, columns)[:, None]
    channel = tl.program_id(0) % deep * depth + tl.arange(0, depth)[None, :]
    return column, channel


@triton.jit
def _pointers(base, sample, channel, column, stride_b, stride_c, stride_w):
    """Return pointers to the tile in row 0."""
    base += sample.to(tl.int64) * stride_b
    return base + (channel.to(tl.int64) * stride_c + column.to(tl.int64) * stride_w)


_CONFIGS = [
    triton.Config(dict(tile=tile, rows=rows), num_warps=warps)
    for tile, rows, warps in (
        (512, 8, 4),
        (1024, 8, 4),
        (1024, 16, 4),
        (1024, 32, 4),
        (2048, 16, 8),
        (512, 8, 2),
    )
]


@tuned(_CONFIGS, key=['channels', 'size_class', 'pool_size', 'channels_last'])
@triton.jit(do_not_specialize=['height', 'width', 'size_class'])
def _mix_kernel(
    source, x, out, norm_weight, layer_scale, res_scale, drop_factor, statistics, parts, pull,
    channels, height, width, source_b, source_c, source_h, source_w, out_b, out_c, out_h, out_w,
    length, eps, size_class, pool_size: tl.constexpr, backward: tl.constexpr, most: tl.constexpr,
    channels_last: tl.constexpr, contiguous: tl.constexpr, tile: tl.constexpr, rows: tl.constexpr,
):  # fmt: skip
    """Write ``r * s + a * (pool(s) - s)``, or its transpose less the pull of the statistics.

    A program walks down ``rows`` rows; a 3x3 window keeps the sums of two rows in registers.
    """
    sample = tl.program_id(2)
    column, channel = _place(channels, width, channels_last, contiguous, tile)
    known = (column < width) & (channel < channels)
    if backward:
        mean = tl.load(statistics + 2 * sample)
        rstd = tl.load(statistics + 2 * sample + 1)
        shift = 0.0
        strength = tl.load(pull + sample)
        x = _pointers(x, sample, channel, column, out_b, out_c, out_w)
    else:
        mean, rstd = join_parts(parts, sample, channels * height * width, length, eps, most)
        first = (tl.program_id(0) == 0) & (tl.program_id(1) == 0)
        tl.store(statistics + 2 * sample, mean, mask=first)
        tl.store(statistics + 2 * sample + 1, rstd, mask=first)
        shift = mean
    real = channel < channels
    factor = rstd * tl.load(norm_weight + channel, mask=real, other=0.0).to(tl.float32)
    if layer_scale is not None:
        factor *= tl.load(layer_scale + channel, mask=real, other=0.0).to(tl.float32)
    if drop_factor is not None:
        factor *= tl.load(drop_factor + sample).to(tl.float32)
    shortcut = 1.0
    if res_scale is not None:
        shortcut = tl.load(res_scale + channel, mask=real, other=0.0).to(tl.float32)
    source = _pointers(source, sample, channel, column, source_b, source_c, source_w)
    out = _pointers(out, sample, channel, column, out_b, out_c, out_w)
    start = tl.program_id(1) * rows
    if pool_size == 3:
        above, centre = _row(source, start - 1, source_h, source_w, column, known, height, width,
                             shift, pool_size, backward)  # fmt: skip
        here, centre = _row(source, start, source_h, source_w, column, known, height, width,
                            shift, pool_size, backward)  # fmt: skip
    for row in range(start, tl.minimum(start + rows, height)):
        if pool_size == 3:
            below, ahead = _row(source, row + 1, source_h, source_w, column, known, height, width,
                                shift, pool_size, backward)  # fmt: skip
            total = above + here + below
        else:
            total, centre = _window(source, row, source_h, source_w, column, known, height, width,
                                    shift, pool_size, backward)  # fmt: skip
        if not backward:
            total /= _inside(row, height, pool_size) * _inside(column, width, pool_size)
        value = shortcut * centre + factor * (total - (centre - shift))
        if backward:
            pulled = tl.load(x + tl.cast(row, tl.int64) * out_h, mask=known, other=0.0).to(tl.float32)
            value -= strength * (pulled - mean)
        tl.store(out + tl.cast(row, tl.int64) * out_h, value, mask=known)
        if pool_size == 3:
            above = here
            here = below
            centre = ahead


@triton.jit(do_not_specialize=['height', 'width'])
def _sum_kernel(
    x, grad, statistics, partial, channels, height, width, x_b, x_c, x_h, x_w,
    grad_b, grad_c, grad_h, grad_w, pool_size: tl.constexpr, with_shortcut: tl.constexpr,
    channels_last: tl.constexpr, contiguous: tl.constexpr, tile: tl.constexpr, rows: tl.constexpr,
):  # fmt: skip
    """Sum ``grad * (pool(x) - x)`` and ``grad * x`` over the positions of this program."""
    sample = tl.program_id(2)
    column, channel = _place(channels, width, channels_last, contiguous, tile)
    known = (column < width) & (channel < channels)
    mean = tl.load(statistics + 2 * sample)
    x = _pointers(x, sample, channel, column, x_b, x_c, x_w)
    grad = _pointers(grad, sample, channel, column, grad_b, grad_c, grad_w)
    start = tl.program_id(1) * rows
    branch = tl.zeros(known.shape, tl.float32)
    shortcut = tl.zeros(known.shape, tl.float32)
    if pool_size == 3:
        above, centre = _row(x, start - 1, x_h, x_w, column, known, height, width,
                             mean, pool_size, False)  # fmt: skip
        here, centre = _row(x, start, x_h, x_w, column, known, height, width,
                            mean, pool_size, False)  # fmt: skip
    for row in range(start, tl.minimum(start + rows, height)):
        if pool_size == 3:
            below, ahead = _row(x, row + 1, x_h, x_w, column, known, height, width,
                                mean, pool_size, False)  # fmt: skip
            total = above + here + below
        else:
            total, centre = _window(x, row, x_h, x_w, column, known, height, width,
                                    mean, pool_size, False)  # fmt: skip
        total /= _inside(row, height, pool_size) * _inside(column, width, pool_size)
        slope = tl.load(grad + tl.cast(row, tl.int64) * grad_h, mask=known, other=0.0).to(tl.float32)
        branch += slope * (total - (centre - mean))
        if with_shortcut:
            shortcut += slope * centre
        if pool_size == 3:
            above = here
            here = below
            centre = ahead
    depth: tl.constexpr = contiguous if channels_last else tile // contiguous
    deep = tl.cdiv(channels, depth)
    columns = tl.num_programs(0) // deep
    place = (sample * tl.num_programs(1) + tl.program_id(1)) * columns + tl.program_id(0) // deep
    kinds: tl.constexpr = 2 if with_shortcut else 1
    partial += place.to(tl.int64) * kinds * channels + channel
    real = channel < channels
    tl.store(partial, tl.sum(branch, axis=0, keep_dims=True), mask=real)
    if with_shortcut:
        tl.store(partial + channels, tl.sum(shortcut, axis=0, keep_dims=True), mask=real)
