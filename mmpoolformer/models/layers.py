"""The parts every MetaFormer is made of, apart from its token mixers."""

from __future__ import annotations

import torch
from mmcv.cnn import build_activation_layer, build_norm_layer
from torch import Tensor, nn
from torch.nn import functional as F

from mmpoolformer.ops.tokens import in_cheaper_format


class SquaredReLU(nn.Module):
    """``relu(x)²`` (arXiv 2109.08668)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x).square()


class StarReLU(nn.Module):
    """``scale · relu(x)² + bias`` with two learnable numbers (arXiv 2210.13452, equation 6).

    Args:
        scale: Initial scale. 0.8944 keeps unit variance; the authors' models start at 1.
        bias: Initial bias. -0.4472 keeps zero mean; the authors' models start at 0.
        learnable: Whether the two numbers are trained.
    """

    def __init__(self, scale: float = 1.0, bias: float = 0.0, learnable: bool = True) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), scale), requires_grad=learnable)
        self.bias = nn.Parameter(torch.full((1,), bias), requires_grad=learnable)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.relu(x).square() + self.bias


class ChannelLayerNorm(nn.LayerNorm):
    """Layer norm over the channels of each position, on ``(B, C, H, W)``."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        return super().forward(x).permute(0, 3, 1, 2)


_ACTIVATIONS = {'SquaredReLU': SquaredReLU, 'StarReLU': StarReLU}


def build_activation(act_cfg: dict) -> nn.Module:
    """Build an activation: ``'SquaredReLU'``, ``'StarReLU'``, or any that mmcv knows."""
    options = dict(act_cfg)
    if options.get('type') not in _ACTIVATIONS:
        return build_activation_layer(options)
    return _ACTIVATIONS[options.pop('type')](**options)


def build_norm(norm_cfg: dict, dim: int) -> nn.Module:
    """Build a norm on ``(B, dim, H, W)`` from an OpenMMLab ``norm_cfg``.

    The paper's "modified layer norm" is ``dict(type='GN', num_groups=1)``: statistics over
    channels and positions of one image, an affine map per channel. ``'LN2d'`` takes its statistics
    over the channels of each position, ``'Identity'`` is no norm at all, and ``bias=False`` leaves
    any norm without an offset.

    Raises:
        ValueError: For ``'LN'``, which normalises the last axis and would mix up widths here.
    """
    options = dict(norm_cfg)
    kind, bias = options.get('type'), options.pop('bias', True)
    if kind == 'LN':
        raise ValueError(
            "norm_cfg=dict(type='LN') normalises the last axis, but features are (B, C, H, W): "
            "use dict(type='GN', num_groups=1), the paper's modified layer norm, or "
            "dict(type='LN2d'), layer norm over channels"
        )
    if kind == 'Identity':
        return nn.Identity()
    if kind == 'LN2d':
        del options['type']
        return ChannelLayerNorm(dim, bias=bias, **options)
    norm = build_norm_layer(options, dim)[1]
    if not bias:
        norm.register_parameter('bias', None)
    return norm


class Scale(nn.Module):
    """Learnable factor per channel, on ``(B, C, H, W)``.

    On a residual branch it is LayerScale (arXiv 2103.17239) or, starting at 1, BranchScale; on the
    shortcut it is ResScale (arXiv 2110.09456).
    """

    def __init__(self, dim: int, init_value: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((dim,), init_value))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale[:, None, None]


class ChannelMLP(nn.Module):
    """Two 1x1 convolutions with an activation between them, on ``(B, C, H, W)``."""

    def __init__(
        self,
        dim: int,
        mlp_ratio: float = 4.0,
        act_cfg: dict | None = None,
        drop_rate: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.fc1 = nn.Conv2d(dim, hidden, 1, bias=bias)
        self.act = build_activation(act_cfg or dict(type='GELU'))
        self.fc2 = nn.Conv2d(hidden, dim, 1, bias=bias)
        self.drop = nn.Dropout(drop_rate)
        init_truncated(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.act(self.fc1(x)))
        return self.drop(self.fc2(x))


class Downsampling(nn.Module):
    """A strided convolution between two resolutions, with a norm before or after it, or none."""

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        kernel_size: int,
        stride: int,
        padding: int,
        *,
        pre_norm_cfg: dict | None = None,
        post_norm_cfg: dict | None = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dim, out_dim, kernel_size, stride, padding)
        self.norm_first = pre_norm_cfg is not None
        if self.norm_first:
            self.norm = build_norm(pre_norm_cfg, in_dim)
        elif post_norm_cfg is not None:
            self.norm = build_norm(post_norm_cfg, out_dim)
        else:
            self.norm = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if self.norm_first:
            return self.conv(in_cheaper_format(self.norm(x), self.conv.weight))
        return self.norm(self.conv(in_cheaper_format(x, self.conv.weight)))


def init_truncated(module: nn.Module) -> None:
    """Set all matrices and kernels to a truncated normal of deviation 0.02, their biases to 0."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
