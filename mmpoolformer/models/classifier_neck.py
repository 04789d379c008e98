"""What the classifiers of "MetaFormer Baselines for Vision" have before their last layer."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from mmpoolformer.models.layers import SquaredReLU, init_truncated
from mmpoolformer.registry import MODELS


@MODELS.register_module()
class ClassifierNeck(nn.Module):
    """Global average pooling, then a norm, then the hidden layer of an MLP head if there is one.

    With mmpretrain's LinearClsHead behind it, whose ``in_channels`` are ``dim``, or ``dim *
    mlp_ratio`` with an MLP, it is the head of the authors' classifiers (arXiv 2210.13452,
    sail-sg/metaformer): ConvFormer and CAFormer have the MLP, the others do not.

    Args:
        dim: Channels of the last map.
        mlp_ratio: Channels of the hidden layer over ``dim``, ``None`` for no such layer.
        drop_rate: Dropout probability in the hidden layer.

    Raises:
        ValueError: If ``drop_rate`` is given without a hidden layer.

    Example:
        >>> import torch
        >>> (features,) = ClassifierNeck(dim=8, mlp_ratio=4)((torch.rand(1, 8, 7, 7),))
        >>> features.shape
        torch.Size([1, 32])
    """

    def __init__(self, dim: int, mlp_ratio: float | None = None, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Identity()
        if mlp_ratio is None:
            if drop_rate:
                raise ValueError(f'drop_rate={drop_rate}: only an MLP has dropout, set mlp_ratio=4')
            return
        hidden = int(dim * mlp_ratio)
        parts = OrderedDict(
            fc1=nn.Linear(dim, hidden),
            act=SquaredReLU(),
            norm=nn.LayerNorm(hidden),  # eps 1e-5 as the authors', where timm has 1e-6.
            drop=nn.Dropout(drop_rate),
        )
        self.mlp = nn.Sequential(parts)
        init_truncated(self)

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor]:
        """Turn the last of ``features``, ``(B, dim, H, W)``, into one ``(B, channels)``."""
        return (self.mlp(self.norm(features[-1].mean(dim=(2, 3)))),)
