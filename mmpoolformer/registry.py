"""Registries of mmpoolformer, children of mmengine's.

Because they are children with a scope, ``type='mmpoolformer.PoolFormer'`` resolves from mmdet,
mmseg and mmpretrain without ``custom_imports``: mmengine imports this file when it meets the scope.
"""

from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import Registry

MODELS = Registry(
    'model', parent=MMENGINE_MODELS, scope='mmpoolformer', locations=['mmpoolformer.models']
)
HOOKS = Registry(
    'hook',
    parent=MMENGINE_HOOKS,
    scope='mmpoolformer',
    locations=[f'mmpoolformer.engine.{file}' for file in ('checkpointing', 'hooks', 'seeding')],
)
