"""What the operation means, in plain PyTorch; sums and norms are fp32 or wider inside."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


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
    dtype = torch.promote_types(x.dtype, norm_weight.dtype)
    inner = torch.promote_types(dtype, torch.float32)

    def cast(value: Tensor | None) -> Tensor | None:
        return None if value is None else value.to(inner)

    with torch.autocast(x.device.type, enabled=False):
        x, weight, bias = x.to(inner), cast(norm_weight), cast(norm_bias)
        if per_position:
            normed = F.layer_norm(x.movedim(1, 3), weight.shape, weight, bias, eps)
        else:
            normed = F.group_norm(x, 1, weight, bias, eps).movedim(1, 3)
        hidden = F.linear(normed, cast(fc1_weight), cast(fc1_bias))
        if act == 'gelu':
            hidden = F.gelu(hidden)
        else:
            hidden = cast(act_scale) * F.relu(hidden).square() + cast(act_bias)
        branch = F.linear(hidden, cast(fc2_weight), cast(fc2_bias)).movedim(3, 1)
        if layer_scale is not None:
            branch = branch * cast(layer_scale)[:, None, None]
        if drop_factor is not None:
            branch = branch * cast(drop_factor)[:, None, None, None]
        shortcut = x if res_scale is None else x * cast(res_scale)[:, None, None]
        return (shortcut + branch).to(dtype)
