"""The operation for any device: on a CPU in chunks whose hidden layer stays in the cache.

The norm becomes one multiply-add per number. The backward pass computes norm, hidden layer and
activation again, so that only the input and the statistics are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mmpoolformer.ops.tokens import as_map, as_rows, chunks, linear, statistics


def channel_mlp(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor | None,
    fc1_weight: Tensor,
    fc1_bias: Tensor | None,
    fc2_weight: Tensor,
    fc2_bias: Tensor | None,
    layer_scale: Tensor | None,
    res_scale: Tensor | None,
    drop_factor: Tensor | None,
    act_scale: Tensor | None,
    act_bias: Tensor | None,
    act: str,
    per_position: bool,
    eps: float,
) -> Tensor:
    """Compute it; see :func:`mmpoolformer.ops.channel_mlp`."""
    device = x.device.type
    autocast = torch.is_autocast_enabled(device)
    product_dtype = torch.get_autocast_dtype(device) if autocast else fc1_weight.dtype
    with torch.autocast(device, enabled=False):
        return _ChannelMLP.apply(
            *(_Options(act, per_position, eps, product_dtype), x, norm_weight, norm_bias),
            *(fc1_weight, fc1_bias, fc2_weight, fc2_bias),
            *(layer_scale, res_scale, drop_factor, act_scale, act_bias),
        )


@dataclass(frozen=True)
class _Options:
    """What is no tensor; ``product_dtype`` is the type of the two matrix products."""

    act: str
    per_position: bool
    eps: float
    product_dtype: torch.dtype

    @property
    def folds_layer_scale(self) -> bool:
        """Whether LayerScale goes into fc2: 1e-6 times a weight is 0 in fp16."""
        return self.product_dtype != torch.float16


class _ChannelMLP(torch.autograd.Function):
    """Saves the input and two numbers per sample."""

    @staticmethod
    def forward(ctx, options, x, *parameters):
        prepared = _Prepared(options, x, *parameters)
        rows = as_rows(x.contiguous(memory_format=torch.channels_last))
        moments = None if options.per_position else statistics(rows, options.eps)
        prepared.use(moments)
        y = torch.empty_like(rows, dtype=prepared.dtype)
        for chunk in chunks(rows, prepared.fc1_weight.shape[0]):
            here = rows[chunk].to(prepared.inner)
            hidden = prepared.hidden(prepared.normed(here, chunk[0])[0])
            branch = linear(hidden, prepared.fc2_weight, prepared.fc2_bias).to(here.dtype)
            y[chunk] = prepared.add(here, branch.view_as(here), chunk[0])
        ctx.save_for_backward(x, *(moments or (None, None)), *parameters)
        ctx.options = options
        return as_map(y, x.shape[2:])

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, mean, rstd, *parameters = ctx.saved_tensors
        prepared = _Prepared(ctx.options, x, *parameters)
        prepared.use(None if mean is None else (mean, rstd))
        rows = as_rows(x.contiguous(memory_format=torch.channels_last))
        grad = as_rows(grad.contiguous(memory_format=torch.channels_last))
        back = _Backward(prepared, rows)
        for chunk in chunks(rows, prepared.fc1_weight.shape[0]):
            back.add_chunk(chunk, grad[chunk].to(prepared.inner))
        if mean is not None:
            back.add_through_statistics(grad)
        grads = back.gradients(ctx.needs_input_grad[2:])
        return None, as_map(back.x, x.shape[2:]).to(x.dtype), *grads


class _Prepared:
    """The parameters in the types and shapes in which they are used."""

    def __init__(
        self, options, x, norm_weight, norm_bias, fc1_weight, fc1_bias, fc2_weight, fc2_bias,
        layer_scale, res_scale, drop_factor, act_scale, act_bias,
    ) -> None:  # fmt: skip
        self.options = options
        self.dtype = torch.promote_types(x.dtype, norm_weight.dtype)
        self.inner = torch.promote_types(self.dtype, torch.float32)
        self.given = (
            *(norm_weight, norm_bias, fc1_weight, fc1_bias, fc2_weight, fc2_bias),
            *(layer_scale, res_scale, drop_factor, act_scale, act_bias),
        )
        self.norm_weight, self.norm_bias = self.wide(norm_weight), self.wide(norm_bias)
        self.fc1_weight, self.fc1_bias = self.narrow(fc1_weight), self.narrow(fc1_bias)
        folded = layer_scale if options.folds_layer_scale else None
        self.foldable = [fc2_weight, fc2_bias, folded, act_scale, act_bias]
        fc2 = _fold(*map(self.wide, self.foldable))
        self.fc2_weight, self.fc2_bias = map(self.narrow, fc2)
        self.layer_scale = None if options.folds_layer_scale else self.wide(layer_scale)
        self.res_scale = self.wide(res_scale)
        # Factor of the branch per sample, (B, 1, 1), and what is not folded, (B or 1, 1, C).
        self.drop_factor = None if drop_factor is None else self.wide(drop_factor)[:, None, None]
        self.shift = self.scale = None

    def wide(self, value: Tensor | None) -> Tensor | None:
        return None if value is None else value.to(self.inner)

    def narrow(self, value: Tensor | None) -> Tensor | None:
        return None if value is None else value.to(self.options.product_dtype).contiguous()

    def use(self, moments: tuple[Tensor, Tensor] | None) -> None:
        """Take the statistics of the samples: the norm is then ``shift + scale * x``."""
        if moments is None:
            return
        self.mean, self.rstd = (value[:, None, None] for value in moments)
        self.scale = self.rstd * self.norm_weight
        shift = -self.mean * self.scale
        self.shift = shift if self.norm_bias is None else shift + self.norm_bias

    def normed(self, here: Tensor, samples: slice) -> tuple[Tensor, ...]:
        """Return normalised rows ``(tokens, C)``; for a norm per position, also its statistics."""
        if self.scale is not None:
            normed = (torch.addcmul(self.shift[samples], here, self.scale[samples]),)
        else:
            normed = torch.native_layer_norm(
                *(here, self.norm_weight.shape, self.norm_weight, self.norm_bias),
                self.options.eps,
            )
        return self.narrow(normed[0].flatten(0, 1)), *normed[1:]

    def hidden(self, normed: Tensor) -> Tensor:
        """Return the activated hidden layer; the scale and bias of StarReLU are in fc2."""
        if self.options.act == 'gelu':
            return linear(normed, self.fc1_weight, self.fc1_bias, 'gelu')
        return linear(normed, self.fc1_weight, self.fc1_bias, 'relu').square_()

    def factor(self, value: Tensor, samples: slice) -> Tensor:
        """Multiply by what scales the branch and is not folded into fc2."""
        if self.drop_factor is not None:
            value = value * self.drop_factor[samples]
        return value if self.layer_scale is None else value * self.layer_scale

    def add(self, here: Tensor, branch: Tensor, samples: slice) -> Tensor:
        branch = self.factor(branch, samples)
        if self.res_scale is None:
            return branch.add_(here)
        return branch.addcmul_(here, self.res_scale)


def _fold(
    weight: Tensor,
    bias: Tensor | None,
    layer_scale: Tensor | None,
    act_scale: Tensor | None,
    act_bias: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """Return fc2 with LayerScale and what StarReLU does after the square in it."""
    if act_bias is not None:
        moved = act_bias * weight.sum(1)
        bias = moved if bias is None else bias + moved
        weight = weight * act_scale
    if layer_scale is not None:
        weight = weight * layer_scale[:, None]
        bias = None if bias is None else bias * layer_scale
    return weight, bias


class _Backward:
    """Sums of gradients over chunks."""

    def __init__(self, prepared: _Prepared, rows: Tensor) -> None:
        self.prepared, self.rows = prepared, rows
        p = prepared
        self.x = torch.empty_like(rows, dtype=p.inner)
        hidden, channels = p.fc1_weight.shape
        zeros = p.norm_weight.new_zeros
        self.fc1, self.fc1_bias = zeros(hidden, channels), zeros(hidden)
        self.fc2, self.fc2_bias = zeros(channels, hidden), zeros(channels)
        self.norm_weight, self.norm_bias = zeros(channels), zeros(channels)
        self.layer_scale, self.res_scale = zeros(channels), zeros(channels)
        # Per sample, for a norm over all of it: sums of its gradient, and of that times x.
        self.sums, self.products = zeros(len(rows), 1, channels), zeros(len(rows), 1, channels)
        self.fc1_transposed = p.fc1_weight.T.contiguous()
        self.fc2_transposed = p.fc2_weight.T.contiguous()

    def add_chunk(self, chunk: tuple[slice, slice], grad: Tensor) -> None:
        p, samples = self.prepared, chunk[0]
        here = self.rows[chunk].to(p.inner)
        normed, *moments = p.normed(here, samples)
        before = linear(normed, p.fc1_weight, p.fc1_bias)
        hidden = F.gelu(before) if p.options.act == 'gelu' else F.relu(before).square()
        branch_grad = p.factor(grad, samples).flatten(0, 1)
        if p.layer_scale is not None:
            branch = linear(hidden, p.fc2_weight, p.fc2_bias).to(p.inner)
            kept = grad if p.drop_factor is None else grad * p.drop_factor[samples]
            self.layer_scale += (kept.flatten(0, 1) * branch).sum(0)
        if p.res_scale is not None:
            self.res_scale += (grad * here).sum((0, 1))
        self.fc2_bias += branch_grad.sum(0)
        branch_grad = p.narrow(branch_grad)
        self.fc2 += branch_grad.T @ hidden
        hidden_grad = linear(branch_grad, self.fc2_transposed)
        if p.options.act == 'gelu':
            hidden_grad = torch.ops.aten.gelu_backward(hidden_grad, before)
        else:
            hidden_grad.mul_(F.relu(before)).mul_(2)
        self.fc1 += hidden_grad.T @ normed
        self.fc1_bias += hidden_grad.sum(0)
        normed_grad = linear(hidden_grad, self.fc1_transposed).to(p.inner).view_as(here)
        self._through_norm(chunk, grad, here, normed_grad, moments)

    def _through_norm(self, chunk, grad, here, normed_grad, moments) -> None:
        p = self.prepared
        if not moments:
            self.x[chunk] = normed_grad
            self.sums[chunk[0]] += normed_grad.sum(1, keepdim=True)
            self.products[chunk[0]] += normed_grad.mul_(here).sum(1, keepdim=True)
            return
        through, weight, bias = torch.ops.aten.native_layer_norm_backward(
            *(normed_grad, here, p.norm_weight.shape, *moments, p.norm_weight, p.norm_bias),
            [True, True, p.norm_bias is not None],
        )
        self.norm_weight += weight
        if bias is not None:
            self.norm_bias += bias
        self.x[chunk] = through + (grad if p.res_scale is None else grad * p.res_scale)

    def add_through_statistics(self, grad: Tensor) -> None:
        """Finish the norm over all of a sample, which needs the sums over all chunks."""
        p, count = self.prepared, self.rows[0].numel()
        # Sums of the gradient times the normalised x.
        products = p.rstd * (self.products - p.mean * self.sums)
        self.norm_weight, self.norm_bias = products.sum((0, 1)), self.sums.sum((0, 1))
        slope = -(p.rstd**2) * (products * p.norm_weight).sum(2, keepdim=True) / count
        offset = -p.rstd * (self.sums * p.norm_weight).sum(2, keepdim=True) / count
        offset = offset - slope * p.mean
        for chunk in chunks(self.rows, self.rows.shape[2]):
            samples = chunk[0]
            through = torch.addcmul(offset[samples], self.rows[chunk].to(p.inner), slope[samples])
            through.addcmul_(self.x[chunk], p.scale[samples])
            here = grad[chunk].to(p.inner)
            through.add_(here) if p.res_scale is None else through.addcmul_(here, p.res_scale)
            self.x[chunk] = through

    def gradients(self, needed: tuple[bool, ...]) -> list[Tensor | None]:
        """Return the gradients of all parameters, in the order of the operation."""
        p = self.prepared
        with torch.enable_grad():
            leaves = [
                None if v is None else p.wide(v.detach()).requires_grad_() for v in p.foldable
            ]
            weight, bias = _fold(*leaves)
        outputs, output_grads = [weight], [self.fc2]
        if bias is not None:
            outputs, output_grads = [weight, bias], [self.fc2, self.fc2_bias]
        given = [leaf for leaf in leaves if leaf is not None]
        found = iter(torch.autograd.grad(outputs, given, output_grads))
        fc2, fc2_bias, folded, act_scale, act_bias = (
            None if leaf is None else next(found) for leaf in leaves
        )
        grads = [
            *(self.norm_weight, self.norm_bias, self.fc1, self.fc1_bias, fc2, fc2_bias),
            self.layer_scale if folded is None else folded,
            *(self.res_scale, None, act_scale, act_bias),
        ]
        return [
            grad.to(value.dtype) if need and value is not None else None
            for grad, value, need in zip(grads, p.given, needed, strict=True)
        ]
