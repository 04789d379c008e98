"""The forward pass of the PyTorch implementation, and what its backward pass computes again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mmpoolformer.ops.channel_mlp.arguments import MLPParameters, Options
from mmpoolformer.ops.tokens import as_rows, chunks, linear, statistics


class Prepared(NamedTuple):
    """The operation, ready for one input.

    ``p`` has fc1 and fc2 in the type of the products, with StarReLU's scale and bias in fc2, all
    other parameters in the inner type, and ``drop_factor`` as ``(B, 1, 1)``.
    """

    options: Options
    dtype: torch.dtype  # Of the output.
    inner: torch.dtype  # Of norm, scales and sums: fp32 or wider.
    p: MLPParameters
    factor: Tensor | None  # Of the branch: (B, 1, C) or (B, 1, 1).


class SampleNorm(NamedTuple):
    """A norm over all of each sample: ``shift + scale * x``."""

    mean: Tensor  # (B, 1, 1)
    rstd: Tensor  # (B, 1, 1): 1 / sqrt(variance + eps)
    scale: Tensor  # (B, 1, C)
    shift: Tensor  # (B, 1, C)


def prepare(x: Tensor, p: MLPParameters, options: Options, product: torch.dtype) -> Prepared:
    """Bring the parameters into the types and shapes in which they are used."""
    dtype = torch.promote_types(x.dtype, p.norm_weight.dtype)
    inner = torch.promote_types(dtype, torch.float32)
    wide = p.map(lambda value: value.to(inner))
    fc2_weight, fc2_bias = p.fc2_weight, p.fc2_bias
    if p.act_scale is not None:
        moved = wide.act_bias * wide.fc2_weight.sum(1)
        fc2_weight = wide.fc2_weight * wide.act_scale
        fc2_bias = moved if fc2_bias is None else wide.fc2_bias + moved
    factor = drop_factor = None if p.drop_factor is None else wide.drop_factor[:, None, None]
    if p.layer_scale is not None:
        ones = wide.layer_scale.new_ones(len(x), 1, 1)
        factor = wide.layer_scale * (ones if drop_factor is None else drop_factor)

    def narrow(value: Tensor | None) -> Tensor | None:
        return None if value is None else value.to(product).contiguous()

    used = wide._replace(
        fc1_weight=narrow(p.fc1_weight),
        fc1_bias=narrow(p.fc1_bias),
        fc2_weight=narrow(fc2_weight),
        fc2_bias=narrow(fc2_bias),
        drop_factor=drop_factor,
    )
    return Prepared(options, dtype, inner, used, factor)


def sample_norm(p: MLPParameters, mean: Tensor, rstd: Tensor) -> SampleNorm:
    """Return the norm with these statistics, ``(B,)`` each."""
    mean, rstd = mean[:, None, None], rstd[:, None, None]
    scale = rstd * p.norm_weight
    shift = -mean * scale
    return SampleNorm(mean, rstd, scale, shift if p.norm_bias is None else shift + p.norm_bias)


def forward(
    ready: Prepared, x: Tensor, *, keep: bool, inplace: bool
) -> tuple[Tensor, tuple[Tensor | None, Tensor | None], list[Tensor]]:
    """Return the output, ``(B, N, C)``, mean and rstd per sample, and hidden layers.

    A norm per position has no statistics per sample. The hidden layers, one for each chunk and not
    activated, are there only to ``keep``. ``x`` is channels-last.
    """
    p, rows, hidden = ready.p, as_rows(x), []
    # Low precision in and out: widening all chunks would cost more than a norm of its own.
    narrow = ready.dtype == p.fc1_weight.dtype != ready.inner
    moments, normed_rows, norm = (None, None), None, None
    if narrow and not ready.options.per_position:
        normed_rows, *moments = _normalise_all(ready, x)
    elif not ready.options.per_position:
        moments = statistics(rows, ready.options.eps)
        norm = sample_norm(p, *moments)
    inplace = inplace and x.dtype == ready.dtype
    y = rows if inplace else torch.empty_like(rows, dtype=ready.dtype)
    for chunk in cut(p, rows):
        here = rows[chunk].to(ready.dtype if narrow else ready.inner)
        if normed_rows is None:
            normed = normalise(ready, norm, here.to(ready.inner), chunk[0])[0]
        else:
            normed = normed_rows[chunk].flatten(0, 1)
        if keep:
            hidden.append(linear(normed, p.fc1_weight, p.fc1_bias))
            activated = activate(hidden[-1], ready.options.act)
        else:
            activated = _activated_layer(normed, p, ready.options.act)
        branch = linear(activated, p.fc2_weight, p.fc2_bias).to(here.dtype)
        _add(ready, here, branch.view_as(here), chunk[0], y[chunk])
    return y, moments, hidden


def cut(p: MLPParameters, rows: Tensor) -> Iterator[tuple[slice, slice]]:
    """Cut rows so that a chunk of the hidden layer stays in the cache."""
    return chunks(rows, len(p.fc1_weight), p.fc1_weight.itemsize)


def _normalise_all(ready: Prepared, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return normalised rows, ``(B, N, C)``, and mean and rstd per sample."""
    batch, channels, height, width = x.shape
    affine = [
        None if v is None else v.to(x.dtype) for v in (ready.p.norm_weight, ready.p.norm_bias)
    ]
    normed, mean, rstd = torch.native_group_norm(
        x, *affine, batch, channels, height * width, 1, ready.options.eps
    )
    return as_rows(normed), mean[:, 0].float(), rstd[:, 0].float()


def normalise(
    ready: Prepared, norm: SampleNorm | None, here: Tensor, samples: slice
) -> tuple[Tensor, ...]:
    """Return normalised rows, ``(tokens, C)``; for a norm per position, also its statistics."""
    p, moments = ready.p, ()
    if norm is not None:
        normed = torch.addcmul(norm.shift[samples], here, norm.scale[samples])
    else:
        normed, *moments = torch.native_layer_norm(
            here, p.norm_weight.shape, p.norm_weight, p.norm_bias, ready.options.eps
        )
    return normed.flatten(0, 1).to(p.fc1_weight.dtype).contiguous(), *moments


def activate(hidden: Tensor, act: str) -> Tensor:
    """Return the activated hidden layer; the scale and bias of StarReLU are in fc2."""
    return F.gelu(hidden) if act == 'gelu' else F.relu(hidden).square_()


def _activated_layer(normed: Tensor, p: MLPParameters, act: str) -> Tensor:
    """Return the same from normalised rows, with the product and its activation in one."""
    if act == 'gelu':
        return linear(normed, p.fc1_weight, p.fc1_bias, 'gelu')
    return linear(normed, p.fc1_weight, p.fc1_bias, 'relu').square_()


def _add(ready: Prepared, here: Tensor, branch: Tensor, samples: slice, target: Tensor) -> None:
    """Write shortcut and scaled branch into ``target``."""
    out = target if target.dtype == here.dtype else torch.empty_like(here)
    factor = None if ready.factor is None else ready.factor[samples].to(here.dtype)
    if ready.p.res_scale is not None:
        branch = branch if factor is None else branch * factor
        torch.addcmul(branch, here, ready.p.res_scale.to(here.dtype), out=out)
    elif factor is not None:
        torch.addcmul(here, branch, factor, out=out)
    else:
        torch.add(here, branch, out=out)
    if out is not target:
        target.copy_(out)
