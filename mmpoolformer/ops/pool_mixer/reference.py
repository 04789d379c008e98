"""What the operation means, in plain PyTorch; numbers are fp32 or wider inside."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def pool_mixer(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor | None,
    layer_scale: Tensor | None,
    res_scale: Tensor | None,
    drop_factor: Tensor | None,
    pool_size: int,
    eps: float,
) -> Tensor:
    """Compute it; see :func:`mmpoolformer.ops.pool_mixer`."""
    dtype = torch.promote_types(x.dtype, norm_weight.dtype)
    inner = torch.promote_types(dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        x, weight = x.to(inner), norm_weight.to(inner)
        bias = None if norm_bias is None else norm_bias.to(inner)
        normed = F.group_norm(x, 1, weight, bias, eps)
        pooled = F.avg_pool2d(
            normed, pool_size, stride=1, padding=pool_size // 2, count_include_pad=False
        )
        branch = pooled - normed
        if layer_scale is not None:
            branch = branch * layer_scale.to(inner)[:, None, None]
        if drop_factor is not None:
            branch = branch * drop_factor.to(inner)[:, None, None, None]
        shortcut = x if res_scale is None else x * res_scale.to(inner)[:, None, None]
        return (shortcut + branch).to(dtype)
