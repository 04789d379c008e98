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
from mmpoolformer.models.token_mixers import Attention, Pooling, RandomMixing, SepConv

__all__ = [
    'Attention',
    'CAFormer',
    'ConvFormer',
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
    'create_backbone',
]
