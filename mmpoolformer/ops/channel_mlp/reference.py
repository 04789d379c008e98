"""What the operation means, in plain PyTorch; sums and norms are fp32 or wider inside."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mmpoolformer.ops.channel_mlp.arguments import MLPParameters, Options


def channel_mlp(x: Tensor, parameters: MLPParameters, options: Options) -> Tensor:
    """Compute it; see :func:`mmpoolformer.ops.channel_mlp`."""
    dtype = torch.promote_types(x.dtype, parameters.norm_weight.dtype)
    inner = torch.promote_types(dtype, torch.float32)
    p = parameters.map(lambda value: value.to(inner))
    with torch.autocast(x.device.type, enabled=False):
        x = x.to(inner)
        if options.per_position:
            size = p.norm_weight.shape
            normed = F.layer_norm(x.movedim(1, 3), size, p.norm_weight, p.norm_bias, options.eps)
        else:
            normed = F.group_norm(x, 1, p.norm_weight, p.norm_bias, options.eps).movedim(1, 3)
        hidden = F.linear(normed, p.fc1_weight, p.fc1_bias)
        if options.act == 'gelu':
            hidden = F.gelu(hidden)
        else:
            hidden = p.act_scale * F.relu(hidden).square() + p.act_bias
        branch = F.linear(hidden, p.fc2_weight, p.fc2_bias).movedim(3, 1)
        if p.layer_scale is not None:
            branch = branch * p.layer_scale[:, None, None]
        if p.drop_factor is not None:
            branch = branch * p.drop_factor[:, None, None, None]
        shortcut = x if p.res_scale is None else x * p.res_scale[:, None, None]
        return (shortcut + branch).to(dtype)
