"""The registered backbones: each states only how it differs from ``MetaFormer``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from mmpoolformer.models.blocks import TokenMixer
from mmpoolformer.models.layers import init_truncated
from mmpoolformer.models.metaformer import MetaFormer
from mmpoolformer.registry import MODELS
from mmpoolformer.zoo.archs import get_arch


@MODELS.register_module()
class PoolFormer(MetaFormer):
    """MetaFormer whose token mixer is average pooling (arXiv 2111.11418).

    Args:
        arch: ``'s12'``, ``'s24'``, ``'s36'``, ``'m36'``, ``'m48'``, or a mapping such as
            ``dict(depths=(2, 2, 6, 2), dims=(64, 128, 320, 512))``.
        pool_size: Side of the pooling window, odd.

    The other arguments are those of :class:`MetaFormer`.

    Example:
        >>> features = PoolFormer(arch='s12', out_indices=(1, 2, 3))(torch.rand(1, 3, 64, 96))
        >>> [tuple(f.shape) for f in features]
        [(1, 128, 8, 12), (1, 320, 4, 6), (1, 512, 2, 3)]
    """

    def __init__(
        self,
        arch: str | Mapping = 's12',
        pool_size: int = 3,
        *,
        in_channels: int = 3,
        mlp_ratio: float | Sequence[float | None] | None = 4.0,
        norm_cfg: dict | Sequence[dict] | None = None,
        out_norm_cfg: dict | None = None,
        act_cfg: dict | Sequence[dict] | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        layer_scale: float | str | Sequence[float | None] | None = 'arch',
        residual: bool | Sequence[bool] = True,
        out_indices: int | Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        fused: str = 'auto',
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(
            get_arch('poolformer', arch),
            dict(type='Pooling', pool_size=pool_size),
            in_channels=in_channels,
            mlp_ratio=mlp_ratio,
            norm_cfg=norm_cfg,
            out_norm_cfg=out_norm_cfg,
            act_cfg=act_cfg,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
            layer_scale=layer_scale,
            residual=residual,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            with_cp=with_cp,
            fused=fused,
            init_cfg=init_cfg,
        )


_GROUP_NORM = dict(type='GN', num_groups=1, eps=1e-6, bias=False)
_CHANNEL_NORM = dict(type='LN2d', eps=1e-6, bias=False)
_IDENTITY = dict(type='Identity')
_POOLING = dict(type='Pooling')
_SEP_CONV = dict(type='SepConv')
_ATTENTION = dict(type='Attention')


class MetaFormerBaseline(MetaFormer):
    """What the models of "MetaFormer Baselines for Vision" (arXiv 2210.13452) have in common.

    StarReLU; norms without offset, also around the down-samplings; MLPs without biases; ResScale in
    the last two stages instead of LayerScale. A family names its token mixers and its norm.

    Args:
        arch: Size, such as ``'s12'``, or a mapping as for :class:`PoolFormer`; the family's
            smallest by default.
        token_mixers: Others than the family's own.

    The other arguments are those of :class:`MetaFormer`.
    """

    family: ClassVar[str]
    smallest: ClassVar[str] = 's12'
    mixers: ClassVar[Mapping | Sequence[Mapping]]
    norm: ClassVar[Mapping] = _GROUP_NORM
    norm_before_pooling = False

    def __init__(
        self,
        arch: str | Mapping | None = None,
        *,
        token_mixers: TokenMixer | Sequence[TokenMixer] | None = None,
        in_channels: int = 3,
        norm_cfg: dict | Sequence[dict] | None = None,
        out_norm_cfg: dict | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        out_indices: int | Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        fused: str = 'auto',
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(
            get_arch(self.family, arch or self.smallest),
            token_mixers or self.mixers,
            in_channels=in_channels,
            norm_cfg=norm_cfg or dict(self.norm),
            downsample_norm_cfg=_CHANNEL_NORM,
            out_norm_cfg=out_norm_cfg,
            act_cfg=dict(type='StarReLU'),
            mlp_bias=False,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
            layer_scale=None,
            res_scale=(None, None, 1.0, 1.0),
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            with_cp=with_cp,
            fused=fused,
            init_cfg=init_cfg,
        )
        init_truncated(self)


@MODELS.register_module()
class IdentityFormer(MetaFormerBaseline):
    """MetaFormer that mixes no tokens at all, ``arch`` from ``'s12'`` to ``'m48'``."""

    family = 'identityformer'
    mixers = _IDENTITY


@MODELS.register_module()
class RandFormer(MetaFormerBaseline):
    """MetaFormer whose last two stages mix tokens by fixed random matrices.

    Args:
        arch: ``'s12'`` to ``'m48'``, or a mapping as for :class:`PoolFormer`.
        img_size: Side of the images the matrices are made for, a multiple of 32.
        interpolate: Whether to resample the matrices for other images, which otherwise are errors.

    The other arguments are those of :class:`MetaFormer`.
    """

    family = 'randformer'

    def __init__(
        self,
        arch: str | Mapping = 's12',
        img_size: int = 224,
        interpolate: bool = False,
        *,
        in_channels: int = 3,
        norm_cfg: dict | Sequence[dict] | None = None,
        out_norm_cfg: dict | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        out_indices: int | Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        fused: str = 'auto',
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        mixing = dict(type='RandomMixing', interpolate=interpolate)
        super().__init__(
            arch,
            token_mixers=(
                _IDENTITY,
                _IDENTITY,
                dict(mixing, size=img_size // 16),
                dict(mixing, size=img_size // 32),
            ),
            in_channels=in_channels,
            norm_cfg=norm_cfg,
            out_norm_cfg=out_norm_cfg,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            with_cp=with_cp,
            fused=fused,
            init_cfg=init_cfg,
        )


@MODELS.register_module()
class PoolFormerV2(MetaFormerBaseline):
    """MetaFormer whose token mixer is average pooling, ``arch`` from ``'s12'`` to ``'m48'``."""

    family = 'poolformerv2'
    mixers = _POOLING


@MODELS.register_module()
class ConvFormer(MetaFormerBaseline):
    """MetaFormer of separable convolutions, ``arch`` from ``'s18'`` to ``'b36'``."""

    family = 'convformer'
    smallest = 's18'
    mixers = _SEP_CONV
    norm = _CHANNEL_NORM


@MODELS.register_module()
class CAFormer(MetaFormerBaseline):
    """Separable convolutions, then attention in the last two stages; ``'s18'`` to ``'b36'``."""

    family = 'caformer'
    smallest = 's18'
    mixers = (_SEP_CONV, _SEP_CONV, _ATTENTION, _ATTENTION)
    norm = _CHANNEL_NORM


FAMILIES: dict[str, type[MetaFormer]] = {
    family.__name__.lower(): family
    for family in (PoolFormer, IdentityFormer, RandFormer, PoolFormerV2, ConvFormer, CAFormer)
}
