"""The operation for CUDA: matrix products by the vendor's library, fused kernels between them.

Kept for backward are the input, the statistics and the hidden layer before its activation; the norm
and the activation are computed again by the kernels that need them.
"""

from __future__ import annotations

from contextlib import contextmanager

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mmpoolformer.ops.channel_mlp import reference, triton_launch
from mmpoolformer.ops.channel_mlp.arguments import Options, Parameters, learns, product_dtype
from mmpoolformer.ops.tokens import as_map, as_rows, outer


def channel_mlp(x: Tensor, parameters: Parameters, options: Options, inplace: bool) -> Tensor:
    """Compute it; see :func:`mmpoolformer.ops.channel_mlp`.

    The reference takes fp64 and empty maps.
    """
    types = x.dtype, parameters.norm_weight.dtype, parameters.fc1_weight.dtype
    if torch.float64 in types or not x.numel():
        return reference.channel_mlp(x, parameters, options)
    dtype = product_dtype(x, parameters)
    if learns(x, parameters):
        return _ChannelMLP.apply(options, dtype, x, *parameters)
    rows = _rows(x)
    with _plain(x):
        y, *_ = _forward(options, dtype, rows, parameters.map(Tensor.contiguous), inplace=inplace)
    return as_map(y, x.shape[2:])


class _ChannelMLP(torch.autograd.Function):
    """Saves the input, its statistics and the hidden layer before the activation."""

    @staticmethod
    def forward(ctx, options, dtype, x, *parameters):
        # Kernels read parameters without strides.
        rows, parameters = _rows(x), Parameters(*parameters).map(Tensor.contiguous)
        with _plain(x):
            y, statistics, hidden = _forward(options, dtype, rows, parameters, keep=True)
        ctx.save_for_backward(rows, statistics, hidden, *parameters)
        ctx.options, ctx.dtype, ctx.size = options, dtype, x.shape[2:]
        return as_map(y, x.shape[2:])

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        rows, statistics, hidden, *parameters = ctx.saved_tensors
        parameters = Parameters(*parameters)
        _, _, needs_x, *needs = ctx.needs_input_grad
        needs = Parameters(*needs)
        with _plain(grad):
            found, grad_x = _backward(
                *(ctx.options, ctx.dtype, rows, statistics, hidden, parameters, _rows(grad)),
                *(needs, needs_x),
            )
        grads = [
            value.to(parameter.dtype).view_as(parameter) if need else None
            for value, parameter, need in zip(found, parameters, needs, strict=True)
        ]
        return None, None, as_map(grad_x, ctx.size) if needs_x else None, *grads


def _rows(x: Tensor) -> Tensor:
    """Return ``(B, H * W, C)``, contiguous; copied unless ``x`` is channels-last."""
    return as_rows(x.contiguous(memory_format=torch.channels_last)).contiguous()


@contextmanager
def _plain(x: Tensor):
    """Launch on the device of ``x``, with autocast off."""
    with torch.cuda.device_of(x), torch.autocast(x.device.type, enabled=False):
        yield


def _cast(value: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if value is None else value.to(dtype)


def _forward(
    options: Options,
    dtype: torch.dtype,
    rows: Tensor,
    p: Parameters,
    *,
    keep: bool = False,
    inplace: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output, ``(B, N, C)``, the statistics and, if kept, what the activation gets."""
    normed, statistics = triton_launch.normalise(
        rows, p.norm_weight, p.norm_bias, dtype, options.per_position, options.eps
    )
    hidden = F.linear(normed, _cast(p.fc1_weight, dtype), _cast(p.fc1_bias, dtype))
    activated = torch.empty_like(hidden) if keep else hidden
    triton_launch.activate(hidden, activated, p.act_scale, p.act_bias)
    branch = F.linear(activated, _cast(p.fc2_weight, dtype), _cast(p.fc2_bias, dtype))
    wider = torch.promote_types(rows.dtype, p.norm_weight.dtype)
    y = rows if inplace and rows.dtype == wider else torch.empty_like(rows, dtype=wider)
    triton_launch.add_branch(rows, branch, y, p.layer_scale, p.res_scale, p.drop_factor)
    return y, statistics, hidden


def _backward(
    options, dtype, rows, statistics, hidden, p, grad, needs, needs_x
) -> tuple[Parameters, Tensor | None]:
    """Return the gradients of the parameters, fp32, and that of the input."""
    plain, scaled, branch_sums = triton_launch.branch_gradient(
        grad, rows if needs.res_scale else None, p.layer_scale, p.drop_factor, dtype
    )
    hidden = hidden.flatten(0, 1)
    hidden_grad = scaled.flatten(0, 1) @ p.fc2_weight.to(dtype)
    activated, hidden_sums = triton_launch.activate_backward(
        hidden, hidden_grad, p.act_scale, p.act_bias
    )
    fc2 = layer_scale = None
    if needs.fc2_weight or needs.layer_scale:
        fc2, layer_scale = _outer_gradients(plain, activated, branch_sums[0], p)
    del plain, scaled, activated
    normed_grad = (hidden_grad @ p.fc1_weight.to(dtype)).view_as(rows)
    normed, sums = triton_launch.norm_sums(
        rows, normed_grad, statistics, p.norm_weight, p.norm_bias, options.per_position
    )
    fc1 = outer(hidden_grad, normed.flatten(0, 1)) if needs.fc1_weight else None
    del hidden_grad, normed
    grad_x = None
    if needs_x:
        means = None
        if not options.per_position:
            means = (sums * p.norm_weight.float()).sum(2) / rows[0].numel()
        grad_x = triton_launch.norm_backward(
            rows, normed_grad, grad, statistics, means, p.norm_weight, p.res_scale
        )
    fc2_bias = branch_sums[0]
    return Parameters(
        norm_weight=sums[:, 1].sum(0),
        norm_bias=sums[:, 0].sum(0),
        fc1_weight=fc1,
        fc1_bias=hidden_sums[0],
        fc2_weight=fc2,
        fc2_bias=fc2_bias if p.layer_scale is None else fc2_bias * p.layer_scale.float(),
        layer_scale=layer_scale,
        res_scale=branch_sums[1] if needs.res_scale else None,
        drop_factor=None,
        act_scale=None if p.act_scale is None else hidden_sums[1].sum(),
        act_bias=None if p.act_bias is None else hidden_sums[2].sum(),
    ), grad_x


def _outer_gradients(
    plain: Tensor, activated: Tensor, branch_sum: Tensor, p: Parameters
) -> tuple[Tensor, Tensor | None]:
    """Return the gradients of fc2's weight and of LayerScale.

    Both follow from the product without LayerScale, so the branch need not be computed again:
    ``d fc2 = layer_scale * product`` and ``d layer_scale = Σ fc2 * product + bias * Σ grad``.
    """
    product = outer(plain.flatten(0, 1), activated)
    if p.layer_scale is None:
        return product, None
    layer_scale = (product * p.fc2_weight.float()).sum(1)
    if p.fc2_bias is not None:
        layer_scale = layer_scale + p.fc2_bias.float() * branch_sum
    return product.mul_(p.layer_scale.float()[:, None]), layer_scale
