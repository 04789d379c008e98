"""``res_scale * x + scale * (pool(norm(x)) - norm(x))``: the first half of a PoolFormer block."""

from __future__ import annotations

from torch import Tensor

from mmpoolformer.ops.dispatch import choose
from mmpoolformer.ops.pool_mixer import reference, torch_impl


def pool_mixer(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor | None = None,
    layer_scale: Tensor | None = None,
    res_scale: Tensor | None = None,
    drop_factor: Tensor | None = None,
    *,
    pool_size: int = 3,
    eps: float = 1e-5,
    fused: str = 'auto',
) -> Tensor:
    """Normalise with one group, pool, subtract, scale, and add to the input.

    Args:
        x: ``(B, C, H, W)``, any memory format.
        norm_weight: ``(C,)``.
        norm_bias: ``(C,)``. It cancels; its gradient is exactly zero.
        layer_scale: ``(C,)``, factor of the branch, ``None`` for 1.
        res_scale: ``(C,)``, factor of the shortcut, ``None`` for 1.
        drop_factor: ``(B,)``, factor of the branch per sample (drop path: 0 or 1 / (1 - rate)).
            It gets no gradient.
        pool_size: Side of the window, odd; what lies outside the map does not count.
        eps: Added to the variance.
        fused: One of :data:`mmpoolformer.ops.IMPLEMENTATIONS`.

    Returns:
        ``(B, C, H, W)`` in the wider type of ``x`` and ``norm_weight``.

    Raises:
        RuntimeError: If the implementation that ``fused`` names cannot run on the device of ``x``.
    """
    implementation = choose(fused, x)
    if implementation == 'triton':
        from mmpoolformer.ops.pool_mixer import triton_impl as module
    else:
        module = {'reference': reference, 'torch': torch_impl}[implementation]
    return module.pool_mixer(
        *(x, norm_weight, norm_bias, layer_scale, res_scale, drop_factor),
        *(pool_size, eps),
    )
