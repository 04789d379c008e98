"""Paths as a person would write them into a config."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmpoolformer.finetuning.recipe import Recipe

_BASES = {
    'retinanet': 'detection/retinanet_{model}_1x.py',
    'mask_rcnn': 'detection/mask_rcnn_{model}_1x.py',
    'fpn': 'segmentation/fpn_{model}_40k.py',
    'classifier': 'classification/{model}_in1k.py',
}


@dataclass(frozen=True)
class Places:
    """Where things are.

    Args:
        config: The file to be written.
        configs: The folder of the shipped configs.
        pictures: The user's folder.
        annotations: The folder with the labels of each split.
        splits: The splits that there are.
    """

    config: Path
    configs: Path
    pictures: Path
    annotations: Path
    splits: Sequence[str]


def base_of(recipe: Recipe, configs: Path) -> tuple[Path, bool]:
    """Return the shipped config to start from, and whether it is that of this very model.

    Where a model has none for the method, it is that of the smallest of its family.
    """
    pattern = _BASES[recipe.method]
    own = configs / pattern.format(model=recipe.model)
    if own.is_file():
        return own, True
    family = recipe.model.split('_')[0]
    return min(configs.glob(pattern.format(model=f'{family}_*'))), False


def shown(path: Path) -> str:
    """Return a path from here, if it lies below, else the full one."""
    path = Path.cwd() / path
    inside = path.is_relative_to(Path.cwd()) and path != Path.cwd()
    return (path.relative_to(Path.cwd()) if inside else path).as_posix()


def relative(path: Path, start: Path) -> str:
    """Return a path from another folder, or the full one if they share nothing."""
    path, start = path.resolve(), start.resolve()
    if len(Path(os.path.commonpath([path, start])).parts) < 2:
        return path.as_posix()
    return Path(os.path.relpath(path, start)).as_posix()
