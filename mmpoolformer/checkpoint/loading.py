"""Strict loading: every weight finds its place, or an error says which did not and why."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path

from mmengine.logging import print_log
from torch import Tensor, nn

from mmpoolformer.archs import ARCHS
from mmpoolformer.checkpoint.errors import CheckpointError, first_keys
from mmpoolformer.checkpoint.files import fetch, read_checkpoint, unwrap
from mmpoolformer.checkpoint.layouts import convert_state_dict, detect_layout


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
    checkpoint = read_checkpoint(path)
    try:
        weights, note = _backbone_part(unwrap(checkpoint))
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
    except CheckpointError as error:
        raise CheckpointError(f'{path}: {error}') from None
    except RuntimeError as error:
        problems = [line.strip() for line in str(error).splitlines() if line.strip()]
        shown = '\n  '.join(line[:200] for line in problems[1:6])
        raise CheckpointError(
            f'{path} does not fit this config; was it trained with another one?\n  {shown}'
        ) from None
    return checkpoint


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
    lines += [f'  missing in the file ({len(missing)}): {first_keys(missing)}'] if missing else []
    lines += [f'  left over ({len(left_over)}): {first_keys(left_over)}'] if left_over else []
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
