"""PoolFormer and the MetaFormer family as backbones for OpenMMLab.

>>> import torch, mmpoolformer
>>> features = mmpoolformer.PoolFormer(arch='s12')(torch.rand(1, 3, 224, 224))
>>> [tuple(f.shape) for f in features]
[(1, 64, 56, 56), (1, 128, 28, 28), (1, 320, 14, 14), (1, 512, 7, 7)]
"""

__version__ = '0.2.0'

try:
    import mmcv  # noqa: F401
    import mmengine  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError(
        f'mmpoolformer needs mmengine and mmcv, and {error.name} is not installed.\n'
        "Install a tested set with:  pip install 'mmpoolformer[onedl]'  "
        "(or 'mmpoolformer[openmmlab]' for the original packages).\n"
        'In a clone of the repository, `make install` does it.'
    ) from error

from mmpoolformer.checkpoint import CheckpointError, convert_state_dict, load_pretrained
from mmpoolformer.inference import load_model
from mmpoolformer.mmcv_operators import offer_operators
from mmpoolformer.models import (
    TOKEN_MIXERS,
    CAFormer,
    ConvFormer,
    IdentityFormer,
    MetaFormer,
    PoolFormer,
    PoolFormerV2,
    RandFormer,
    create_model,
    list_models,
)
from mmpoolformer.registry import HOOKS, MODELS
from mmpoolformer.zoo.archs import ARCHS, Arch

__all__ = [
    'ARCHS',
    'HOOKS',
    'MODELS',
    'TOKEN_MIXERS',
    'Arch',
    'CAFormer',
    'CheckpointError',
    'ConvFormer',
    'IdentityFormer',
    'MetaFormer',
    'PoolFormer',
    'PoolFormerV2',
    'RandFormer',
    'convert_state_dict',
    'create_model',
    'list_models',
    'load_model',
    'load_pretrained',
]

offer_operators()
