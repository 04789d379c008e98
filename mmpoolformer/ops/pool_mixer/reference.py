"""What the operation means, in plain PyTorch; numbers are fp32 or wider inside."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mmpoolformer.ops.pool_mixer.arguments import PoolParameters


def pool_mixer(x: Tensor, parameters: PoolParameters, pool_size: int, eps: float) -> Tensor:
    """Compute it; see :func:`mmpoolformer.ops.pool_mixer`."""
    dtype = torch.promote_types(x.dtype, parameters.norm_weight.dtype)
    inner = torch.promote_types(dtype, torch.float32)
    p = PoolParameters(*(None if value is None else value.to(inner) for value in parameters))
    with torch.autocast(x.device.type, enabled=False):
        x = x.to(inner)
        normed = F.group_norm(x, 1, p.norm_weight, p.norm_bias, eps)
        pooled = F.avg_pool2d(
            normed, pool_size, stride=1, padding=pool_size // 2, count_include_pad=False
        )
        branch = pooled - normed
        if p.layer_scale is not None:
            branch = branch * p.layer_scale[:, None, None]
        if p.drop_factor is not None:
            branch = branch * p.drop_factor[:, None, None, None]
        shortcut = x if p.res_scale is None else x * p.res_scale[:, None, None]
        return (shortcut + branch).to(dtype)
