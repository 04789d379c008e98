"""Kernels around the matrix products.

Maps are rows of channels, ``(B, N, C)``, contiguous; the second axis of a grid is the sample.
Kernels that sum write one partial sum per program, which a second reduction adds up in a fixed
order. All arithmetic is fp32.
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
def _offset(token, channel, tokens, channels):
    return (tl.program_id(1).to(tl.int64) * tokens + token) * channels + channel


@triton.jit
def _per_channel(values, channel, channels):
    return tl.load(values + channel, mask=channel < channels, other=0.0).to(tl.float32)


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
def normalise_kernel(
    x, out, weight, bias, parts, statistics, tokens, channels, length, eps, steps,
    per_position: tl.constexpr, most: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Write the normalised rows and their statistics."""
    token, channel = _place(channels, rows * steps, rows, columns)
    sample = tl.program_id(1)
    if not per_position:
        mean, rstd = join_parts(parts, sample, tokens * channels, length, eps, most)
        tl.store(statistics + sample * 2, mean, mask=tl.program_id(0) == 0)
        tl.store(statistics + sample * 2 + 1, rstd, mask=tl.program_id(0) == 0)
    for _ in range(steps):
        known = (token < tokens) & (channel < channels)
        offset = _offset(token, channel, tokens, channels)
        value = tl.load(x + offset, mask=known, other=0.0).to(tl.float32)
        if per_position:
            mean = tl.sum(value, axis=1, keep_dims=True) / channels
            distance = tl.where(known, value - mean, 0.0)
            variance = tl.sum(distance * distance, axis=1, keep_dims=True) / channels
            rstd = 1.0 / tl.sqrt_rn(variance + eps)
            place = statistics + (sample.to(tl.int64) * tokens + token) * 2
            tl.store(place, mean, mask=token < tokens)
            tl.store(place + 1, rstd, mask=token < tokens)
        value = (value - mean) * rstd * _per_channel(weight, channel, channels)
        if bias is not None:
            value += _per_channel(bias, channel, channels)
        tl.store(out + offset, value, mask=known)
        token += rows


@triton.jit
def activate_kernel(hidden, out, act_scale, act_bias, size, block: tl.constexpr):
    """Write GELU, or StarReLU if it has a scale."""
    offset = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    value = tl.load(hidden + offset, mask=offset < size, other=0.0).to(tl.float32)
    if act_scale is None:
        value = 0.5 * value * (1.0 + tl.math.erf(value * 0.7071067811865476))
    else:
        value = tl.maximum(value, 0.0)
        value = tl.load(act_scale).to(tl.float32) * value * value
        value += tl.load(act_bias).to(tl.float32)
    tl.store(out + offset, value, mask=offset < size)


@triton.jit(do_not_specialize=['tokens'])
def add_branch_kernel(
    x, branch, out, layer_scale, res_scale, drop_factor, tokens, channels,
    rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Write the scaled shortcut plus the scaled branch."""
    token, channel = _place(channels, rows, rows, columns)
    known = (token < tokens) & (channel < channels)
    offset = _offset(token, channel, tokens, channels)
    value = tl.load(branch + offset, mask=known, other=0.0).to(tl.float32)
    shortcut = tl.load(x + offset, mask=known, other=0.0).to(tl.float32)
    if layer_scale is not None:
        value *= _per_channel(layer_scale, channel, channels)
    if drop_factor is not None:
        value *= tl.load(drop_factor + tl.program_id(1)).to(tl.float32)
    if res_scale is not None:
        shortcut *= _per_channel(res_scale, channel, channels)
    tl.store(out + offset, shortcut + value, mask=known)


@triton.jit(do_not_specialize=['tokens', 'steps'])
def branch_gradient_kernel(
    grad, x, plain, scaled, partial, layer_scale, drop_factor, tokens, channels, steps,
    rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Write the gradient of the branch without and with LayerScale, and sums."""
    token, channel = _place(channels, rows * steps, rows, columns)
    branch = tl.zeros((rows, columns), tl.float32)
    shortcut = tl.zeros((rows, columns), tl.float32)
    kinds: tl.constexpr = 1 if x is None else 2
    for _ in range(steps):
        known = (token < tokens) & (channel < channels)
        offset = _offset(token, channel, tokens, channels)
        value = tl.load(grad + offset, mask=known, other=0.0).to(tl.float32)
        if x is not None:
            shortcut += value * tl.load(x + offset, mask=known, other=0.0).to(tl.float32)
        if drop_factor is not None:
            value *= tl.load(drop_factor + tl.program_id(1)).to(tl.float32)
        branch += value
        if plain is not None:
            tl.store(plain + offset, value, mask=known)
        if scaled is not None:
            tl.store(scaled + offset, value * _per_channel(layer_scale, channel, channels), known)
        token += rows
    _store_sum(partial, 0, kinds, branch, channel, channels, columns)
    if x is not None:
        _store_sum(partial, 1, kinds, shortcut, channel, channels, columns)


@triton.jit(do_not_specialize=['tokens', 'steps'])
def activate_backward_kernel(
    hidden, grad, activated, partial, act_scale, act_bias, tokens, channels, steps,
    rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Write the activation, its gradient over the one given, and sums."""
    token, channel = _place(channels, rows * steps, rows, columns)
    before = tl.zeros((rows, columns), tl.float32)
    square = tl.zeros((rows, columns), tl.float32)
    after = tl.zeros((rows, columns), tl.float32)
    kinds: tl.constexpr = 1 if act_scale is None else 3
    for _ in range(steps):
        known = (token < tokens) & (channel < channels)
        offset = _offset(token, channel, tokens, channels)
        value = tl.load(hidden + offset, mask=known, other=0.0).to(tl.float32)
        slope = tl.load(grad + offset, mask=known, other=0.0).to(tl.float32)
        if act_scale is None:
            below = 0.5 * (1.0 + tl.math.erf(value * 0.7071067811865476))
            result = value * below
            # 0.3989… is 1 / sqrt(2π): the density of the normal distribution.
            slope *= below + value * 0.3989422804014327 * tl.exp(-0.5 * value * value)
        else:
            scale = tl.load(act_scale).to(tl.float32)
            value = tl.maximum(value, 0.0)
            result = scale * value * value + tl.load(act_bias).to(tl.float32)
            square += slope * value * value
            after += slope
            slope *= 2.0 * scale * value
        before += slope
        tl.store(activated + offset, result, mask=known)
        tl.store(grad + offset, slope, mask=known)
        token += rows
    _store_sum(partial, 0, kinds, before, channel, channels, columns)
    if act_scale is not None:
        _store_sum(partial, 1, kinds, square, channel, channels, columns)
        _store_sum(partial, 2, kinds, after, channel, channels, columns)


@triton.jit(do_not_specialize=['tokens', 'steps'])
def norm_sums_kernel(
    x, grad, normed, partial, statistics, weight, bias, tokens, channels, steps,
    per_position: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Write the normalised rows and the sums that the gradient of the norm needs."""
    token, channel = _place(channels, rows * steps, rows, columns)
    plain = tl.zeros((rows, columns), tl.float32)
    product = tl.zeros((rows, columns), tl.float32)
    for _ in range(steps):
        known = (token < tokens) & (channel < channels)
        offset = _offset(token, channel, tokens, channels)
        mean, rstd = _moments(statistics, token, tokens, per_position)
        value = tl.load(x + offset, mask=known, other=0.0).to(tl.float32)
        value = (value - mean) * rstd
        slope = tl.load(grad + offset, mask=known, other=0.0).to(tl.float32)
        plain += slope
        product += slope * value
        value *= _per_channel(weight, channel, channels)
        if bias is not None:
            value += _per_channel(bias, channel, channels)
        tl.store(normed + offset, value, mask=known)
        token += rows
    _store_sum(partial, 0, 2, plain, channel, channels, columns)
    _store_sum(partial, 1, 2, product, channel, channels, columns)


@triton.jit(do_not_specialize=['tokens'])
def norm_backward_kernel(
    x, normed_grad, grad, out, statistics, means, weight, res_scale, tokens, channels,
    per_position: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Write the gradient of the input."""
    token, channel = _place(channels, rows, rows, columns)
    known = (token < tokens) & (channel < channels)
    offset = _offset(token, channel, tokens, channels)
    mean, rstd = _moments(statistics, token, tokens, per_position)
    value = tl.load(x + offset, mask=known, other=0.0).to(tl.float32)
    value = (value - mean) * rstd
    slope = tl.load(normed_grad + offset, mask=known, other=0.0).to(tl.float32)
    slope *= _per_channel(weight, channel, channels)
    if per_position:
        plain = tl.sum(slope, axis=1, keep_dims=True) / channels
        product = tl.sum(slope * value, axis=1, keep_dims=True) / channels
    else:
        plain = tl.load(means + tl.program_id(1) * 2)
        product = tl.load(means + tl.program_id(1) * 2 + 1)
    shortcut = tl.load(grad + offset, mask=known, other=0.0).to(tl.float32)
    if res_scale is not None:
        shortcut *= _per_channel(res_scale, channel, channels)
    tl.store(out + offset, shortcut + rstd * (slope - plain - value * product), mask=known)
