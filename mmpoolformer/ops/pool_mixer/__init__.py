"""``res_scale * x + scale * (pool(norm(x)) - norm(x))``: the first half of a PoolFormer block."""

from __future__ import annotations

from torch import Tensor

from mmpoolformer.ops.dispatch import choose
from mmpoolformer.ops.pool_mixer import reference, torch_impl
from mmpoolformer.ops.pool_mixer.arguments import PoolParameters

__all__ = ['PoolParameters', 'pool_mixer']


def pool_mixer(
    x: Tensor,
    parameters: PoolParameters,
    *,
    pool_size: int = 3,
    eps: float = 1e-5,
    fused: str = 'auto',
) -> Tensor:
    """Normalise with one group, pool, subtract, scale, and add to the input.

    Args:
        x: ``(B, C, H, W)``, any memory format.
        parameters: Weight of the norm, and scales.
        pool_size: Side of the window, odd; what lies outside the map does not count.
        eps: Added to the variance.
        fused: One of :data:`mmpoolformer.ops.IMPLEMENTATIONS`.

    Returns:
        ``(B, C, H, W)`` in the wider type of ``x`` and the norm's weight.

    Raises:
        RuntimeError: If the implementation that ``fused`` names cannot run on the device of ``x``.
        ValueError: If ``fused`` is no implementation.
    """
    implementation = choose(fused, x)
    if implementation == 'triton':
        from mmpoolformer.ops.pool_mixer import triton_impl as module
    else:
        module = torch_impl if implementation == 'torch' else reference
    return module.pool_mixer(x, parameters, pool_size, eps)
