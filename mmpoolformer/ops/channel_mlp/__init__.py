"""``res_scale * x + scale * fc2(act(fc1(norm(x))))``: the second half of a MetaFormer block."""

from __future__ import annotations

from torch import Tensor

from mmpoolformer.ops.channel_mlp import reference, torch_impl
from mmpoolformer.ops.channel_mlp.arguments import MLPParameters, Options
from mmpoolformer.ops.dispatch import choose

__all__ = ['MLPParameters', 'channel_mlp']


def channel_mlp(
    x: Tensor,
    parameters: MLPParameters,
    *,
    act: str = 'gelu',
    per_position: bool = False,
    eps: float = 1e-5,
    inplace: bool = False,
    fused: str = 'auto',
) -> Tensor:
    """Normalise, apply a multi-layer perceptron to the channels, scale, and add to the input.

    Args:
        x: ``(B, C, H, W)``, any memory format.
        parameters: Weights of the norm and of the two layers, scales, and those of StarReLU.
        act: ``'gelu'`` (exact) or ``'star_relu'`` (``act_scale * relu(h)² + act_bias``).
        per_position: Whether the norm takes its statistics over the channels of each position
            (layer norm) instead of over all of a sample (one group).
        eps: Added to the variance.
        inplace: Whether ``x`` may be overwritten where nothing needs a gradient.
        fused: One of :data:`mmpoolformer.ops.IMPLEMENTATIONS`.

    Returns:
        ``(B, C, H, W)`` in the wider type of ``x`` and the norm's weight. The two products are
        computed in autocast's type under autocast, else in that of ``fc1_weight``.

    Raises:
        RuntimeError: If the implementation that ``fused`` names cannot run on the device of ``x``.
        ValueError: If ``fused`` is no implementation.
    """
    implementation = choose(fused, x)
    options = Options(act, per_position, eps)
    if implementation == 'torch':
        return torch_impl.channel_mlp(x, parameters, options, inplace)
    if implementation == 'triton':
        from mmpoolformer.ops.channel_mlp import triton_impl

        return triton_impl.channel_mlp(x, parameters, options, inplace)
    return reference.channel_mlp(x, parameters, options)
