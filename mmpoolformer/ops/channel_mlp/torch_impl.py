"""The operation for any device: on a CPU in chunks whose hidden layer stays in the cache.

The norm becomes one multiply-add per number. The backward pass computes norm and activation again,
and where channels are few also the hidden layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mmpoolformer.ops.channel_mlp.arguments import Options, Parameters, learns, product_dtype
from mmpoolformer.ops.tokens import as_map, as_rows, chunks, linear, outer, statistics

_WIDE = 128


def channel_mlp(x: Tensor, parameters: Parameters, options: Options, inplace: bool) -> Tensor:
    """Compute it; see :func:`mmpoolformer.ops.channel_mlp`."""
    dtype = product_dtype(x, parameters)
    with torch.autocast(x.device.type, enabled=False):
        if learns(x, parameters):
            return _ChannelMLP.apply(options, dtype, x, *parameters)
        return _forward(_Prepared(options, dtype, x, parameters), x, inplace=inplace)[0]


class _ChannelMLP(torch.autograd.Function):
    """Saves the input, two numbers per sample, and a wide hidden layer."""

    @staticmethod
    def forward(ctx, options, dtype, x, *parameters):
        # Where there are few channels there are many positions: the product is cheap, memory not.
        kept = [] if x.shape[1] >= _WIDE else None
        prepared = _Prepared(options, dtype, x, Parameters(*parameters))
        y, x, moments = _forward(prepared, x, kept)
        ctx.save_for_backward(x, *(moments or (None, None)), *parameters, *(kept or ()))
        ctx.options, ctx.dtype = options, dtype
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        # Once: gradient checkpointing computes them for one look only.
        x, mean, rstd, *others = ctx.saved_tensors
        count = len(Parameters._fields)
        parameters, kept = Parameters(*others[:count]), iter(others[count:])
        prepared = _Prepared(ctx.options, ctx.dtype, x, parameters)
        prepared.use(None if mean is None else (mean, rstd))
        rows = as_rows(x.contiguous(memory_format=torch.channels_last))
        grad = as_rows(grad.contiguous(memory_format=torch.channels_last))
        back = _Backward(prepared, rows)
        for chunk in prepared.chunks(rows):
            back.add_chunk(chunk, grad[chunk].to(prepared.inner), next(kept, None))
        if mean is not None:
            back.add_through_statistics(grad)
        grads = back.gradients(ctx.needs_input_grad[3:])
        return None, None, as_map(back.x, x.shape[2:]).to(x.dtype), *grads


def _forward(
    p: _Prepared, x: Tensor, kept: list[Tensor] | None = None, inplace: bool = False
) -> tuple[Tensor, Tensor, Sequence[Tensor] | None]:
    """Return the output, channels-last ``x`` and statistics; append hidden layers to ``kept``."""
    x = x.contiguous(memory_format=torch.channels_last)
    rows = as_rows(x)
    # Low precision in and out: widening all chunks would cost more than a norm of its own.
    narrow = p.dtype == p.product_dtype != p.inner
    moments, ready = None, None
    if narrow and not p.options.per_position:
        ready, *moments = p.norm_of_all(x)
    elif not p.options.per_position:
        moments = statistics(rows, p.options.eps)
    p.use(moments)
    inplace = inplace and x.dtype == p.dtype
    y = rows if inplace else torch.empty_like(rows, dtype=p.dtype)
    for chunk in p.chunks(rows):
        here = rows[chunk].to(p.dtype if narrow else p.inner)
        if ready is None:
            normed = p.normed(here.to(p.inner), chunk[0])[0]
        else:
            normed = ready[chunk].flatten(0, 1)
        if kept is None:
            hidden = p.hidden(normed)
        else:
            kept.append(linear(normed, p.fc1_weight, p.fc1_bias))
            hidden = p.activated(kept[-1])
        branch = linear(hidden, p.fc2_weight, p.fc2_bias).to(here.dtype)
        p.add(here, branch.view_as(here), chunk[0], y[chunk])
    return as_map(y, x.shape[2:]), x, moments


class _Prepared:
    """The parameters in the types and shapes in which they are used."""

    def __init__(
        self, options: Options, product_dtype: torch.dtype, x: Tensor, given: Parameters
    ) -> None:
        self.options, self.product_dtype, self.given = options, product_dtype, given
        self.dtype = torch.promote_types(x.dtype, given.norm_weight.dtype)
        self.inner = torch.promote_types(self.dtype, torch.float32)
        wide = given.map(lambda value: value.to(self.inner))
        self.norm_weight, self.norm_bias = wide.norm_weight, wide.norm_bias
        self.act_scale, self.act_bias = wide.act_scale, wide.act_bias
        self.layer_scale, self.res_scale = wide.layer_scale, wide.res_scale
        self.fc1_weight, self.fc1_bias = self.narrow(given.fc1_weight), self.narrow(given.fc1_bias)
        fc2 = given.fc2_weight, given.fc2_bias
        if wide.act_scale is not None:
            fc2 = self.fold_star_relu(wide.fc2_weight, wide.fc2_bias)
        self.fc2_weight, self.fc2_bias = map(self.narrow, fc2)
        drop_factor = wide.drop_factor
        self.drop_factor = None if drop_factor is None else drop_factor[:, None, None]
        # What scales the branch, (B, 1, C).
        self.factor = self.drop_factor
        if self.layer_scale is not None:
            ones = self.layer_scale.new_ones(len(x), 1, 1)
            self.factor = self.layer_scale * (ones if drop_factor is None else self.drop_factor)
        self.shift = self.scale = None

    def chunks(self, rows: Tensor) -> Iterator[tuple[slice, slice]]:
        """Cut rows so that a chunk of the hidden layer stays in the cache."""
        return chunks(rows, len(self.fc1_weight), self.fc1_weight.itemsize)

    def narrow(self, value: Tensor | None) -> Tensor | None:
        return None if value is None else value.to(self.product_dtype).contiguous()

    def fold_star_relu(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return fc2 with what StarReLU does after the square in it."""
        moved = self.act_bias * weight.sum(1)
        return weight * self.act_scale, moved if bias is None else bias + moved

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
        weight, bias = self.given.norm_weight, self.given.norm_bias
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


class _Backward:
    """Sums of gradients over chunks."""

    def __init__(self, prepared: _Prepared, rows: Tensor) -> None:
        self.prepared, self.rows = prepared, rows
        p = prepared
        self.x = torch.empty_like(rows, dtype=p.inner)
        self.sums = _Sums()
        # Per sample, for a norm over all of it: sums of its gradient, and of that times x.
        shape = len(rows), 1, rows.shape[2]
        self.slopes, self.products = (p.norm_weight.new_zeros(shape) for _ in range(2))

    def add_chunk(self, chunk: tuple[slice, slice], grad: Tensor, before: Tensor | None) -> None:
        p, sums, samples = self.prepared, self.sums, chunk[0]
        here = self.rows[chunk].to(p.inner)
        normed, *moments = p.normed(here, samples)
        if before is None:
            before = linear(normed, p.fc1_weight, p.fc1_bias)
        hidden = p.activated(before)
        if p.res_scale is not None:
            sums.add('res_scale', (grad * here).sum((0, 1)))
        # Without LayerScale first: its own gradient then follows from that of fc2.
        branch_grad = grad if p.drop_factor is None else grad * p.drop_factor[samples]
        sums.add('branch', branch_grad.sum((0, 1)))
        sums.add('product', outer(p.narrow(branch_grad.flatten(0, 1)), hidden))
        branch_grad = branch_grad if p.layer_scale is None else branch_grad * p.layer_scale
        hidden_grad = linear(p.narrow(branch_grad.flatten(0, 1)), p.fc2_weight.T)
        if p.act_scale is None:
            torch.ops.aten.gelu_backward(hidden_grad, before, grad_input=hidden_grad)
        else:
            hidden_grad.mul_(F.relu(before)).mul_(2)
        sums.add('fc1', outer(hidden_grad, normed))
        sums.add('fc1_bias', hidden_grad.sum(0, dtype=p.inner))
        normed_grad = linear(hidden_grad, p.fc1_weight.T).to(p.inner).view_as(here)
        self._through_norm(chunk, grad, here, normed_grad, moments)

    def _through_norm(self, chunk, grad, here, normed_grad, moments) -> None:
        p = self.prepared
        if not moments:
            self.x[chunk] = normed_grad
            self.slopes[chunk[0]] += normed_grad.sum(1, keepdim=True)
            self.products[chunk[0]] += normed_grad.mul_(here).sum(1, keepdim=True)
            return
        through, weight, bias = torch.ops.aten.native_layer_norm_backward(
            *(normed_grad, here, p.norm_weight.shape, *moments, p.norm_weight, p.norm_bias),
            [True, True, p.norm_bias is not None],
        )
        self.sums.add('norm_weight', weight)
        if bias is not None:
            self.sums.add('norm_bias', bias)
        self.x[chunk] = through + (grad if p.res_scale is None else grad * p.res_scale)

    def add_through_statistics(self, grad: Tensor) -> None:
        """Finish the norm over all of a sample, which needs the sums over all chunks."""
        p, count = self.prepared, self.rows[0].numel()
        # Sums of the gradient times the normalised x.
        products = p.rstd * (self.products - p.mean * self.slopes)
        self.sums.add('norm_weight', products.sum((0, 1)))
        self.sums.add('norm_bias', self.slopes.sum((0, 1)))
        slope = -(p.rstd**2) * (products * p.norm_weight).sum(2, keepdim=True) / count
        offset = -p.rstd * (self.slopes * p.norm_weight).sum(2, keepdim=True) / count
        offset = offset - slope * p.mean
        for chunk in chunks(self.rows, self.rows.shape[2], p.inner.itemsize):
            samples = chunk[0]
            through = torch.addcmul(offset[samples], self.rows[chunk].to(p.inner), slope[samples])
            through.addcmul_(self.x[chunk], p.scale[samples])
            here = grad[chunk].to(p.inner)
            through.add_(here) if p.res_scale is None else through.addcmul_(here, p.res_scale)
            self.x[chunk] = through

    def gradients(self, needed: tuple[bool, ...]) -> list[Tensor | None]:
        """Return the gradients of all parameters, in the order of the operation."""
        p, sums = self.prepared, self.sums.totals
        product, branch = sums['product'], sums['branch']
        fc2_weight, fc2_bias = p.given.fc2_weight.to(p.inner), p.given.fc2_bias
        act_scale = act_bias = layer_scale = None
        # In place and without temporaries: weights are larger than small maps.
        if p.act_scale is not None:
            scales = 1.0 if p.layer_scale is None else p.layer_scale
            act_scale = (_dot_rows(product, fc2_weight) * scales).sum()
            act_bias = (fc2_weight.sum(1) * branch * scales).sum()
            product.mul_(p.act_scale).add_(branch[:, None] * p.act_bias)
        if p.layer_scale is not None:
            layer_scale = _dot_rows(product, fc2_weight)
            if fc2_bias is not None:
                layer_scale += branch * fc2_bias
            product.mul_(p.layer_scale[:, None])
            branch = branch * p.layer_scale
        grads = [
            *(sums['norm_weight'], sums.get('norm_bias'), sums['fc1'], sums['fc1_bias']),
            *(product, branch, layer_scale, sums.get('res_scale'), None, act_scale, act_bias),
        ]
        return [
            grad.to(value.dtype).view_as(value) if need and value is not None else None
            for grad, value, need in zip(grads, p.given, needed, strict=True)
        ]


def _dot_rows(a: Tensor, b: Tensor) -> Tensor:
    """Return the scalar product of each row of ``a``, ``(N, C)``, with that of ``b``."""
    return torch.bmm(a[:, None], b[:, :, None]).flatten()


class _Sums:
    """Sums over chunks by name."""

    def __init__(self) -> None:
        self.totals: dict[str, Tensor] = {}

    def add(self, name: str, value: Tensor) -> None:
        if name in self.totals:
            self.totals[name] += value
        else:
            self.totals[name] = value
