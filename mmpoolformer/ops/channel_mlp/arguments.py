"""What the implementations take, in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Parameters(NamedTuple):
    """All tensors but the input, see :func:`mmpoolformer.ops.channel_mlp`."""

    norm_weight: Tensor
    norm_bias: Tensor | None
    fc1_weight: Tensor
    fc1_bias: Tensor | None
    fc2_weight: Tensor
    fc2_bias: Tensor | None
    layer_scale: Tensor | None
    res_scale: Tensor | None
    drop_factor: Tensor | None
    act_scale: Tensor | None
    act_bias: Tensor | None

    def map(self, function: Callable[[Tensor], Tensor]) -> Parameters:
        """Return ``function`` of each that is not ``None``."""
        return Parameters(*(None if v is None else function(v) for v in self))


class Options(NamedTuple):
    """What is no tensor, see :func:`mmpoolformer.ops.channel_mlp`."""

    act: str
    per_position: bool
    eps: float


def product_dtype(x: Tensor, parameters: Parameters) -> torch.dtype:
    """Return the type of the two matrix products: that of autocast, else of the weights."""
    device = x.device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return parameters.fc1_weight.dtype


def learns(x: Tensor, parameters: Parameters) -> bool:
    """Return whether anything needs a gradient."""
    given = [v for v in (x, *parameters) if v is not None]
    return torch.is_grad_enabled() and any(v.requires_grad for v in given)
