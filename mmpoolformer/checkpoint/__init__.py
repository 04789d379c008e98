"""Checkpoints: known layouts, pure conversion, strict and safe loading.

Files are read with ``weights_only=True``: nothing in a checkpoint is executed, unless the tools'
``--trust-checkpoint`` asks for it.
"""

from mmpoolformer.checkpoint.errors import CheckpointError
from mmpoolformer.checkpoint.fetching import fetch
from mmpoolformer.checkpoint.files import (
    distrust_checkpoints,
    is_safetensors,
    read_checkpoint,
    read_metadata,
    trust_checkpoints,
    unwrap,
    wrapper_of,
    write_weights,
)
from mmpoolformer.checkpoint.layouts import (
    LAYOUTS,
    Layout,
    backbone_part,
    convert_classifier_keys,
    convert_own_keys,
    convert_state_dict,
    detect_layout,
)
from mmpoolformer.checkpoint.loading import load_pretrained, load_weights

__all__ = [
    'LAYOUTS',
    'CheckpointError',
    'Layout',
    'backbone_part',
    'convert_classifier_keys',
    'convert_own_keys',
    'convert_state_dict',
    'detect_layout',
    'distrust_checkpoints',
    'fetch',
    'is_safetensors',
    'load_pretrained',
    'load_weights',
    'read_checkpoint',
    'read_metadata',
    'trust_checkpoints',
    'unwrap',
    'wrapper_of',
    'write_weights',
]
