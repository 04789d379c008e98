"""The registered backbones: each states only how it differs from ``MetaFormer``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from mmpoolformer.archs import get_arch
from mmpoolformer.models.metaformer import MetaFormer
from mmpoolformer.models.token_mixers import Pooling
from mmpoolformer.registry import MODELS


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
