"""Kernels around the matrix products. All arithmetic is fp32. What several kernels take:

- ``x``, ``out``, ``grad`` and other maps: rows of channels, ``(B, N, C)``, contiguous. The second
  axis of a grid is the sample; in ``hidden`` maps, ``(1, B * N, hidden)``, all rows are one sample.
- ``weight``, ``bias``, ``layer_scale``, ``res_scale``: ``(C,)``; ``drop_factor``: ``(B,)``;
  ``act_scale``, ``act_bias``: ``(1,)``. Biases and scales may be ``None``.
- ``statistics``: mean and ``rstd = 1 / sqrt(variance + eps)``, ``(B, 2)``, or ``(B, N, 2)`` for a
  norm ``per_position``.
- ``partial``: ``(B, programs, sums, C)``, written: each program's sums over its rows. A second
  reduction adds them up in a fixed order.
- ``rows``, ``columns``: those of a tile; a program walks down ``steps`` tiles.
"""

from __future__ import annotations

import triton
import triton.language as tl

from mmpoolformer.ops.triton_statistics import join_parts


@triton.jit
def _place(channels, height, rows: tl.constexpr, columns: tl.constexpr):
    """Return rows, ``(rows, 1)``, and channels, ``(1, columns)``, of a program's first tile.

    A program has ``height`` rows.
    """
    across = tl.cdiv(channels, columns)
    token = tl.program_id(0) // across * height + tl.arange(0, rows)[:, None]
    channel = tl.program_id(0) % across * columns + tl.arange(0, columns)[None, :]
    return token, channel


@triton.jit
def _tile(token, channel, tokens, channels):
    """Return where a tile lies in memory, and within the map."""
    offset = (tl.program_id(1).to(tl.int64) * tokens + token) * channels + channel
    return offset, (token < tokens) & (channel < channels)


@triton.jit
def _load(pointers, known):
    return tl.load(pointers, mask=known, other=0.0).to(tl.float32)


@triton.jit
def _scale_and_shift(value, weight, bias, channel, channels):
    """Return normalised numbers times weight plus bias."""
    value *= _load(weight + channel, channel < channels)
    if bias is not None:
        value += _load(bias + channel, channel < channels)
    return value


@triton.jit
def _moments(statistics, token, tokens, per_position: tl.constexpr):
    """Return mean and rstd of a sample, or ``(rows, 1)`` of positions."""
    if per_position:
        statistics += (tl.program_id(1).to(tl.int64) * tokens + token) * 2
        mean = tl.load(statistics, mask=token < tokens, other=0.0)
        rstd = tl.load(statistics + 1, mask=token < tokens, other=0.0)
    else:
        mean = tl.load(statistics + tl.program_id(1) * 2)
        rstd = tl.load(statistics + tl.program_id(1) * 2 + 1)
    return mean, rstd


@triton.jit
def _store_sum(partial, kind: tl.constexpr, kinds: tl.constexpr, values, channel, channels,
               columns: tl.constexpr):  # fmt: skip
    """Write the sum over rows of a tile to this program's place."""
    across = tl.cdiv(channels, columns)
    programs = tl.num_programs(0) // across
    place = tl.program_id(1) * programs + tl.program_id(0) // across
    partial += (place.to(tl.int64) * kinds + kind) * channels + channel
    tl.store(partial, tl.sum(values, axis=0, keep_dims=True), mask=channel < channels)


@triton.jit(do_not_specialize=['tokens', 'steps'])
def normalise_samples_kernel(
    x, out, weight, bias, statistics, parts, length, eps, tokens, channels, steps,
    rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Write rows normalised over their sample, and the statistics.

    ``parts`` and ``length`` are those of :class:`mmpoolformer.ops.triton_statistics.Parts`.
    """
    token, channel = _place(channels, rows * steps, rows, columns)
    sample = tl.program_id(1)
    mean, rstd = join_parts(parts, sample, tokens * channels, length, eps)
    tl.store(statistics + sample * 2, mean, mask=tl.program_id(0) == 0)
    tl.store(statistics + sample * 2 + 1, rstd, mask=tl.program_id(0) == 0)
    for _ in range(steps):
        offset, known = _tile(token, channel, tokens, channels)
        value = (_load(x + offset, known) - mean) * rstd
        tl.store(out + offset, _scale_and_shift(value, weight, bias, channel, channels), known)
        token += rows


@triton.jit(do_not_specialize=['tokens', 'steps'])
def normalise_positions_kernel(
    x, out, weight, bias, statistics, eps, tokens, channels, steps,
    rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Write rows normalised one by one, and the statistics; a tile has all channels."""
    token, channel = _place(channels, rows * steps, rows, columns)
    for _ in range(steps):
        offset, known = _tile(token, channel, tokens, channels)
        value = _load(x + offset, known)
        mean = tl.sum(value, axis=1, keep_dims=True) / channels
        distance = tl.where(known, value - mean, 0.0)
        variance = tl.sum(distance * distance, axis=1, keep_dims=True) / channels
        rstd = 1.0 / tl.sqrt_rn(variance + eps)
        place = statistics + (tl.program_id(1).to(tl.int64) * tokens + token) * 2
        tl.store(place, mean, mask=token < tokens)
        tl.store(place + 1, rstd, mask=token < tokens)
        value = (value - mean) * rstd
        tl.store(out + offset, _scale_and_shift(value, weight, bias, channel, channels), known)
        token += rows


@triton.jit
def gelu_kernel(hidden, out, size, block: tl.constexpr):
    """Write GELU of ``size`` numbers."""
    offset = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    value = _load(hidden + offset, offset < size)
    value = 0.5 * value * (1.0 + tl.math.erf(value * 0.7071067811865476))
    tl.store(out + offset, value, mask=offset < size)


@triton.jit
def star_relu_kernel(hidden, out, act_scale, act_bias, size, block: tl.constexpr):
    """Write StarReLU of ``size`` numbers."""
    offset = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    value = tl.maximum(_load(hidden + offset, offset < size), 0.0)
    value = tl.load(act_scale).to(tl.float32) * value * value
    tl.store(out + offset, value + tl.load(act_bias).to(tl.float32), mask=offset < size)


@triton.jit(do_not_specialize=['tokens'])
def add_branch_kernel(
    x, branch, out, layer_scale, res_scale, drop_factor, tokens, channels,
    rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Write the scaled shortcut plus the scaled branch."""
    token, channel = _place(channels, rows, rows, columns)
    offset, known = _tile(token, channel, tokens, channels)
    value = _load(branch + offset, known)
    shortcut = _load(x + offset, known)
    if layer_scale is not None:
        value *= _load(layer_scale + channel, channel < channels)
    if drop_factor is not None:
        value *= tl.load(drop_factor + tl.program_id(1)).to(tl.float32)
    if res_scale is not None:
        shortcut *= _load(res_scale + channel, channel < channels)
    tl.store(out + offset, shortcut + value, mask=known)


@triton.jit(do_not_specialize=['tokens', 'steps'])
def branch_gradient_kernel(
    grad, x, plain, scaled, partial, layer_scale, drop_factor, tokens, channels, steps,
    rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Write the branch's gradient to ``plain``, to ``scaled`` times LayerScale, and sums.

    The sums are those of ``plain`` and, unless ``x`` is ``None``, of ``grad * x``. Where
    ``plain`` or ``scaled`` is ``None``, another map already has these numbers.
    """
    token, channel = _place(channels, rows * steps, rows, columns)
    branch = tl.zeros((rows, columns), tl.float32)
    shortcut = tl.zeros((rows, columns), tl.float32)
    kinds: tl.constexpr = 1 if x is None else 2
    for _ in range(steps):
        offset, known = _tile(token, channel, tokens, channels)
        value = _load(grad + offset, known)
        if x is not None:
            shortcut += value * _load(x + offset, known)
        if drop_factor is not None:
            value *= tl.load(drop_factor + tl.program_id(1)).to(tl.float32)
        branch += value
        if plain is not None:
            tl.store(plain + offset, value, mask=known)
        if scaled is not None:
            value *= _load(layer_scale + channel, channel < channels)
            tl.store(scaled + offset, value, mask=known)
        token += rows
    _store_sum(partial, 0, kinds, branch, channel, channels, columns)
    if x is not None:
        _store_sum(partial, 1, kinds, shortcut, channel, channels, columns)


@triton.jit(do_not_specialize=['tokens', 'steps'])
def gelu_backward_kernel(
    hidden, grad, activated, partial, tokens, channels, steps,
    rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Write GELU of ``hidden`` and, over ``grad``, the gradient of ``hidden``; sum the latter."""
    token, channel = _place(channels, rows * steps, rows, columns)
    before = tl.zeros((rows, columns), tl.float32)
    for _ in range(steps):
        offset, known = _tile(token, channel, tokens, channels)
        value = _load(hidden + offset, known)
        below = 0.5 * (1.0 + tl.math.erf(value * 0.7071067811865476))
        # 0.3989… is 1 / sqrt(2π): the density of the normal distribution.
        slope = below + value * 0.3989422804014327 * tl.exp(-0.5 * value * value)
        slope = _load(grad + offset, known) * slope
        before += slope
        tl.store(activated + offset, value * below, mask=known)
        tl.store(grad + offset, slope, mask=known)
        token += rows
    _store_sum(partial, 0, 1, before, channel, channels, columns)


@triton.jit(do_not_specialize=['tokens', 'steps'])
def star_relu_backward_kernel(
    hidden, grad, activated, partial, act_scale, act_bias, tokens, channels, steps,
    rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Write StarReLU of ``hidden`` and, over ``grad``, the gradient of ``hidden``.

    The sums are those of the gradients of ``hidden``, of ``act_scale`` and of ``act_bias``.
    """
    token, channel = _place(channels, rows * steps, rows, columns)
    before = tl.zeros((rows, columns), tl.float32)
    square = tl.zeros((rows, columns), tl.float32)
    after = tl.zeros((rows, columns), tl.float32)
    scale = tl.load(act_scale).to(tl.float32)
    bias = tl.load(act_bias).to(tl.float32)
    for _ in range(steps):
        offset, known = _tile(token, channel, tokens, channels)
        value = tl.maximum(_load(hidden + offset, known), 0.0)
        slope = _load(grad + offset, known)
        square += slope * value * value
        after += slope
        slope *= 2.0 * scale * value
        before += slope
        tl.store(activated + offset, scale * value * value + bias, mask=known)
        tl.store(grad + offset, slope, mask=known)
        token += rows
    _store_sum(partial, 0, 3, before, channel, channels, columns)
    _store_sum(partial, 1, 3, square, channel, channels, columns)
    _store_sum(partial, 2, 3, after, channel, channels, columns)


@triton.jit(do_not_specialize=['tokens', 'steps'])
def norm_sums_kernel(
    x, grad, normed, partial, statistics, weight, bias, tokens, channels, steps,
    rows: tl.constexpr, columns: tl.constexpr, per_position: tl.constexpr,
):  # fmt: skip
    """Write the normalised rows, and the sums of ``grad`` and of ``grad * (x - mean) * rstd``."""
    token, channel = _place(channels, rows * steps, rows, columns)
    plain = tl.zeros((rows, columns), tl.float32)
    product = tl.zeros((rows, columns), tl.float32)
    for _ in range(steps):
        offset, known = _tile(token, channel, tokens, channels)
        mean, rstd = _moments(statistics, token, tokens, per_position)
        value = (_load(x + offset, known) - mean) * rstd
        slope = _load(grad + offset, known)
        plain += slope
        product += slope * value
        tl.store(normed + offset, _scale_and_shift(value, weight, bias, channel, channels), known)
        token += rows
    _store_sum(partial, 0, 2, plain, channel, channels, columns)
    _store_sum(partial, 1, 2, product, channel, channels, columns)


@triton.jit(do_not_specialize=['tokens'])
def norm_backward_kernel(
    x, normed_grad, grad, out, statistics, means, weight, res_scale, tokens, channels,
    rows: tl.constexpr, columns: tl.constexpr, per_position: tl.constexpr,
):  # fmt: skip
    """Write the gradient of ``x`` from those of the normalised rows and of the output.

    ``means``, ``(B, 2)``, are those over each sample of ``g = normed_grad * weight`` and of
    ``g * (x - mean) * rstd``; a norm ``per_position`` takes them here, as a tile has all channels.
    """
    token, channel = _place(channels, rows, rows, columns)
    offset, known = _tile(token, channel, tokens, channels)
    mean, rstd = _moments(statistics, token, tokens, per_position)
    value = (_load(x + offset, known) - mean) * rstd
    slope = _load(normed_grad + offset, known) * _load(weight + channel, channel < channels)
    if per_position:
        plain = tl.sum(slope, axis=1, keep_dims=True) / channels
        product = tl.sum(slope * value, axis=1, keep_dims=True) / channels
    else:
        plain = tl.load(means + tl.program_id(1) * 2)
        product = tl.load(means + tl.program_id(1) * 2 + 1)
    shortcut = _load(grad + offset, known)
    if res_scale is not None:
        shortcut *= _load(res_scale + channel, channel < channels)
    tl.store(out + offset, shortcut + rstd * (slope - plain - value * product), mask=known)
