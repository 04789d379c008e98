"""Strict loading: every weight finds its place, or an error says which did not and why."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path

from mmengine.logging import print_log
from torch import Tensor, nn

from mmpoolformer.checkpoint.errors import CheckpointError, first_keys
from mmpoolformer.checkpoint.fetching import fetch
from mmpoolformer.checkpoint.files import read_checkpoint, unwrap
from mmpoolformer.checkpoint.layouts import backbone_part, convert_state_dict, detect_layout
from mmpoolformer.zoo.archs import ARCHS

_OUTPUT_NORM = re.compile(r'norm(\d)\.')


def load_pretrained(
    backbone: nn.Module,
    source: str | Path,
    *,
    strict: bool = True,
    folder: str | Path | None = None,
) -> str:
    """Load weights into a backbone, or raise: never part of them in silence.

    The file may hold a classifier, a bare backbone, or a whole detector or segmenter, whose neck
    and heads are left out. A classifier has no norms per output: those start fresh (scale 1,
    bias 0), as in the authors' detectors, except that PoolFormer's final norm becomes ``norm3``
    where the last stage is the only output. (Later models normalise after pooling instead.) Of a
    detector's file only stages before its first output may lack a norm: RetinaNet has none for
    stage 0. Stages behind the backbone's last output are not loaded.

    Args:
        backbone: A :class:`mmpoolformer.MetaFormer`.
        source: Path, address, or name such as ``metaformer://poolformer_s12``, see
            :func:`mmpoolformer.checkpoint.fetch`.
        strict: Whether anything missing, left over or of another shape is an error.
        folder: Where to look for named weights before downloading them.

    Returns:
        One line on what happened, which is also logged.

    Raises:
        CheckpointError: If the file cannot be read or, with ``strict``, does not fit.
    """
    checkpoint = read_checkpoint(fetch(source, folder))
    try:
        weights = unwrap(checkpoint)
        layout = detect_layout(weights).name
        weights, others = _split(convert_state_dict(weights))
    except CheckpointError as error:
        raise CheckpointError(f'{source}: {error}') from None
    _drop_unused(weights, backbone)

    expected = backbone.state_dict()
    is_detector = any(name.endswith('_head') for name in others)  # Classifiers have a `head`.
    fresh = _fresh_norms(expected, weights, is_detector)
    missing = [k for k in expected if k not in weights and k not in fresh]
    left_over = [k for k in weights if k not in expected and not _OUTPUT_NORM.match(k)]
    misshapen = [k for k in expected if k in weights and weights[k].shape != expected[k].shape]
    if strict and (missing or left_over or misshapen):
        raise CheckpointError(
            _mismatch(source, layout, weights, backbone, missing, left_over, misshapen)
        )
    usable = {k: v for k, v in weights.items() if k in expected and k not in misshapen}
    backbone.load_state_dict(usable, strict=False)
    report = f'Loaded {source} (layout {layout}): {len(usable)} of {len(expected)} tensors'
    report += f' (left out: {", ".join(others)})' if others else ''
    unset = sorted({key.rsplit('.', 1)[0] for key in expected if key not in usable})
    report += f'; start fresh: {", ".join(unset)}' if unset else ''
    print_log(report, logger='current', level=logging.INFO)
    return report


def load_weights(model: nn.Module, path: str | Path) -> dict:
    """Load a whole detector, segmenter or classifier from its training checkpoint, strictly.

    Args:
        model: The model, with a backbone of this package or not.
        path: Path, address or name, see :func:`mmpoolformer.checkpoint.fetch`.

    Returns:
        The checkpoint, for hooks that want its other entries.

    Raises:
        CheckpointError: If the file cannot be read, or any key or shape differs.
    """
    checkpoint = read_checkpoint(fetch(path))
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


def _split(state_dict: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Return the weights of a detector's backbone, and the names of its other parts."""
    part = backbone_part(state_dict)
    if not part:
        return state_dict, []
    return part, sorted({key.split('.')[0] for key in state_dict} - {'backbone'})


def _drop_unused(weights: dict[str, Tensor], backbone: nn.Module) -> None:
    """Remove what the backbone has no use for, and move a final norm that it can use.

    A classifier's head goes, and so do stages behind the backbone's last output. A final norm
    becomes ``norm3`` where the last stage is the only output.
    """
    unbuilt = tuple(f'stages.{i}.' for i in range(len(backbone.stages), 4))
    for key in [key for key in weights if key.startswith(('head.', *unbuilt))]:
        del weights[key]
    for part in ('weight', 'bias'):
        norm = weights.pop(f'norm.{part}', None)
        if norm is not None and backbone.out_indices == (3,) and backbone.norm_before_pooling:
            weights[f'norm3.{part}'] = norm


def _fresh_norms(
    expected: Mapping[str, Tensor], weights: Mapping[str, Tensor], is_detector: bool
) -> set[str]:
    """Return the keys of output norms that the file may lack."""
    stages = [int(found[1]) for key in weights if (found := _OUTPUT_NORM.match(key))]
    first = min(stages, default=0 if is_detector else 4)
    norms = {key: int(found[1]) for key in expected if (found := _OUTPUT_NORM.match(key))}
    return {key for key, stage in norms.items() if stage < first}


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
    theirs, ours = name_arch(weights), name_arch(backbone.state_dict())
    if theirs != ours:
        lines.append(f'Likely cause: the file is {theirs}, the config says {ours}: change `arch`.')
    return '\n'.join(lines)


def name_arch(weights: Mapping[str, Tensor]) -> str:
    """Name the architectures that a state dict in our layout may belong to."""
    depths, dims = [0] * 4, [0] * 4
    for key, tensor in weights.items():
        if match := re.fullmatch(r'stages\.(\d)\.blocks\.(\d+)\.norm1\.weight', key):
            stage = int(match.group(1))
            depths[stage] = max(depths[stage], int(match.group(2)) + 1)
            dims[stage] = len(tensor)
    built = sum(depth > 0 for depth in depths)  # A backbone may end before the last stage.
    depths, dims = tuple(depths[:built]), tuple(dims[:built])
    families, sizes = _families_of(weights), _sizes_of(depths, dims)
    names = [f'{family}_{size}' for family in families for size in sizes]
    return ' or '.join(names) or f'a model of depths {depths} and dims {dims}'


def _sizes_of(depths: tuple[int, ...], dims: tuple[int, ...]) -> list[str]:
    stages = len(depths)
    return list(
        dict.fromkeys(
            name.split('_')[1]
            for name, row in ARCHS.items()
            if row.depths[:stages] == depths and row.dims[:stages] == dims
        )
    )


def _families_of(weights: Mapping[str, Tensor]) -> list[str]:
    """Tell the family by the parameters only it has; pooling and identity have none."""
    marks = {
        'token_mixer.qkv': ['caformer'],
        'token_mixer.pwconv1': ['convformer'],
        'random_matrix': ['randformer'],
        'mlp.act.scale': ['poolformerv2', 'identityformer'],
    }
    for mark, families in marks.items():
        if any(mark in key for key in weights):
            return families
    return ['poolformer']
