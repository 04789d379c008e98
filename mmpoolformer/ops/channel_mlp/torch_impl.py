"""The operation for any device: on a CPU in chunks whose hidden layer stays in the cache.

The norm becomes one multiply-add per number. The backward pass computes norm and activation again,
and where channels are few also the hidden layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mmpoolformer.ops.channel_mlp.arguments import MLPParameters, Options, learns, product_dtype
from mmpoolformer.ops.channel_mlp.torch_forward import (
    Prepared,
    SampleNorm,
    activate,
    cut,
    forward,
    normalise,
    prepare,
    sample_norm,
)
from mmpoolformer.ops.tokens import as_map, as_rows, chunks, linear, needed_gradients, outer

# Channels from which on the hidden layer is kept for the backward pass. Maps with fewer channels
# have many positions: the product is cheap to compute again, and memory is not.
_WIDE = 128


def channel_mlp(x: Tensor, parameters: MLPParameters, options: Options, inplace: bool) -> Tensor:
    """Compute it; see :func:`mmpoolformer.ops.channel_mlp`."""
    dtype = product_dtype(x, parameters)
    with torch.autocast(x.device.type, enabled=False):
        if learns(x, parameters):
            return _ChannelMLP.apply(options, dtype, x, *parameters)
        x = x.contiguous(memory_format=torch.channels_last)
        ready = prepare(x, parameters, options, dtype)
        y, _, _ = forward(ready, x, keep=False, inplace=inplace)
        return as_map(y, x.shape[2:])


class _ChannelMLP(torch.autograd.Function):
    """Saves the input, two numbers per sample, and a wide hidden layer."""

    @staticmethod
    def forward(ctx, options, dtype, x, *parameters):
        x = x.contiguous(memory_format=torch.channels_last)
        ready = prepare(x, MLPParameters(*parameters), options, dtype)
        y, moments, hidden = forward(ready, x, keep=x.shape[1] >= _WIDE, inplace=False)
        ctx.save_for_backward(x, *moments, *parameters, *hidden)
        ctx.options, ctx.dtype = options, dtype
        return as_map(y, x.shape[2:])

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        # Gradient checkpointing hands out saved tensors only once.
        x, mean, rstd, *others = ctx.saved_tensors
        count = len(MLPParameters._fields)
        parameters, hidden = MLPParameters(*others[:count]), others[count:]
        ready = prepare(x, parameters, ctx.options, ctx.dtype)
        norm = None if mean is None else sample_norm(ready.p, mean, rstd)
        grad = as_rows(grad.contiguous(memory_format=torch.channels_last))
        grad_x, sums = _backward(ready, norm, as_rows(x), grad, hidden)
        grads = _parameter_gradients(ready.p, sums, parameters)
        grads = needed_gradients(grads, parameters, ctx.needs_input_grad[3:])
        return None, None, as_map(grad_x, x.shape[2:]).to(x.dtype), *grads


class _Sums(NamedTuple):
    """Sums over positions in the inner type. Most are gradients of the parameter of that name.

    ``branch`` and ``product`` are taken before LayerScale, whose own gradient follows from them.
    """

    fc1_weight: Tensor  # (hidden, C)
    fc1_bias: Tensor  # (hidden,)
    branch: Tensor  # (C,): the gradient of the branch.
    product: Tensor  # (C, hidden): its outer products with the activated hidden layer.
    res_scale: Tensor | None  # (C,)
    # (C,) both. Those of a norm over samples are known only after all chunks.
    norm_weight: Tensor | None = None
    norm_bias: Tensor | None = None

    def add_(self, other: _Sums) -> _Sums:
        """Add in place: weights are larger than small maps."""
        for total, value in zip(self, other, strict=True):
            if total is not None:
                total.add_(value)
        return self


def _backward(
    ready: Prepared, norm: SampleNorm | None, rows: Tensor, grad: Tensor, hidden: Sequence[Tensor]
) -> tuple[Tensor, _Sums]:
    """Return the gradient of the input, ``(B, N, C)``, and the sums over all positions.

    Args:
        ready: The operation.
        norm: The norm, if it is one over samples.
        rows: The input, ``(B, N, C)``.
        grad: Gradient of the output, ``(B, N, C)``.
        hidden: The hidden layer of each chunk before its activation, none if they were not kept.
    """
    p, total = ready.p, None
    grad_x = torch.empty_like(rows, dtype=ready.inner)
    # For a norm over samples: per sample, sums of the gradient of its output, and of that times x.
    slopes, products = (p.norm_weight.new_zeros(len(rows), 1, rows.shape[2]) for _ in range(2))
    for i, chunk in enumerate(cut(p, rows)):
        here, there = rows[chunk].to(ready.inner), grad[chunk].to(ready.inner)
        normed, *moments = normalise(ready, norm, here, chunk[0])
        before = hidden[i] if hidden else linear(normed, p.fc1_weight, p.fc1_bias)
        normed_grad, sums = _through_layers(ready, normed, before, here, there, chunk[0])
        if norm is None:
            weights, needed = (p.norm_weight, p.norm_bias), [True, True, p.norm_bias is not None]
            grad_x[chunk], weight, bias = torch.ops.aten.native_layer_norm_backward(
                normed_grad, here, p.norm_weight.shape, *moments, *weights, needed
            )
            grad_x[chunk] += there if p.res_scale is None else there * p.res_scale
            sums = sums._replace(norm_weight=weight, norm_bias=bias)
        else:
            grad_x[chunk] = normed_grad
            slopes[chunk[0]] += normed_grad.sum(1, keepdim=True)
            products[chunk[0]] += normed_grad.mul_(here).sum(1, keepdim=True)
        total = sums if total is None else total.add_(sums)
    if norm is not None:
        # From here on times the normalised x.
        products = norm.rstd * (products - norm.mean * slopes)
        _through_sample_norm(p, norm, rows, grad, grad_x, (slopes, products))
        total = total._replace(norm_weight=products.sum((0, 1)), norm_bias=slopes.sum((0, 1)))
    return grad_x, total


def _through_layers(
    ready: Prepared, normed: Tensor, before: Tensor, here: Tensor, grad: Tensor, samples: slice
) -> tuple[Tensor, _Sums]:
    """Return the gradient of a chunk's normalised rows, ``(b, n, C)``, and its sums.

    ``normed`` and ``before``, the hidden layer before its activation, are ``(b * n, channels)``;
    ``here``, the input, and ``grad``, that of the output, ``(b, n, C)``.
    """
    p, narrow = ready.p, normed.dtype
    branch = grad if p.drop_factor is None else grad * p.drop_factor[samples]
    product = outer(branch.flatten(0, 1).to(narrow), activate(before, ready.options.act))
    scaled = branch if p.layer_scale is None else branch * p.layer_scale
    hidden_grad = linear(scaled.flatten(0, 1).to(narrow), p.fc2_weight.T)
    if ready.options.act == 'gelu':
        torch.ops.aten.gelu_backward(hidden_grad, before, grad_input=hidden_grad)
    else:
        hidden_grad.mul_(F.relu(before)).mul_(2)
    sums = _Sums(
        fc1_weight=outer(hidden_grad, normed),
        fc1_bias=hidden_grad.sum(0, dtype=ready.inner),
        branch=branch.sum((0, 1)),
        product=product,
        res_scale=None if p.res_scale is None else (grad * here).sum((0, 1)),
    )
    return linear(hidden_grad, p.fc1_weight.T).to(ready.inner).view_as(here), sums


def _through_sample_norm(
    p: MLPParameters,
    norm: SampleNorm,
    rows: Tensor,
    grad: Tensor,
    grad_x: Tensor,
    sums: Sequence[Tensor],
) -> None:
    """Turn ``grad_x`` from the gradient of the normalised rows into that of the input, in place.

    ``sums`` are, per sample and channel, those of the gradient of the normalised rows, and of that
    times the normalised x, ``(B, 1, C)`` each.
    """
    slopes, products = ((value * p.norm_weight).sum(2, keepdim=True) for value in sums)
    slope = -(norm.rstd**2) * products / rows[0].numel()
    offset = -norm.rstd * slopes / rows[0].numel() - slope * norm.mean
    for chunk in chunks(rows, rows.shape[2], grad_x.itemsize):
        samples = chunk[0]
        through = torch.addcmul(offset[samples], rows[chunk].to(grad_x.dtype), slope[samples])
        through.addcmul_(grad_x[chunk], norm.scale[samples])
        here = grad[chunk].to(grad_x.dtype)
        through.add_(here) if p.res_scale is None else through.addcmul_(here, p.res_scale)
        grad_x[chunk] = through


def _parameter_gradients(p: MLPParameters, sums: _Sums, given: MLPParameters) -> MLPParameters:
    """Return the gradients of all parameters.

    Args:
        p: The parameters as the operation used them.
        sums: Those over all positions; ``product`` is overwritten.
        given: The parameters as they were given, without StarReLU in fc2.
    """
    product, branch = sums.product, sums.branch
    fc2_weight = given.fc2_weight.to(product.dtype)
    act_scale = act_bias = layer_scale = None
    # In place and without temporaries: weights are larger than small maps.
    if p.act_scale is not None:
        scales = 1.0 if p.layer_scale is None else p.layer_scale
        act_scale = (_dot_rows(product, fc2_weight) * scales).sum()
        act_bias = (fc2_weight.sum(1) * branch * scales).sum()
        product.mul_(p.act_scale).add_(branch[:, None] * p.act_bias)
    if p.layer_scale is not None:
        layer_scale = _dot_rows(product, fc2_weight)
        if given.fc2_bias is not None:
            layer_scale += branch * given.fc2_bias
        product.mul_(p.layer_scale[:, None])
        branch = branch * p.layer_scale
    return MLPParameters(
        norm_weight=sums.norm_weight,
        norm_bias=sums.norm_bias,
        fc1_weight=sums.fc1_weight,
        fc1_bias=sums.fc1_bias,
        fc2_weight=product,
        fc2_bias=branch,
        layer_scale=layer_scale,
        res_scale=sums.res_scale,
        act_scale=act_scale,
        act_bias=act_bias,
    )


def _dot_rows(a: Tensor, b: Tensor) -> Tensor:
    """Return the scalar product of each row of ``a``, ``(N, C)``, with that of ``b``."""
    return torch.bmm(a[:, None], b[:, :, None]).flatten()
