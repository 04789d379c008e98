"""Backbones, and a neck for classifiers. Importing this package registers them in ``MODELS``."""

from mmpoolformer.models.blocks import MetaFormerBlock, MetaFormerStage
from mmpoolformer.models.classifier_neck import ClassifierNeck
from mmpoolformer.models.factory import create_model, list_models
from mmpoolformer.models.families import (
    CAFormer,
    ConvFormer,
    IdentityFormer,
    PoolFormer,
    PoolFormerV2,
    RandFormer,
)
from mmpoolformer.models.metaformer import MetaFormer
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
    'ClassifierNeck',
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
    'create_model',
    'list_models',
]
