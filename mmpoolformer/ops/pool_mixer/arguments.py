"""What the implementations take, in one place."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class PoolParameters(NamedTuple):
    """All tensors but the input of :func:`mmpoolformer.ops.pool_mixer`."""

    norm_weight: Tensor  # (C,)
    norm_bias: Tensor | None = None  # (C,). It cancels; its gradient is exactly zero.
    layer_scale: Tensor | None = None  # (C,), factor of the branch; None for 1.
    res_scale: Tensor | None = None  # (C,), factor of the shortcut; None for 1.
    # (B,), factor of the branch per sample (drop path: 0 or 1 / (1 - rate)); it gets no gradient.
    drop_factor: Tensor | None = None
