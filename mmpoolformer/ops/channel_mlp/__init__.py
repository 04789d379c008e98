"""``res_scale * x + scale * fc2(act(fc1(norm(x))))``: the second half of a MetaFormer block."""

from __future__ import annotations

from torch import Tensor

from mmpoolformer.ops.channel_mlp import reference, torch_impl
from mmpoolformer.ops.channel_mlp.arguments import Options, Parameters
from mmpoolformer.ops.dispatch import choose


def channel_mlp(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor | None,
    fc1_weight: Tensor,
    fc1_bias: Tensor | None,
    fc2_weight: Tensor,
    fc2_bias: Tensor | None,
    layer_scale: Tensor | None = None,
    res_scale: Tensor | None = None,
    drop_factor: Tensor | None = None,
    act_scale: Tensor | None = None,
    act_bias: Tensor | None = None,
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
        norm_weight: ``(C,)``.
        norm_bias: ``(C,)`` or ``None``.
        fc1_weight: ``(hidden, C)``.
        fc1_bias: ``(hidden,)`` or ``None``.
        fc2_weight: ``(C, hidden)``.
        fc2_bias: ``(C,)`` or ``None``.
        layer_scale: ``(C,)``, factor of the branch, ``None`` for 1.
        res_scale: ``(C,)``, factor of the shortcut, ``None`` for 1.
        drop_factor: ``(B,)``, factor of the branch per sample (drop path: 0 or 1 / (1 - rate)).
            It gets no gradient.
        act_scale: ``(1,)``, the learnable scale of StarReLU.
        act_bias: ``(1,)``, the learnable bias of StarReLU.
        act: ``'gelu'`` (exact) or ``'star_relu'`` (``act_scale * relu(h)² + act_bias``).
        per_position: Whether the norm takes its statistics over the channels of each position
            (layer norm) instead of over all of a sample (one group).
        eps: Added to the variance.
        inplace: Whether ``x`` may be overwritten where nothing needs a gradient.
        fused: One of :data:`mmpoolformer.ops.IMPLEMENTATIONS`.

    Returns:
        ``(B, C, H, W)`` in the wider type of ``x`` and ``norm_weight``. The two products are
        computed in autocast's type under autocast, else in that of ``fc1_weight``.

    Raises:
        RuntimeError: If the implementation that ``fused`` names cannot run on the device of ``x``.
    """
    implementation = choose(fused, x)
    parameters = Parameters(
        *(norm_weight, norm_bias, fc1_weight, fc1_bias, fc2_weight, fc2_bias),
        *(layer_scale, res_scale, drop_factor, act_scale, act_bias),
    )
    options = Options(act, per_position, eps)
    if implementation == 'torch':
        return torch_impl.channel_mlp(x, parameters, options, inplace)
    if implementation == 'triton':
        from mmpoolformer.ops.channel_mlp import triton_impl

        return triton_impl.channel_mlp(x, parameters, options, inplace)
    return reference.channel_mlp(x, parameters, options)
