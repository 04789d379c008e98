"""The general block of a MetaFormer, and the stages that blocks make."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmpoolformer.models import fusion
from mmpoolformer.models.layers import ChannelMLP, Scale, build_norm
from mmpoolformer.models.token_mixers import build_token_mixer
from mmpoolformer.ops.dispatch import check_name

TokenMixer = Mapping | Callable[[int], nn.Module]


class MetaFormerBlock(nn.Module):
    """Token mixing, then channel mixing, each normalised, scaled and residual.

    ``x + scale1 * mixer(norm1(x))``, then ``x + scale2 * mlp(norm2(x))`` (paper, equations 2, 3),
    on ``(B, dim, H, W)``; with ResScale each ``x`` before the plus has a learnable factor, too.

    Args:
        dim: Channels.
        token_mixer: Config of the mixer, or a builder ``dim -> module``.
        mlp_ratio: Hidden channels of the MLP over ``dim``, ``None`` for no MLP.
        norm_cfg: Config of both norms.
        act_cfg: Config of the MLP's activation.
        drop_rate: Dropout probability in the MLP.
        drop_path_rate: Probability that a sample skips a residual branch.
        layer_scale: Initial value of both LayerScales, ``None`` for none.
        res_scale: Initial value of both ResScales, ``None`` for none.
        mlp_bias: Whether the MLP has biases.
        residual: Whether each branch is added to its input.
        fused: Implementation of what :mod:`mmpoolformer.ops` has as one operation.
    """

    def __init__(
        self,
        dim: int,
        token_mixer: TokenMixer,
        *,
        mlp_ratio: float | None,
        norm_cfg: dict,
        act_cfg: dict,
        drop_rate: float,
        drop_path_rate: float,
        layer_scale: float | None,
        res_scale: float | None = None,
        mlp_bias: bool = True,
        residual: bool = True,
        fused: str = 'auto',
    ) -> None:
        super().__init__()
        self.residual = residual
        self.fused = check_name(fused)
        if not residual:
            res_scale = None

        def scale(init_value: float | None) -> nn.Module:
            return nn.Identity() if init_value is None else Scale(dim, init_value)

        self.norm1 = build_norm(norm_cfg, dim)
        self.token_mixer = build_token_mixer(token_mixer, dim)
        self.layer_scale1 = scale(layer_scale)
        self.res_scale1 = scale(res_scale)
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate > 0 else nn.Identity()
        self.mlp = None
        if mlp_ratio is not None:
            self.norm2 = build_norm(norm_cfg, dim)
            self.mlp = ChannelMLP(dim, mlp_ratio, act_cfg, drop_rate, mlp_bias)
            self.layer_scale2 = scale(layer_scale)
            self.res_scale2 = scale(res_scale)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mix_tokens(x)
        # With a residual the first half returns a new tensor, which the second may overwrite.
        return x if self.mlp is None else self.mix_channels(x, inplace=self.residual)

    def mix_tokens(self, x: Tensor) -> Tensor:
        """Compute the first half, on ``(B, dim, H, W)``."""
        if (y := fusion.mix_tokens(self, x)) is not None:
            return y
        branch = self.drop_path(self.layer_scale1(self.token_mixer(self.norm1(x))))
        return self.res_scale1(x) + branch if self.residual else branch

    def mix_channels(self, x: Tensor, *, inplace: bool = False) -> Tensor:
        """Compute the second half, on ``(B, dim, H, W)``, which ``inplace`` lets it overwrite."""
        if (y := fusion.mix_channels(self, x, inplace)) is not None:
            return y
        branch = self.drop_path(self.layer_scale2(self.mlp(self.norm2(x))))
        return self.res_scale2(x) + branch if self.residual else branch


class MetaFormerStage(nn.Module):
    """Down-sampling (none in the first stage, whose stem did it), then blocks.

    Args:
        downsample: Module in front of the blocks.
        blocks: Blocks, applied in order.
        with_cp: Whether to recompute each block in the backward pass to save memory.
    """

    def __init__(self, downsample: nn.Module, blocks: Sequence[nn.Module], with_cp: bool) -> None:
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.ModuleList(blocks)
        self.with_cp = with_cp

    def forward(self, x: Tensor) -> Tensor:
        x = self.downsample(x)
        recompute = self.with_cp and self.training and torch.is_grad_enabled()
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
        return x
