"""Checkpoints: known layouts, pure conversion, strict and safe loading.

Files are always read with ``weights_only=True``: nothing in a checkpoint is ever executed.
"""

from mmpoolformer.checkpoint.errors import CheckpointError
from mmpoolformer.checkpoint.files import fetch, read_checkpoint, unwrap
from mmpoolformer.checkpoint.layouts import (
    LAYOUTS,
    Layout,
    convert_own_keys,
    convert_state_dict,
    detect_layout,
)
from mmpoolformer.checkpoint.loading import load_model, load_pretrained

__all__ = [
    'LAYOUTS',
    'CheckpointError',
    'Layout',
    'convert_own_keys',
    'convert_state_dict',
    'detect_layout',
    'fetch',
    'load_model',
    'load_pretrained',
    'read_checkpoint',
    'unwrap',
]
