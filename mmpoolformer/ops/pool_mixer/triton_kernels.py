"""The stencil kernels: forward, backward, and the sums that the parameters' gradients need.

A tile has columns and channels, ``(n, m)``; a program walks down ``rows`` rows of one sample with
it. All arithmetic is fp32. What several kernels take:

- ``x`` and ``out``: ``(B, C, H, W)``, alike in memory: both channels-last or both contiguous.
- ``grad``: the gradient of the output, ``(B, C, H, W)``, any strides.
- ``norm_weight``, ``layer_scale``, ``res_scale``: ``(C,)``; ``drop_factor``: ``(B,)``. All but the
  first may be ``None``.
- ``statistics``: ``(B, 2)``, mean and ``rstd = 1 / sqrt(variance + eps)`` of each sample.
- ``contiguous``: channels of a tile if ``channels_last``, else columns; ``tile``: their product.

What its helpers share is a ``view`` of a map: pointers to the tile in row 0, strides of rows and
columns, columns, which numbers exist, height and width of the map, and its mean.
"""

from __future__ import annotations

import triton
import triton.language as tl

from mmpoolformer.ops.triton_statistics import join_parts, tuned


@triton.jit
def _place(channels, width, channels_last: tl.constexpr, contiguous: tl.constexpr,
           tile: tl.constexpr):  # fmt: skip
    """Return columns, ``(n, 1)``, and channels, ``(1, m)``, of a tile, and which exist."""
    other: tl.constexpr = tile // contiguous
    columns: tl.constexpr = other if channels_last else contiguous
    depth: tl.constexpr = contiguous if channels_last else other
    deep = tl.cdiv(channels, depth)
    column = tl.program_id(0) // deep * columns + tl.arange(0, columns)[:, None]
    channel = tl.program_id(0) % deep * depth + tl.arange(0, depth)[None, :]
    return column, channel, (column < width) & (channel < channels)


@triton.jit
def _offset(column, channel, stride_b, stride_c, stride_w):
    """Return where the tile lies in row 0 of its sample."""
    offset = channel.to(tl.int64) * stride_c + column.to(tl.int64) * stride_w
    return tl.program_id(2).to(tl.int64) * stride_b + offset


@triton.jit
def _strides(channels, height, width, channels_last: tl.constexpr):
    """Return the strides of samples, channels, rows and columns of a map without gaps."""
    size = tl.cast(channels, tl.int64) * height * width
    if channels_last:
        strides = size, 1, width * channels, channels
    else:
        strides = size, height * width, width, 1
    return strides


@triton.jit
def _load_row(pointers, row, stride_h, exists):
    """Return a tile of a row in fp32, 0 where nothing exists."""
    pointers += tl.cast(row, tl.int64) * stride_h
    return tl.load(pointers, mask=exists, other=0.0).to(tl.float32)


@triton.jit
def _inside(index, size, pool_size: tl.constexpr):
    """Return how many positions of a window around ``index`` lie within the axis, fp32."""
    reach: tl.constexpr = pool_size // 2
    count = tl.minimum(index + reach, size - 1) - tl.maximum(index - reach, 0) + 1
    return tl.maximum(count, 1).to(tl.float32)


@triton.jit
def _row_sums(view, row, pool_size: tl.constexpr, transposed: tl.constexpr):
    """Return sums over the part of the windows that lies in one row, and the row itself.

    The mean is subtracted first, so that sums keep their digits when it is large. The transposed
    pooling divides each number by the size of the window whose average it is the gradient of.
    """
    pointers, stride_h, stride_w, column, known, height, width, mean = view
    reach: tl.constexpr = pool_size // 2
    centre = tl.zeros(pointers.shape, tl.float32)
    total = tl.zeros(pointers.shape, tl.float32)
    exists = known & (row >= 0) & (row < height)
    for tap in tl.static_range(pool_size):
        near = column + (tap - reach)
        inside = exists & (near >= 0) & (near < width)
        value = _load_row(pointers + (tap - reach) * stride_w, row, stride_h, inside)
        if tap == reach:
            centre = value
        value = tl.where(inside, value - mean, 0.0)
        total += value / _inside(near, width, pool_size) if transposed else value
    return total / _inside(row, height, pool_size) if transposed else total, centre


@triton.jit
def _window_sums(view, row, pool_size: tl.constexpr, transposed: tl.constexpr):
    """Return sums over whole windows around one row, and the row itself."""
    centre = tl.zeros(view[0].shape, tl.float32)
    total = tl.zeros(view[0].shape, tl.float32)
    for tap in range(pool_size):
        here = row + tap - pool_size // 2
        part, value = _row_sums(view, here, pool_size, transposed)
        total += part
        centre = tl.where(here == row, value, centre)
    return total, centre


@triton.jit
def _first_rows(view, row, pool_size: tl.constexpr, transposed: tl.constexpr):
    """Return what :func:`_next_row` carries to the first row of a program."""
    above = tl.zeros(view[0].shape, tl.float32)
    here = tl.zeros(view[0].shape, tl.float32)
    centre = tl.zeros(view[0].shape, tl.float32)
    if pool_size == 3:
        above, centre = _row_sums(view, row - 1, pool_size, transposed)
        here, centre = _row_sums(view, row, pool_size, transposed)
    return above, here, centre


@triton.jit
def _next_row(view, row, carried, pool_size: tl.constexpr, transposed: tl.constexpr):
    """Return ``pool(x) - x`` of one row, or its transpose, the row itself, and what is carried on.

    A 3x3 window carries the sums in the row above and in this one, and this row, so that each row
    is read once; other windows carry nothing.
    """
    _, _, _, column, _, height, width, mean = view
    if pool_size == 3:
        above, here, centre = carried
        below, ahead = _row_sums(view, row + 1, pool_size, transposed)
        total = above + here + below
        carried = here, below, ahead
    else:
        total, centre = _window_sums(view, row, pool_size, transposed)
    if not transposed:
        total /= _inside(row, height, pool_size) * _inside(column, width, pool_size)
    return total - (centre - mean), centre, carried


@triton.jit
def _factors(rstd, norm_weight, layer_scale, res_scale, drop_factor, channel, channels):
    """Return the factors of the branch and of the shortcut, ``(1, m)`` or scalars."""
    real = channel < channels
    branch = rstd * tl.load(norm_weight + channel, mask=real, other=0.0).to(tl.float32)
    if layer_scale is not None:
        branch *= tl.load(layer_scale + channel, mask=real, other=0.0).to(tl.float32)
    if drop_factor is not None:
        branch *= tl.load(drop_factor + tl.program_id(2)).to(tl.float32)
    shortcut = 1.0
    if res_scale is not None:
        shortcut = tl.load(res_scale + channel, mask=real, other=0.0).to(tl.float32)
    return branch, shortcut


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
_KEY = ['channels', 'size_class', 'pool_size', 'channels_last']


@tuned(_CONFIGS, key=_KEY)
@triton.jit(do_not_specialize=['height', 'width', 'size_class'])
def forward_kernel(
    x, out, statistics, norm_weight, layer_scale, res_scale, drop_factor, parts, length, eps,
    size_class, channels, height, width, pool_size: tl.constexpr,
    channels_last: tl.constexpr, contiguous: tl.constexpr, tile: tl.constexpr, rows: tl.constexpr,
):  # fmt: skip
    """Write ``res_scale * x + a * (pool(x) - x)`` to ``out``, and ``statistics`` for later.

    ``a = drop_factor * layer_scale * norm_weight * rstd``; ``parts`` and ``length`` are those of
    :class:`mmpoolformer.ops.triton_statistics.Parts`.
    """
    sample = tl.program_id(2)
    column, channel, known = _place(channels, width, channels_last, contiguous, tile)
    mean, rstd = join_parts(parts, sample, channels * height * width, length, eps)
    first = (tl.program_id(0) == 0) & (tl.program_id(1) == 0)
    tl.store(statistics + 2 * sample, mean, mask=first)
    tl.store(statistics + 2 * sample + 1, rstd, mask=first)
    factor, shortcut = _factors(
        rstd, norm_weight, layer_scale, res_scale, drop_factor, channel, channels
    )
    x_b, x_c, x_h, x_w = _strides(channels, height, width, channels_last)
    offset = _offset(column, channel, x_b, x_c, x_w)
    view = (x + offset, x_h, x_w, column, known, height, width, mean)
    out += offset
    start = tl.program_id(1) * rows
    carried = _first_rows(view, start, pool_size, False)
    for row in range(start, tl.minimum(start + rows, height)):
        difference, centre, carried = _next_row(view, row, carried, pool_size, False)
        value = shortcut * centre + factor * difference
        tl.store(out + tl.cast(row, tl.int64) * x_h, value, mask=known)


@tuned(_CONFIGS, key=_KEY)
@triton.jit(do_not_specialize=['height', 'width', 'size_class'])
def backward_kernel(
    x, out, statistics, norm_weight, layer_scale, res_scale, drop_factor, pull,
    grad, grad_b, grad_c, grad_h, grad_w,
    size_class, channels, height, width, pool_size: tl.constexpr,
    channels_last: tl.constexpr, contiguous: tl.constexpr, tile: tl.constexpr, rows: tl.constexpr,
):  # fmt: skip
    """Write ``res_scale * g + a * (poolᵀ(g) - g) - pull * (x - mean)`` to ``out``.

    It is the gradient of ``x``; g is ``grad``, a as in the forward pass, and ``pull``, ``(B, 1)``,
    how far the statistics pull the sample towards its mean.
    """
    sample = tl.program_id(2)
    column, channel, known = _place(channels, width, channels_last, contiguous, tile)
    mean = tl.load(statistics + 2 * sample)
    rstd = tl.load(statistics + 2 * sample + 1)
    strength = tl.load(pull + sample)
    factor, shortcut = _factors(
        rstd, norm_weight, layer_scale, res_scale, drop_factor, channel, channels
    )
    x_b, x_c, x_h, x_w = _strides(channels, height, width, channels_last)
    offset = _offset(column, channel, x_b, x_c, x_w)
    x += offset
    out += offset
    grad += _offset(column, channel, grad_b, grad_c, grad_w)
    # The mean of the gradient need not be subtracted.
    view = (grad, grad_h, grad_w, column, known, height, width, 0.0)
    start = tl.program_id(1) * rows
    carried = _first_rows(view, start, pool_size, True)
    for row in range(start, tl.minimum(start + rows, height)):
        difference, centre, carried = _next_row(view, row, carried, pool_size, True)
        value = shortcut * centre + factor * difference
        value -= strength * (_load_row(x, row, x_h, known) - mean)
        tl.store(out + tl.cast(row, tl.int64) * x_h, value, mask=known)


@triton.jit(do_not_specialize=['height', 'width'])
def sum_kernel(
    x, partial, statistics, grad, grad_b, grad_c, grad_h, grad_w, with_shortcut: tl.constexpr,
    channels, height, width, pool_size: tl.constexpr,
    channels_last: tl.constexpr, contiguous: tl.constexpr, tile: tl.constexpr, rows: tl.constexpr,
):  # fmt: skip
    """Sum ``grad * (pool(x) - x)`` and, ``with_shortcut``, ``grad * x`` over a program's positions.

    They are written to its place in ``partial``, ``(B, programs, 1 or 2, C)``.
    """
    sample = tl.program_id(2)
    column, channel, known = _place(channels, width, channels_last, contiguous, tile)
    mean = tl.load(statistics + 2 * sample)
    x_b, x_c, x_h, x_w = _strides(channels, height, width, channels_last)
    x += _offset(column, channel, x_b, x_c, x_w)
    grad += _offset(column, channel, grad_b, grad_c, grad_w)
    view = (x, x_h, x_w, column, known, height, width, mean)
    start = tl.program_id(1) * rows
    branch = tl.zeros(known.shape, tl.float32)
    shortcut = tl.zeros(known.shape, tl.float32)
    carried = _first_rows(view, start, pool_size, False)
    for row in range(start, tl.minimum(start + rows, height)):
        difference, centre, carried = _next_row(view, row, carried, pool_size, False)
        slope = _load_row(grad, row, grad_h, known)
        branch += slope * difference
        if with_shortcut:
            shortcut += slope * centre
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
