"""Fused operations of MetaFormer blocks, with plain references; see README.md beside this file.

They know torch, and Triton only when it is used; nothing of OpenMMLab.
"""

from mmpoolformer.ops.channel_mlp import MLPParameters, channel_mlp
from mmpoolformer.ops.dispatch import IMPLEMENTATIONS
from mmpoolformer.ops.pool_mixer import PoolParameters, pool_mixer

__all__ = ['IMPLEMENTATIONS', 'MLPParameters', 'PoolParameters', 'channel_mlp', 'pool_mixer']
