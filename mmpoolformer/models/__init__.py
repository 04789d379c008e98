"""Backbones. Importing this package registers them in ``mmpoolformer.registry.MODELS``."""

from mmpoolformer.models.families import PoolFormer
from mmpoolformer.models.metaformer import MetaFormer, MetaFormerBlock, MetaFormerStage
from mmpoolformer.models.token_mixers import Pooling

__all__ = ['MetaFormer', 'MetaFormerBlock', 'MetaFormerStage', 'PoolFormer', 'Pooling']
