"""Backbones. Importing this package registers them in ``mmpoolformer.registry.MODELS``."""

from mmpoolformer.models.families import (
    CAFormer,
    ConvFormer,
    IdentityFormer,
    PoolFormer,
    PoolFormerV2,
    RandFormer,
    create_backbone,
)
from mmpoolformer.models.metaformer import MetaFormer, MetaFormerBlock, MetaFormerStage
from mmpoolformer.models.token_mixers import (
    TOKEN_MIXERS,
    Attention,
    DepthwiseConv,
    Identity,
    Pooling,
    RandomMixing,
    SepConv,
    SpatialFC,
)

__all__ = [
    'TOKEN_MIXERS',
    'Attention',
    'CAFormer',
    'ConvFormer',
    'DepthwiseConv',
    'Identity',
    'IdentityFormer',
    'MetaFormer',
    'MetaFormerBlock',
    'MetaFormerStage',
    'PoolFormer',
    'PoolFormerV2',
    'Pooling',
    'RandFormer',
    'RandomMixing',
    'SepConv',
    'SpatialFC',
    'create_backbone',
]
