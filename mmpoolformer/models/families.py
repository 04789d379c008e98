"""The registered backbones: each states only how it differs from ``MetaFormer``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from mmpoolformer.models.layers import init_truncated
from mmpoolformer.models.metaformer import MetaFormer
from mmpoolformer.models.token_mixers import Attention, Identity, Pooling, RandomMixing, SepConv
from mmpoolformer.registry import MODELS
from mmpoolformer.zoo.archs import ARCHS, get_arch


@MODELS.register_module()
class PoolFormer(MetaFormer):
    """MetaFormer whose token mixer is average pooling (arXiv 2111.11418).

    Args:
        arch: ``'s12'``, ``'s24'``, ``'s36'``, ``'m36'``, ``'m48'``, or a mapping such as
            ``dict(depths=(2, 2, 6, 2), dims=(64, 128, 320, 512))``.
        pool_size: Side of the pooling window, odd.
        **kwargs: Arguments of :class:`MetaFormer`: ``in_channels``, ``mlp_ratio``, ``norm_cfg``,
            ``act_cfg``, ``drop_rate``, ``drop_path_rate``, ``layer_scale``, ``out_indices``,
            ``frozen_stages``, ``norm_eval``, ``with_cp``, ``init_cfg``.

    Example:
        >>> features = PoolFormer(arch='s12', out_indices=(1, 2, 3))(torch.rand(1, 3, 64, 96))
        >>> [tuple(f.shape) for f in features]
        [(1, 128, 8, 12), (1, 320, 4, 6), (1, 512, 2, 3)]
    """

    def __init__(self, arch: str | Mapping = 's12', pool_size: int = 3, **kwargs) -> None:
        mixer = partial(Pooling, pool_size=pool_size)
        super().__init__(get_arch('poolformer', arch), token_mixers=mixer, **kwargs)


_GROUP_NORM = dict(type='GN', num_groups=1, eps=1e-6, bias=False)
_CHANNEL_NORM = dict(type='LN2d', eps=1e-6, bias=False)


class MetaFormerBaseline(MetaFormer):
    """What the models of "MetaFormer Baselines for Vision" (arXiv 2210.13452) have in common.

    StarReLU; norms without offset, also around the down-samplings; MLPs without biases; ResScale in
    the last two stages instead of LayerScale.

    Args:
        **kwargs: Arguments of :class:`MetaFormer`, whose defaults are changed to the above.
    """

    norm_before_pooling = False

    def __init__(self, *args, **kwargs) -> None:
        defaults = dict(
            norm_cfg=_GROUP_NORM,
            downsample_norm_cfg=_CHANNEL_NORM,
            act_cfg=dict(type='StarReLU'),
            mlp_bias=False,
            layer_scale=None,
            res_scale=(None, None, 1.0, 1.0),
        )
        super().__init__(*args, **{**defaults, **kwargs})
        init_truncated(self)


@MODELS.register_module()
class IdentityFormer(MetaFormerBaseline):
    """MetaFormer that mixes no tokens at all, ``arch`` from ``'s12'`` to ``'m48'``."""

    def __init__(self, arch: str | Mapping = 's12', **kwargs) -> None:
        super().__init__(get_arch('identityformer', arch), token_mixers=Identity, **kwargs)


@MODELS.register_module()
class RandFormer(MetaFormerBaseline):
    """MetaFormer whose last two stages mix tokens by fixed random matrices.

    Args:
        arch: ``'s12'`` to ``'m48'``, or a mapping as for :class:`PoolFormer`.
        img_size: Side of the images the matrices are made for, a multiple of 32.
        interpolate: Whether to resample the matrices for other images, which otherwise are errors.
        **kwargs: Arguments of :class:`MetaFormer`.
    """

    def __init__(
        self,
        arch: str | Mapping = 's12',
        img_size: int = 224,
        interpolate: bool = False,
        **kwargs,
    ) -> None:
        mixers = [
            *(Identity, Identity),
            *(
                partial(RandomMixing, size=img_size // stride, interpolate=interpolate)
                for stride in (16, 32)
            ),
        ]
        super().__init__(get_arch('randformer', arch), token_mixers=mixers, **kwargs)


@MODELS.register_module()
class PoolFormerV2(MetaFormerBaseline):
    """MetaFormer whose token mixer is average pooling, ``arch`` from ``'s12'`` to ``'m48'``."""

    def __init__(self, arch: str | Mapping = 's12', pool_size: int = 3, **kwargs) -> None:
        mixer = partial(Pooling, pool_size=pool_size)
        super().__init__(get_arch('poolformerv2', arch), token_mixers=mixer, **kwargs)


@MODELS.register_module()
class ConvFormer(MetaFormerBaseline):
    """MetaFormer of separable convolutions, ``arch`` from ``'s18'`` to ``'b36'``."""

    def __init__(self, arch: str | Mapping = 's18', **kwargs) -> None:
        kwargs = {'norm_cfg': _CHANNEL_NORM, **kwargs}
        super().__init__(get_arch('convformer', arch), token_mixers=SepConv, **kwargs)


@MODELS.register_module()
class CAFormer(MetaFormerBaseline):
    """Separable convolutions, then attention in the last two stages; ``'s18'`` to ``'b36'``."""

    def __init__(self, arch: str | Mapping = 's18', **kwargs) -> None:
        kwargs = {'norm_cfg': _CHANNEL_NORM, **kwargs}
        mixers = (SepConv, SepConv, Attention, Attention)
        super().__init__(get_arch('caformer', arch), token_mixers=mixers, **kwargs)


_FAMILIES = {
    family.__name__.lower(): family
    for family in (PoolFormer, IdentityFormer, RandFormer, PoolFormerV2, ConvFormer, CAFormer)
}


def create_backbone(name: str, **kwargs) -> MetaFormer:
    """Build a backbone by its name in the table, e.g. ``create_backbone('caformer_s18')``.

    Raises:
        ValueError: If the name is not in the table.
    """
    if name not in ARCHS:
        raise ValueError(f'{name!r} is no model of the table: choose one of {list(ARCHS)}')
    return _FAMILIES[name.split('_')[0]](arch=name, **kwargs)
