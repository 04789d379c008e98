"""The operation for any device: on a CPU in chunks whose hidden layer stays in the cache.

The norm becomes one multiply-add per number. The backward pass computes norm and activation again,
and where channels are few also the hidden layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mmpoolformer.ops.tokens import as_map, as_rows, chunks, linear, statistics

_WIDE = 128


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
    tensors = (x, norm_weight, norm_bias, fc1_weight, fc1_bias, fc2_weight, fc2_bias, layer_scale)
    learns = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    # Where there are few channels there are many positions: the product is cheap, memory is not.
    keeps_hidden = learns and x.shape[1] >= _WIDE
    options = _Options(act, per_position, eps, product_dtype, keeps_hidden)
    with torch.autocast(device, enabled=False):
        return _ChannelMLP.apply(
            *(options, x, norm_weight, norm_bias),
            *(fc1_weight, fc1_bias, fc2_weight, fc2_bias),
            *(layer_scale, res_scale, drop_factor, act_scale, act_bias),
        )


@dataclass(frozen=True)
class _Options:
    """What is no tensor.

    Args:
        act: As for the operation.
        per_position: As for the operation.
        eps: As for the operation.
        product_dtype: Type of the two matrix products.
        keeps_hidden: Whether the hidden layer is kept for the backward pass, before its activation.
    """

    act: str
    per_position: bool
    eps: float
    product_dtype: torch.dtype
    keeps_hidden: bool


class _ChannelMLP(torch.autograd.Function):
    """Saves the input, two numbers per sample, and a wide hidden layer."""

    @staticmethod
    def forward(ctx, options, x, *parameters):
        prepared = _Prepared(options, False, x, *parameters)
        x = x.contiguous(memory_format=torch.channels_last)
        rows = as_rows(x)
        # Low precision in and out: widening all chunks would cost more than a norm of its own.
        narrow = prepared.dtype == options.product_dtype != prepared.inner
        moments, ready = None, None
        if narrow and not options.per_position:
            ready, *moments = prepared.norm_of_all(x)
        elif not options.per_position:
            moments = statistics(rows, options.eps)
        prepared.use(moments)
        y = torch.empty_like(rows, dtype=prepared.dtype)
        kept = []
        for chunk in chunks(rows, prepared.fc1_weight.shape[0]):
            here = rows[chunk].to(prepared.dtype if narrow else prepared.inner)
            if ready is None:
                normed = prepared.normed(here.to(prepared.inner), chunk[0])[0]
            else:
                normed = ready[chunk].flatten(0, 1)
            if options.keeps_hidden:
                kept.append(linear(normed, prepared.fc1_weight, prepared.fc1_bias))
                hidden = prepared.activated(kept[-1])
            else:
                hidden = prepared.hidden(normed)
            branch = linear(hidden, prepared.fc2_weight, prepared.fc2_bias).to(here.dtype)
            prepared.add(here, branch.view_as(here), chunk[0], y[chunk])
        ctx.save_for_backward(x, *(moments or (None, None)), *parameters, *kept)
        ctx.options = options
        return as_map(y, x.shape[2:])

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        # Once: gradient checkpointing computes them for one look only.
        x, mean, rstd, *others = ctx.saved_tensors
        parameters, kept = others[:11], iter(others[11:])
        # With LayerScale in fc2 its gradient needs no product of its own; fp16 has no 1e-8 for it.
        folds = ctx.options.product_dtype != torch.float16
        prepared = _Prepared(ctx.options, folds, x, *parameters)
        prepared.use(None if mean is None else (mean, rstd))
        rows = as_rows(x.contiguous(memory_format=torch.channels_last))
        grad = as_rows(grad.contiguous(memory_format=torch.channels_last))
        back = _Backward(prepared, rows)
        for chunk in chunks(rows, prepared.fc1_weight.shape[0]):
            back.add_chunk(chunk, grad[chunk].to(prepared.inner), next(kept, None))
        if mean is not None:
            back.add_through_statistics(grad)
        grads = back.gradients(ctx.needs_input_grad[2:])
        return None, as_map(back.x, x.shape[2:]).to(x.dtype), *grads


class _Prepared:
    """The parameters in the types and shapes in which they are used."""

    def __init__(
        self, options, folds, x, norm_weight, norm_bias, fc1_weight, fc1_bias, fc2_weight, fc2_bias,
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
        self.foldable = [fc2_weight, fc2_bias, layer_scale if folds else None, act_scale, act_bias]
        fc2 = _fold(*map(self.wide, self.foldable))
        self.fc2_weight, self.fc2_bias = map(self.narrow, fc2)
        self.layer_scale = None if folds else self.wide(layer_scale)
        self.res_scale = self.wide(res_scale)
        self.drop_factor = None if drop_factor is None else self.wide(drop_factor)[:, None, None]
        # What scales the branch and is not in fc2, (B, 1, C).
        self.factor = self.drop_factor
        if self.layer_scale is not None:
            ones = self.layer_scale.new_ones(len(x), 1, 1)
            self.factor = self.layer_scale * (ones if drop_factor is None else self.drop_factor)
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

    def norm_of_all(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return normalised rows, ``(B, N, C)``, and mean and ``1 / sqrt(variance + eps)``."""
        weight, bias, *_ = self.given
        batch, channels, height, width = x.shape
        size = batch, channels, height * width, 1
        normed, mean, rstd = torch.native_group_norm(x, weight, bias, *size, self.options.eps)
        return as_rows(normed), mean[:, 0].float(), rstd[:, 0].float()

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

    def activated(self, before: Tensor) -> Tensor:
        return F.gelu(before) if self.options.act == 'gelu' else F.relu(before).square_()

    def scaled(self, value: Tensor, samples: slice) -> Tensor:
        return value if self.factor is None else value * self.factor[samples].to(value.dtype)

    def add(self, here: Tensor, branch: Tensor, samples: slice, target: Tensor) -> None:
        """Write shortcut and branch into ``target``."""
        out = target if target.dtype == here.dtype else torch.empty_like(here)
        if self.res_scale is not None:
            scale = self.res_scale.to(here.dtype)
            torch.addcmul(self.scaled(branch, samples), here, scale, out=out)
        elif self.factor is not None:
            torch.addcmul(here, branch, self.factor[samples].to(here.dtype), out=out)
        else:
            torch.add(here, branch, out=out)
        if out is not target:
            target.copy_(out)


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

    def add_chunk(self, chunk: tuple[slice, slice], grad: Tensor, before: Tensor | None) -> None:
        p, samples = self.prepared, chunk[0]
        here = self.rows[chunk].to(p.inner)
        normed, *moments = p.normed(here, samples)
        if before is None:
            before = linear(normed, p.fc1_weight, p.fc1_bias)
        hidden = p.activated(before)
        branch_grad = p.scaled(grad, samples).flatten(0, 1)
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
