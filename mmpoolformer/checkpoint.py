"""Checkpoints: known layouts, pure conversion, strict and safe loading.

Files are always read with ``weights_only=True``: nothing in a checkpoint is ever executed.
"""

from __future__ import annotations

import logging
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import barrier, get_local_rank
from mmengine.logging import HistoryBuffer, print_log
from torch import Tensor, nn

from mmpoolformer.archs import ARCHS

SCHEME = 'metaformer://'


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read, or does not fit; the message says why and what to do."""


# Both stacks save their training logs as HistoryBuffers of numpy numbers inside each checkpoint.
# torch must be told that these are harmless, or resuming fails (mmengine 0.10.7) or falls back to
# unrestricted unpickling (onedl-mmengine). All of them are plain data: none runs code when loaded.
_multiarray = np._core.multiarray if hasattr(np, '_core') else np.core.multiarray
torch.serialization.add_safe_globals(
    [
        HistoryBuffer,
        _multiarray._reconstruct,
        _multiarray.scalar,
        np.ndarray,
        np.dtype,
        *(type(np.dtype(name)) for name in ('float64', 'float32', 'int64', 'int32')),
    ]
)


@dataclass(frozen=True)
class Layout:
    """How one project names the parameters of a MetaFormer.

    Args:
        name: Shown to the user.
        marker: Matches at least one key of this layout and of no other.
        rules: Pairs of a pattern for whole keys and its replacement; the first match wins.
    """

    name: str
    marker: str
    rules: tuple[tuple[str, str], ...]

    def rename(self, key: str) -> str | None:
        """Return our name for ``key``, ``None`` if this layout has no such key."""
        for pattern, replacement in self.rules:
            if match := re.fullmatch(pattern, key):
                return match.expand(replacement)
        return None


_WB = r'(weight|bias)'
_OURS = Layout(
    'mmpoolformer',
    r'stem\.conv\.weight',
    (
        (
            r'((?:stem|stages\.[1-3]\.downsample)\.conv\.(?:weight|bias)'
            r'|stages\.[0-3]\.blocks\.\d+\.(?:norm[12]|mlp\.fc[12])\.(?:weight|bias)'
            r'|stages\.[0-3]\.blocks\.\d+\.layer_scale[12]\.scale'
            r'|(?:norm[0-3]?|head)\.(?:weight|bias))',
            r'\1',
        ),
    ),
)
# sail-sg/poolformer: blocks and down-samplings alternate in one list, `network`.
_AUTHORS = Layout(
    'authors',
    r'network\.0\.0\.mlp\.fc1\.weight',
    (
        (rf'patch_embed\.proj\.{_WB}', r'stem.conv.\1'),
        *(
            (rf'network\.{2 * i - 1}\.proj\.{_WB}', rf'stages.{i}.downsample.conv.\1')
            for i in (1, 2, 3)
        ),
        *(
            (
                rf'network\.{2 * i}\.(\d+)\.layer_scale_([12])',
                rf'stages.{i}.blocks.\1.layer_scale\2.scale',
            )
            for i in range(4)
        ),
        *(
            (
                rf'network\.{2 * i}\.(\d+)\.(norm[12]|mlp\.fc[12])\.{_WB}',
                rf'stages.{i}.blocks.\1.\2.\3',
            )
            for i in range(4)
        ),
        # Only the authors' detectors and segmenters have these, one per output.
        *((rf'norm{2 * i}\.{_WB}', rf'norm{i}.\1') for i in range(4)),
        # Only their classifiers have these.
        (rf'(norm|head)\.{_WB}', r'\1.\2'),
    ),
)
LAYOUTS = (_OURS, _AUTHORS)


def detect_layout(state_dict: Mapping[str, Tensor]) -> Layout:
    """Return the layout of a backbone's or classifier's state dict.

    Raises:
        CheckpointError: If no known layout has such keys.
    """
    for layout in LAYOUTS:
        if any(re.fullmatch(layout.marker, key) for key in state_dict):
            return layout
    raise CheckpointError(
        f'these are no weights of a known layout ({", ".join(x.name for x in LAYOUTS)}): '
        f'the first keys are {_first(state_dict)}'
    )


def convert_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the keys of any known layout to ours.

    Pure and idempotent. A classifier's final norm and head keep the names ``norm`` and ``head``.

    Args:
        state_dict: Weights of a backbone or classifier, keys without a common prefix.

    Returns:
        The same tensors under the names of :class:`mmpoolformer.MetaFormer`.

    Raises:
        CheckpointError: If the layout is unknown, or a key is not part of it.
    """
    layout = detect_layout(state_dict)
    renamed = {key: layout.rename(key) for key in state_dict}
    unknown = [key for key, new in renamed.items() if new is None]
    if unknown:
        raise CheckpointError(
            f'layout {layout.name}: {len(unknown)} keys do not belong to it: {_first(unknown)}'
        )
    return {renamed[key]: tensor for key, tensor in state_dict.items()}


def convert_own_keys(module: nn.Module, state_dict: dict, prefix: str, *_) -> None:
    """Load-state-dict pre-hook of the backbone: rename foreign keys under its own prefix.

    It makes foreign layouts load through every route, as part of a detector too.
    """
    own = {k[len(prefix) :]: k for k in state_dict if k.startswith(prefix)}
    if not any(re.fullmatch(_AUTHORS.marker, key) for key in own):
        return
    for key, full_key in own.items():
        new = _AUTHORS.rename(key)
        if new is not None and new != key:
            state_dict[f'{prefix}{new}'] = state_dict.pop(full_key)


def read_checkpoint(path: str | Path) -> dict:
    """Read a checkpoint file onto the CPU without executing anything in it.

    Raises:
        CheckpointError: If the file is missing, is no checkpoint, is cut off, or holds objects
            other than tensors and plain data.
    """
    path = Path(path).expanduser()
    if reason := why_unreadable(path):
        raise CheckpointError(reason)
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r'Unsupported (?:global|class|operand)[^\n]*|GLOBAL [\w.]+', str(error))
        raise CheckpointError(
            f'{path} holds more than tensors and plain data, and loading it could run code '
            f'({refused.group(0) if refused else str(error).splitlines()[0]}). It was not loaded. '
            'If you trust its source, save its state dict alone: torch.save(model.state_dict(), …)'
        ) from None
    except (RuntimeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f'{path} ({path.stat().st_size} bytes) is cut off or damaged: '
            f'{str(error).splitlines()[0]}. Fetch or save it again.'
        ) from None


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


def unwrap(checkpoint: Mapping) -> dict[str, Tensor]:
    """Return the state dict inside a checkpoint, without the ``module.`` of DDP."""
    for key in ('state_dict', 'model', 'state_dict_ema'):
        if isinstance(checkpoint.get(key), Mapping):
            checkpoint = checkpoint[key]
            break
    tensors = {k: v for k, v in checkpoint.items() if isinstance(v, Tensor)}
    if not tensors:
        raise CheckpointError(f'no tensors found; the top-level keys are {_first(checkpoint)}')
    return {key.removeprefix('module.'): tensor for key, tensor in tensors.items()}


def load_pretrained(backbone: nn.Module, source: str | Path, *, strict: bool = True) -> str:
    """Load weights into a backbone, or raise: never part of them in silence.

    The file may hold a classifier, a bare backbone, or a whole detector or segmenter, whose neck
    and heads are left out. A classifier has no norms per output: those start fresh (scale 1,
    bias 0), as in the authors' detectors, except that its final norm becomes ``norm3`` where the
    last stage is the only output.

    Args:
        backbone: A :class:`mmpoolformer.MetaFormer`.
        source: Path, address, or name such as ``metaformer://poolformer_s12``.
        strict: Whether anything missing, left over or of another shape is an error.

    Returns:
        One line on what happened, which is also logged.

    Raises:
        CheckpointError: If the file cannot be read or, with ``strict``, does not fit.
    """
    path = fetch(source)
    found = unwrap(read_checkpoint(path))
    try:
        weights, note = _backbone_part(found)
        layout = detect_layout(weights).name
        weights = convert_state_dict(weights)
    except CheckpointError as error:
        raise CheckpointError(f'{source}: {error}') from None
    _drop_classifier(weights, backbone)

    expected = backbone.state_dict()
    missing = [k for k in expected if k not in weights and not _is_output_norm(k)]
    left_over = [k for k in weights if k not in expected and not _is_output_norm(k)]
    misshapen = [k for k in expected if k in weights and weights[k].shape != expected[k].shape]
    if strict and (missing or left_over or misshapen):
        raise CheckpointError(
            _mismatch(source, layout, weights, backbone, missing, left_over, misshapen)
        )
    usable = {k: v for k, v in weights.items() if k in expected and k not in misshapen}
    backbone.load_state_dict(usable, strict=False)
    report = f'Loaded {source} (layout {layout}): {len(usable)} of {len(expected)} tensors{note}'
    unset = sorted({key.rsplit('.', 1)[0] for key in expected if key not in usable})
    report += f'; start fresh: {", ".join(unset)}' if unset else ''
    print_log(report, logger='current', level=logging.INFO)
    return report


def load_model(model: nn.Module, path: str | Path) -> dict:
    """Load a whole detector, segmenter or classifier from its training checkpoint, strictly.

    Returns:
        The checkpoint, for hooks that want its other entries.

    Raises:
        CheckpointError: If the file cannot be read, or any key or shape differs.
    """
    checkpoint = read_checkpoint(path)
    try:
        model.load_state_dict(unwrap(checkpoint), strict=True)
    except RuntimeError as error:
        problems = [line.strip() for line in str(error).splitlines() if line.strip()]
        shown = '\n  '.join(line[:200] for line in problems[1:6])
        raise CheckpointError(
            f'{path} does not fit this config; was it trained with another one?\n  {shown}'
        ) from None
    return checkpoint


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
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(address, str(path))
    except OSError as error:
        raise CheckpointError(
            f'{source} could not be downloaded ({error}). Without network: fetch {address} '
            f'elsewhere, put it at {path}, and run this again; or train from scratch with '
            '--cfg-options model.backbone.init_cfg=None'
        ) from None
    finally:
        barrier()
    return path


def _backbone_part(state_dict: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Split a detector's backbone from its neck and heads, if there are any."""
    part = {
        k.removeprefix('backbone.'): v for k, v in state_dict.items() if k.startswith('backbone.')
    }
    if not part:
        return state_dict, ''
    others = sorted({key.split('.')[0] for key in state_dict} - {'backbone'})
    return part, f' (left out: {", ".join(others)})' if others else ''


def _drop_classifier(weights: dict[str, Tensor], backbone: nn.Module) -> None:
    """Remove a classifier's head, and move its final norm where a lone last stage wants it."""
    for part in ('weight', 'bias'):
        weights.pop(f'head.{part}', None)
        norm = weights.pop(f'norm.{part}', None)
        if norm is not None and backbone.out_indices == (3,):
            weights[f'norm3.{part}'] = norm


def _is_output_norm(key: str) -> bool:
    """Whether ``key`` may be absent or surplus: models differ in the stages they output."""
    return re.match(r'norm\d\.', key) is not None


def _mismatch(source, layout, weights, backbone, missing, left_over, misshapen) -> str:
    lines = [f'{source} (layout {layout}) does not fit the backbone:']
    lines += [f'  missing in the file ({len(missing)}): {_first(missing)}'] if missing else []
    lines += [f'  left over ({len(left_over)}): {_first(left_over)}'] if left_over else []
    if misshapen:
        key, expected = misshapen[0], backbone.state_dict()
        lines.append(
            f'  of another shape ({len(misshapen)}): {key} is {tuple(weights[key].shape)} in the '
            f'file, {tuple(expected[key].shape)} in the model'
        )
    theirs, ours = _arch_of(weights), _arch_of(backbone.state_dict())
    if theirs != ours:
        lines.append(f'Likely cause: the file is {theirs}, the config says {ours}: change `arch`.')
    return '\n'.join(lines)


def _arch_of(weights: Mapping[str, Tensor]) -> str:
    """Name the architecture that a state dict in our layout belongs to."""
    depths, dims = [0] * 4, [0] * 4
    for key, tensor in weights.items():
        if match := re.fullmatch(r'stages\.(\d)\.blocks\.(\d+)\.norm1\.weight', key):
            stage = int(match.group(1))
            depths[stage] = max(depths[stage], int(match.group(2)) + 1)
            dims[stage] = len(tensor)
    for name, arch in ARCHS.items():
        if (arch.depths, arch.dims) == (tuple(depths), tuple(dims)):
            return name
    return f'a model of depths {tuple(depths)} and dims {tuple(dims)}'


def _first(keys, count: int = 3) -> str:
    keys = list(keys)
    return ', '.join(keys[:count]) + (', …' if len(keys) > count else '')
