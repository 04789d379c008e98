"""The stencil kernels, forward and backward.

They take strides, so that any memory format is read in place. A tile has columns and channels; a
program walks down rows with it. All arithmetic is fp32.
"""

from __future__ import annotations

import triton
import triton.language as tl

from mmpoolformer.ops.triton_statistics import join_parts, tuned


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
    for tap in range(pool_size):
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


@tuned(_CONFIGS, key=['channels', 'size_class', 'pool_size', 'backward', 'channels_last'])
@triton.jit(do_not_specialize=['height', 'width', 'size_class'])
def mix_kernel(
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
            pulled = tl.load(x + tl.cast(row, tl.int64) * out_h, mask=known, other=0.0).to(
                tl.float32
            )
            value -= strength * (pulled - mean)
        tl.store(out + tl.cast(row, tl.int64) * out_h, value, mask=known)
        if pool_size == 3:
            above = here
            here = below
            centre = ahead


@triton.jit(do_not_specialize=['height', 'width'])
def sum_kernel(
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
        slope = tl.load(grad + tl.cast(row, tl.int64) * grad_h, mask=known, other=0.0).to(
            tl.float32
        )
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
