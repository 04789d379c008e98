"""The parts every MetaFormer is made of, apart from its token mixers."""

from __future__ import annotations

import torch
from mmcv.cnn import build_activation_layer, build_norm_layer
from torch import Tensor, nn


def build_norm(norm_cfg: dict, dim: int) -> nn.Module:
    """Build a norm on ``(B, dim, H, W)`` from an OpenMMLab ``norm_cfg``.

    The paper's "modified layer norm" is ``dict(type='GN', num_groups=1)``: statistics over
    channels and positions of one image, an affine map per channel.

    Raises:
        ValueError: For ``'LN'``, which normalises the last axis and would mix up widths here.
    """
    if norm_cfg.get('type') == 'LN':
        raise ValueError(
            "norm_cfg=dict(type='LN') normalises the last axis, but features are (B, C, H, W): "
            "use dict(type='GN', num_groups=1), the paper's modified layer norm"
        )
    return build_norm_layer(norm_cfg, dim)[1]


class LayerScale(nn.Module):
    """Learnable scale per channel on a residual branch (arXiv 2103.17239), ``(B, C, H, W)``."""

    def __init__(self, dim: int, init_value: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((dim,), init_value))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale[:, None, None]


class ChannelMLP(nn.Module):
    """Two 1x1 convolutions with an activation between them, on ``(B, C, H, W)``."""

    def __init__(
        self, dim: int, mlp_ratio: float = 4.0, act_cfg: dict | None = None, drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.fc1 = nn.Conv2d(dim, hidden, 1)
        self.act = build_activation_layer(act_cfg or dict(type='GELU'))
        self.fc2 = nn.Conv2d(hidden, dim, 1)
        self.drop = nn.Dropout(drop_rate)
        for fc in (self.fc1, self.fc2):
            nn.init.trunc_normal_(fc.weight, std=0.02)
            nn.init.zeros_(fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.act(self.fc1(x)))
        return self.drop(self.fc2(x))


class Downsampling(nn.Module):
    """A strided convolution between two resolutions."""

    def __init__(
        self, in_dim: int, out_dim: int, kernel_size: int, stride: int, padding: int
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dim, out_dim, kernel_size, stride, padding)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)
