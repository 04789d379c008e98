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
from mmpoolformer.ops.channel_mlp.arguments import MLPParameters, Options, learns, product_dtype
from mmpoolformer.ops.tokens import as_map, as_rows, needed_gradients, outer


def channel_mlp(x: Tensor, parameters: MLPParameters, options: Options, inplace: bool) -> Tensor:
    """Compute it; see :func:`mmpoolformer.ops.channel_mlp`.

    The reference takes fp64 and empty maps.
    """
    types = x.dtype, parameters.norm_weight.dtype, parameters.fc1_weight.dtype
    if torch.float64 in types or not x.numel():
        return reference.channel_mlp(x, parameters, options)
    dtype = product_dtype(x, parameters)
    if learns(x, parameters):
        return _ChannelMLP.apply(options, dtype, x, *parameters)
    with _plain(x):
        p = parameters.map(Tensor.contiguous)
        y, _, _ = _forward(options, dtype, _rows(x), p, keep=False, inplace=inplace)
    return as_map(y, x.shape[2:])


class _ChannelMLP(torch.autograd.Function):
    """Saves the input, its statistics and the hidden layer before the activation."""

    @staticmethod
    def forward(ctx, options, dtype, x, *parameters):
        # Kernels read parameters without strides.
        rows, p = _rows(x), MLPParameters(*parameters).map(Tensor.contiguous)
        with _plain(x):
            y, statistics, hidden = _forward(options, dtype, rows, p, keep=True, inplace=False)
        ctx.save_for_backward(rows, statistics, hidden, *p)
        ctx.per_position, ctx.size = options.per_position, x.shape[2:]
        return as_map(y, x.shape[2:])

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        rows, statistics, hidden, *parameters = ctx.saved_tensors
        _, _, needs_x, *needs = ctx.needs_input_grad
        p, needs = MLPParameters(*parameters), MLPParameters(*needs)
        with _plain(grad):
            grad_x, grads = _backward(
                rows, statistics, hidden, _rows(grad), p, needs, needs_x, ctx.per_position
            )
        grad_x = as_map(grad_x, ctx.size) if needs_x else None
        return None, None, grad_x, *needed_gradients(grads, p, needs)


def _rows(x: Tensor) -> Tensor:
    """Return ``(B, H * W, C)``, contiguous; copied unless ``x`` is channels-last."""
    return as_rows(x.contiguous(memory_format=torch.channels_last)).contiguous()


@contextmanager
def _plain(x: Tensor):
    """Launch on the device of ``x``, with autocast off."""
    with torch.cuda.device_of(x), torch.autocast(x.device.type, enabled=False):
        yield


def _forward(
    options: Options,
    dtype: torch.dtype,
    rows: Tensor,
    p: MLPParameters,
    *,
    keep: bool,
    inplace: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output, ``(B, N, C)``, the statistics and the hidden layer before its activation.

    Without ``keep`` the activation overwrites the hidden layer.
    """
    normed, statistics = triton_launch.normalise(rows, p, options, dtype)
    hidden = _linear(normed, p.fc1_weight, p.fc1_bias)
    activated = torch.empty_like(hidden) if keep else hidden
    triton_launch.activate(hidden, activated, p)
    branch = _linear(activated, p.fc2_weight, p.fc2_bias)
    wider = torch.promote_types(rows.dtype, p.norm_weight.dtype)
    y = rows if inplace and rows.dtype == wider else torch.empty_like(rows, dtype=wider)
    triton_launch.add_branch(rows, branch, y, p)
    return y, statistics, hidden


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the product in the type of ``x``."""
    return F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))


def _backward(
    rows: Tensor,
    statistics: Tensor,
    hidden: Tensor,
    grad: Tensor,
    p: MLPParameters,
    needs: MLPParameters,
    needs_x: bool,
    per_position: bool,
) -> tuple[Tensor | None, MLPParameters]:
    """Return the gradients of the input and, in fp32, of the parameters."""
    dtype, hidden = hidden.dtype, hidden.flatten(0, 1)
    plain, scaled, branch_sums = triton_launch.branch_gradient(
        grad, rows if needs.res_scale else None, p, dtype
    )
    hidden_grad = scaled.flatten(0, 1) @ p.fc2_weight.to(dtype)
    activated, hidden_sums = triton_launch.activate_backward(hidden, hidden_grad, p)
    fc2 = layer_scale = None
    if needs.fc2_weight or needs.layer_scale:
        fc2, layer_scale = _outer_gradients(plain, activated, branch_sums[0], p)
    del plain, scaled, activated
    normed_grad = (hidden_grad @ p.fc1_weight.to(dtype)).view_as(rows)
    normed, sums = triton_launch.norm_sums(rows, normed_grad, statistics, p, per_position)
    fc1 = outer(hidden_grad, normed.flatten(0, 1)) if needs.fc1_weight else None
    del hidden_grad, normed
    grad_x = None
    if needs_x:
        means = None
        if not per_position:
            means = (sums * p.norm_weight.float()).sum(2) / rows[0].numel()
        grad_x = triton_launch.norm_backward(rows, normed_grad, grad, statistics, means, p)
    fc2_bias = branch_sums[0]
    return grad_x, MLPParameters(
        norm_weight=sums[:, 1].sum(0),
        norm_bias=sums[:, 0].sum(0),
        fc1_weight=fc1,
        fc1_bias=hidden_sums[0],
        fc2_weight=fc2,
        fc2_bias=fc2_bias if p.layer_scale is None else fc2_bias * p.layer_scale.float(),
        layer_scale=layer_scale,
        res_scale=branch_sums[1] if needs.res_scale else None,
        act_scale=None if p.act_scale is None else hidden_sums[1].sum(),
        act_bias=None if p.act_bias is None else hidden_sums[2].sum(),
    )


def _outer_gradients(
    plain: Tensor, activated: Tensor, branch_sum: Tensor, p: MLPParameters
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
