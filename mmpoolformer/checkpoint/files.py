"""Checkpoint files: read without executing anything in them, written whole or not at all."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmpoolformer.checkpoint.errors import CheckpointError, first_keys
from mmpoolformer.checkpoint.first_bytes import find_fault

# Set by :func:`trust_checkpoints` alone.
_trusting = False


def trust_checkpoints() -> None:
    """Let this process unpickle checkpoints without restrictions: they can run any code.

    For files from a source you trust that hold more than tensors and plain data. Only the tools'
    ``--trust-checkpoint`` calls it.
    """
    global _trusting
    _trusting = True
    # What mmengine reads goes through torch.load, too.
    os.environ.pop('TORCH_FORCE_WEIGHTS_ONLY_LOAD', None)
    os.environ['TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'] = '1'


def distrust_checkpoints() -> None:
    """Forbid unrestricted unpickling for every route, that of mmengine included.

    onedl-mmengine loads again without restrictions what the safe reader refuses, code included.
    Torch lets an environment variable forbid that. Does nothing after :func:`trust_checkpoints`.
    """
    if not _trusting:
        os.environ.pop('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', None)
        os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'


def _history_statistic(owner: type, name: str) -> object:
    """Stand in for ``getattr`` while a checkpoint is read.

    Each HistoryBuffer in a checkpoint names its statistics as ``getattr(HistoryBuffer, 'min')``.
    The real ``getattr`` would open up any object's ``__globals__``; this opens these four.
    """
    if owner is HistoryBuffer and name in ('min', 'max', 'mean', 'current'):
        return getattr(owner, name)
    raise pickle.UnpicklingError(f'Unsupported global: GLOBAL getattr({owner!r}, {name!r})')


# Both stacks save their training logs as HistoryBuffers of numpy numbers inside each checkpoint.
# torch must be told that these are harmless, or resuming fails (mmengine 0.10.7) or falls back to
# unrestricted unpickling (onedl-mmengine). All of them are plain data: none runs code when loaded.
_multiarray = np._core.multiarray if hasattr(np, '_core') else np.core.multiarray
_TRAINING_LOGS = [
    HistoryBuffer,
    (_history_statistic, 'builtins.getattr'),
    _multiarray._reconstruct,
    _multiarray.scalar,
    np.ndarray,
    np.dtype,
    *(type(np.dtype(name)) for name in ('float64', 'float32', 'int64', 'int32')),
]
torch.serialization.add_safe_globals(_TRAINING_LOGS)


def read_checkpoint(path: str | Path) -> dict:
    """Read a checkpoint file onto the CPU without executing anything in it.

    Args:
        path: A file saved by torch, or one of safetensors, told by its content.

    Raises:
        CheckpointError: If the file is missing, is no checkpoint, is cut off, or holds objects
            other than tensors and plain data.
    """
    if fault := find_fault(path):
        raise CheckpointError(f'{fault.what} {fault.cure}')
    path = Path(path).expanduser()
    # Again, because each load_checkpoint of onedl-mmengine takes its own list back afterwards.
    torch.serialization.add_safe_globals(_TRAINING_LOGS)
    try:
        if is_safetensors(path):
            return load_file(path)
        return torch.load(path, map_location='cpu', weights_only=not _trusting)
    except Exception as error:  # Reading arbitrary bytes as a pickle can fail in any way.
        raise CheckpointError(_why_refused(path, error)) from None


def is_safetensors(path: Path) -> bool:
    """Tell by its first bytes whether ``path`` is in the format of safetensors."""
    with path.open('rb') as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b'{' and int.from_bytes(start[:8], 'little') < 2**27


def _why_refused(path: Path, error: Exception) -> str:
    if refused := re.search(r'GLOBAL ([\w.]+)', str(error)):
        return (
            f'{path} holds more than tensors and plain data ({refused[1]}), and loading it could '
            'run code. It was not loaded. If you trust its source, add --trust-checkpoint; better '
            'still, have its owner save the state dict alone: torch.save(model.state_dict(), …)'
        )
    reason = (str(error) or type(error).__name__).splitlines()[0].split('. ')[0]
    return (
        f'{path} ({path.stat().st_size} bytes) is cut off, damaged or no checkpoint: {reason}. '
        'Fetch or save it again.'
    )


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a file of safetensors, none for one of torch."""
    if not is_safetensors(path):
        return {}
    with safe_open(path, 'pt') as file:
        return file.metadata() or {}


def write_weights(weights: Mapping[str, Tensor], path: str | Path) -> None:
    """Write a state dict, as safetensors or with torch, told by the name's ending.

    ``path`` is complete or as before, even if the process is killed.

    Raises:
        CheckpointError: If the ending is not known, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in ('.safetensors', '.pth', '.bin', '.pt'):
        raise CheckpointError(f'{path}: the name must end in .safetensors, .pth, .pt or .bin')
    try:
        with whole_or_none(path) as part:
            if path.suffix == '.safetensors':
                whole = {key: tensor.contiguous().clone() for key, tensor in weights.items()}
                save_file(whole, part, metadata={'format': 'pt'})
            else:
                torch.save({key: tensor.clone() for key, tensor in weights.items()}, part)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f'{path} could not be written: {error}') from None


@contextmanager
def whole_or_none(path: Path) -> Iterator[Path]:
    """Give a file to write that takes the place of ``path`` once it is complete."""
    part = path.with_name(f'{path.name}.{os.getpid()}.part')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


WRAPPERS = ('state_dict', 'model', 'state_dict_ema')


def unwrap(checkpoint: Mapping) -> dict[str, Tensor]:
    """Return the state dict inside a checkpoint, without the ``module.`` of DDP."""
    if not isinstance(checkpoint, Mapping):
        raise CheckpointError(f'a {type(checkpoint).__name__} is no state dict')
    if wrapper := wrapper_of(checkpoint):
        checkpoint = checkpoint[wrapper]
    tensors = {k: v for k, v in checkpoint.items() if isinstance(v, Tensor)}
    if not tensors:
        raise CheckpointError(f'no tensors found; the top-level keys are {first_keys(checkpoint)}')
    return {key.removeprefix('module.'): tensor for key, tensor in tensors.items()}


def wrapper_of(checkpoint: Mapping) -> str | None:
    """Return the entry of a checkpoint that holds the state dict, ``None`` if it is one itself."""
    return next((key for key in WRAPPERS if isinstance(checkpoint.get(key), Mapping)), None)
