"""What the implementations take, in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class MLPParameters(NamedTuple):
    """All tensors but the input of :func:`mmpoolformer.ops.channel_mlp`."""

    norm_weight: Tensor  # (C,)
    norm_bias: Tensor | None  # (C,)
    fc1_weight: Tensor  # (hidden, C)
    fc1_bias: Tensor | None  # (hidden,)
    fc2_weight: Tensor  # (C, hidden)
    fc2_bias: Tensor | None  # (C,)
    layer_scale: Tensor | None = None  # (C,), factor of the branch; None for 1.
    res_scale: Tensor | None = None  # (C,), factor of the shortcut; None for 1.
    # (B,), factor of the branch per sample (drop path: 0 or 1 / (1 - rate)); it gets no gradient.
    drop_factor: Tensor | None = None
    act_scale: Tensor | None = None  # (1,), the learnable scale of StarReLU.
    act_bias: Tensor | None = None  # (1,), the learnable bias of StarReLU.

    def map(self, function: Callable[[Tensor], Tensor]) -> MLPParameters:
        """Return ``function`` of each that is not ``None``."""
        return MLPParameters(*(None if v is None else function(v) for v in self))


class Options(NamedTuple):
    """What is no tensor, see :func:`mmpoolformer.ops.channel_mlp`."""

    act: str
    per_position: bool
    eps: float


def product_dtype(x: Tensor, parameters: MLPParameters) -> torch.dtype:
    """Return the type of the two matrix products: that of autocast, else of the weights."""
    device = x.device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return parameters.fc1_weight.dtype


def learns(x: Tensor, parameters: MLPParameters) -> bool:
    """Return whether anything needs a gradient."""
    given = [v for v in (x, *parameters) if v is not None]
    return torch.is_grad_enabled() and any(v.requires_grad for v in given)
