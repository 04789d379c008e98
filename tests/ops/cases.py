"""Inputs for the fused operations, and what they are compared with."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mmpoolformer.ops import MLPParameters, PoolParameters

LAYOUTS = ('contiguous', 'channels_last', 'strided')


def lay_out(x: Tensor, layout: str) -> Tensor:
    """Return the same numbers in another memory format."""
    if layout == 'strided':  # Every other column of a wider map.
        wide = x.new_zeros(*x.shape[:3], 2 * x.shape[3])
        wide[..., ::2] = x
        return wide[..., ::2]
    channels_last = layout == 'channels_last'
    return x.contiguous(
        memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )


def pool_case(shape: tuple, *, dtype=torch.float32, layout='channels_last', parts='bsrd', mean=0.3):
    """Return the tensors of ``pool_mixer``; ``parts`` names what is not ``None``."""
    generator = torch.Generator().manual_seed(0)
    channels = shape[1]
    values = {'x': torch.randn(shape, generator=generator) + mean}
    for name in ('norm_weight', 'norm_bias', 'layer_scale', 'res_scale'):
        values[name] = torch.randn(channels, generator=generator)
    values['drop_factor'] = torch.tensor([0.0, 2.0, 1.25])[torch.arange(shape[0]) % 3]
    return _finish(values, dtype, layout, parts)


def mlp_case(
    shape: tuple, *, dtype=torch.float32, layout='channels_last', parts='bsrd', act='gelu', mean=0.3
):
    """Return the tensors of ``channel_mlp``; ``parts`` names what is not ``None``."""
    generator = torch.Generator().manual_seed(0)
    channels, hidden = shape[1], 3 * shape[1]
    sizes = {
        'norm_weight': (channels,), 'norm_bias': (channels,), 'fc1_weight': (hidden, channels),
        'fc1_bias': (hidden,), 'fc2_weight': (channels, hidden), 'fc2_bias': (channels,),
        'layer_scale': (channels,), 'res_scale': (channels,),
    }  # fmt: skip
    values = {'x': torch.randn(shape, generator=generator) + mean}
    for name, size in sizes.items():
        values[name] = torch.randn(size, generator=generator) / size[-1] ** (len(size) > 1) ** 0.5
    values['drop_factor'] = torch.tensor([0.0, 2.0, 1.25])[torch.arange(shape[0]) % 3]
    star = act == 'star_relu'
    values['act_scale'] = torch.tensor([0.9]) if star else None
    values['act_bias'] = torch.tensor([-0.4]) if star else None
    return _finish(values, dtype, layout, parts)


def _finish(values: dict, dtype: torch.dtype, layout: str, parts: str) -> dict:
    for name, part in (
        ('norm_bias', 'b'), ('fc1_bias', 'b'), ('fc2_bias', 'b'), ('layer_scale', 's'),
        ('res_scale', 'r'), ('drop_factor', 'd'),
    ):  # fmt: skip
        if part not in parts and name in values:
            values[name] = None
    values = {name: None if v is None else v.to(dtype) for name, v in values.items()}
    return {**values, 'x': lay_out(values['x'], layout)}


def pack(values: dict) -> tuple[Tensor, PoolParameters | MLPParameters]:
    """Return the tensors as an operation takes them: the input, and all parameters."""
    kind = MLPParameters if 'fc1_weight' in values else PoolParameters
    return values['x'], kind(**{name: v for name, v in values.items() if name != 'x'})


def run(operation, values: dict, **options) -> dict[str, Tensor]:
    """Return the output as ``'y'`` and the gradient of every tensor by its name, in fp64."""
    leaves = {
        name: None if value is None else value.detach().requires_grad_(name != 'drop_factor')
        for name, value in values.items()
    }
    y = operation(*pack(leaves), **options)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y)
    wanted = [name for name, leaf in leaves.items() if leaf is not None and leaf.requires_grad]
    found = torch.autograd.grad(y, [leaves[name] for name in wanted], weights, allow_unused=True)
    grads = {
        name: torch.zeros_like(leaves[name]) if grad is None else grad
        for name, grad in zip(wanted, found, strict=True)
    }
    return {'y': y.detach().double(), **{name: grad.double() for name, grad in grads.items()}}


def truth(operation, values: dict, **options) -> dict[str, Tensor]:
    """Return what :func:`run` returns of the reference, computed in fp64 from the same numbers."""
    wide = {name: None if value is None else value.double() for name, value in values.items()}
    return run(operation, wide, fused='reference', **options)


def errors(actual: dict, expected: dict) -> dict[str, float]:
    """Return the largest error of each tensor relative to its largest number."""
    assert actual.keys() == expected.keys()
    return {
        name: float((actual[name] - expected[name]).abs().max() / scale_of(expected[name]))
        for name in expected
    }


def scale_of(value: Tensor) -> float:
    return max(float(value.abs().max()), 0.1)


def _add(x: Tensor, branch: Tensor, p: PoolParameters | MLPParameters) -> Tensor:
    if p.layer_scale is not None:
        branch = branch * p.layer_scale[:, None, None]
    if p.drop_factor is not None:
        branch = branch * p.drop_factor[:, None, None, None]
    return (x if p.res_scale is None else x * p.res_scale[:, None, None]) + branch


def plain_pool_mixer(x: Tensor, p: PoolParameters, pool_size: int) -> Tensor:
    """The modules of a block, one after the other, in the type of ``x``."""
    normed = F.group_norm(x, 1, p.norm_weight, p.norm_bias, 1e-5)
    pooled = F.avg_pool2d(normed, pool_size, 1, pool_size // 2, count_include_pad=False)
    return _add(x, pooled - normed, p)


def plain_channel_mlp(x: Tensor, p: MLPParameters, act: str, per_position: bool) -> Tensor:
    """The modules of a block, one after the other, in the type of ``x``."""
    if per_position:
        channels = p.norm_weight.shape
        normed = F.layer_norm(x.movedim(1, 3), channels, p.norm_weight, p.norm_bias, 1e-5)
        normed = normed.movedim(3, 1)
    else:
        normed = F.group_norm(x, 1, p.norm_weight, p.norm_bias, 1e-5)
    hidden = F.conv2d(normed, p.fc1_weight[..., None, None], p.fc1_bias)
    activated = F.gelu(hidden)
    if act == 'star_relu':
        activated = p.act_scale * F.relu(hidden).square() + p.act_bias
    branch = F.conv2d(activated, p.fc2_weight[..., None, None], p.fc2_bias)
    return _add(x, branch, p)
