"""Checkpoint files: found or downloaded, and read without executing anything in them."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import barrier, get_local_rank
from mmengine.logging import HistoryBuffer
from torch import Tensor

from mmpoolformer.archs import ARCHS
from mmpoolformer.checkpoint.errors import CheckpointError, first_keys

SCHEME = 'metaformer://'


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

    Raises:
        CheckpointError: If the file is missing, is no checkpoint, is cut off, or holds objects
            other than tensors and plain data.
    """
    path = Path(path).expanduser()
    if reason := why_unreadable(path):
        raise CheckpointError(reason)
    # Again, because each load_checkpoint of onedl-mmengine takes its own list back afterwards.
    torch.serialization.add_safe_globals(_TRAINING_LOGS)
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # Reading arbitrary bytes as a pickle can fail in any way.
        raise CheckpointError(_why_refused(path, error)) from None


def why_unreadable(path: Path) -> str | None:
    """Look at the first bytes of ``path``; say why it is no checkpoint, ``None`` if it may be."""
    if path.is_dir():
        return f'{path} is a directory: name the checkpoint file in it (*.pth, *.pth.tar)'
    if not path.is_file():
        return f'{path} does not exist: check the path, relative ones start at {Path.cwd()}'
    with path.open('rb') as file:
        start = file.read(256).lstrip()
    if not start:
        return f'{path} is empty: fetch or save it again'
    if start.startswith(b'version https://git-lfs'):
        return f'{path} is a git-lfs pointer, not the file itself: run `git lfs pull`'
    if start[:15].lower().startswith((b'<!doctype', b'<html')):
        return f'{path} is a web page saved under that name: download the file itself'
    return None


def _why_refused(path: Path, error: Exception) -> str:
    if refused := re.search(r'GLOBAL ([\w.]+)', str(error)):
        return (
            f'{path} holds more than tensors and plain data ({refused[1]}), and loading it could '
            'run code. It was not loaded. If you trust its source, save its state dict alone: '
            'torch.save(model.state_dict(), …)'
        )
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return (
        f'{path} ({path.stat().st_size} bytes) is cut off, damaged or no checkpoint: {reason}. '
        'Fetch or save it again.'
    )


def unwrap(checkpoint: Mapping) -> dict[str, Tensor]:
    """Return the state dict inside a checkpoint, without the ``module.`` of DDP."""
    if not isinstance(checkpoint, Mapping):
        raise CheckpointError(f'a {type(checkpoint).__name__} is no state dict')
    for key in ('state_dict', 'model', 'state_dict_ema'):
        if isinstance(checkpoint.get(key), Mapping):
            checkpoint = checkpoint[key]
            break
    tensors = {k: v for k, v in checkpoint.items() if isinstance(v, Tensor)}
    if not tensors:
        raise CheckpointError(f'no tensors found; the top-level keys are {first_keys(checkpoint)}')
    return {key.removeprefix('module.'): tensor for key, tensor in tensors.items()}


def fetch(source: str | Path) -> Path:
    """Return the local file of ``source``, downloading names and addresses once.

    Downloads go to torch.hub's cache (``TORCH_HOME``), are complete or absent, and are done by one
    process per machine.

    Raises:
        CheckpointError: If the name is unknown, or the file is neither cached nor reachable.
    """
    source = str(source)
    address = source
    if source.startswith(SCHEME):
        name = source.removeprefix(SCHEME)
        if name not in ARCHS or not ARCHS[name].weights:
            known = [SCHEME + key for key, arch in ARCHS.items() if arch.weights]
            raise CheckpointError(f'{source} is unknown; known names: {", ".join(known)}')
        address = ARCHS[name].weights
    if not address.startswith(('http://', 'https://')):
        return Path(address).expanduser()
    path = Path(torch.hub.get_dir()) / 'checkpoints' / address.rsplit('/', 1)[-1]
    try:
        if get_local_rank() == 0 and not path.is_file():
            _download(address, path)
    except (OSError, HTTPException, CheckpointError) as error:
        raise CheckpointError(
            f'{source} could not be downloaded ({error}). Without network: fetch {address} '
            f'elsewhere, put it at {path}, and run this again; or train from scratch with '
            '--cfg-options model.backbone.init_cfg=None'
        ) from None
    finally:
        barrier()
    return path


def _download(address: str, path: Path) -> None:
    """Download a checkpoint; ``path`` is complete or absent, even if the connection breaks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'{path.name}.{os.getpid()}.part')
    try:
        torch.hub.download_url_to_file(address, str(part))
        # torch.hub takes a connection that broke for the end of the file, and a login page for it.
        read_checkpoint(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
