"""Are the folders and annotation files there? One message per missing data set."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmpoolformer.config_reading import (
    DataSet,
    as_list,
    get,
    is_file,
    is_folder,
    is_local,
    is_remote,
    join,
)
from mmpoolformer.preflight.problem import Problem
from mmpoolformer.preflight.sources import how_to_get, name_of


def missing_data(
    cfg: Mapping[str, Any], found: Sequence[DataSet], splits: Sequence[str]
) -> list[Problem]:
    """Return one problem per data root with everything that its data sets and evaluators lack."""
    groups: dict[str, list[DataSet]] = {}
    for dataset in found:
        if not is_remote(dataset.root):
            groups.setdefault(_clean(dataset.root), []).append(dataset)
    wanted = {root: {p for d in group for p in _paths(d)} for root, group in groups.items()}
    readers: dict[str, dict[str, str]] = {}
    for key, path in _evaluator_files(cfg, splits):
        inside = (root for root in wanted if root and path.startswith(root + os.sep))
        root = next(inside, str(Path(path).parent))
        wanted.setdefault(root, set()).add(path)
        readers.setdefault(root, {})[key] = path
    problems = []
    for root, paths in wanted.items():
        missing = [state for path in sorted(paths) if (state := _state(path))]
        if missing:
            group, files = groups.get(root, []), readers.get(root, {})
            problems.append(_problem(get(cfg, 'data_root'), root, group, files, missing))
    return problems


def _clean(path: str) -> str:
    return os.path.normpath(path) if path else ''


def _paths(dataset: DataSet) -> Iterator[str]:
    """Yield what a data set reads; a folder has a '/' at its end."""
    if dataset.ann_file and not is_folder(dataset.ann_file):  # mmseg allows a folder here
        yield _clean(dataset.ann_file)
    for folder in dataset.folders.values():
        yield _clean(folder) + '/'


def _evaluator_files(cfg: Mapping[str, Any], splits: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the local annotation files of the evaluators with their config keys."""
    for split in splits:
        evaluators = get(cfg, f'{split}_evaluator')
        for i, evaluator in enumerate(as_list(evaluators)):
            path = get(evaluator, 'ann_file')
            if isinstance(path, str) and path and is_local(evaluator) and not is_remote(path):
                place = f'.{i}' if isinstance(evaluators, (list, tuple)) else ''
                yield f'{split}_evaluator{place}.ann_file', _clean(path)


def _state(path: str) -> str:
    """Return how to show ``path`` when it is missing or an empty folder, else ''."""
    if not path.endswith('/'):
        return '' if is_file(path) else path
    if not is_folder(path):
        return path
    try:
        with os.scandir(path) as entries:
            full = any(not entry.name.startswith('.') for entry in entries)
    except OSError:  # not readable: opening it will say so better than 'empty'
        return ''
    return '' if full else f'{path}   (there, but empty)'


def _problem(
    top: object,
    root: str,
    members: Sequence[DataSet],
    evaluators: Mapping[str, str],
    missing: Sequence[str],
) -> Problem:
    """Say what is missing below ``root``; ``top`` is the ``data_root`` of the config itself."""
    name = name_of(root, {dataset.type for dataset in members})
    subject = name or 'The data set'
    if os.path.lexists(root) and Path(root).is_symlink() and not is_folder(root):
        state = f'{root} is a link to {Path(root).readlink()}, which does not exist.'
    elif is_folder(root):
        state = f'{subject} at {root}/ is incomplete.'
    else:
        seen = '' if Path(root).is_absolute() else f' (seen from {Path.cwd()})'
        state = f'{subject} is not at {root or "."}/{seen}.'
    if root.startswith('~'):
        cure = '`~` is not expanded in configs: write the full path.'
    elif members and isinstance(top, str) and is_folder(top) and _clean(top) != root:
        # `--cfg-options data_root=…` arrives when the loaders already have the old value.
        options = [f'  {dataset.key}.data_root={top}' for dataset in members]
        for key, path in evaluators.items():
            options.append(f'  {key}={join(top, os.path.relpath(path, root))}')
        cure = f'`data_root={top}` alone does not reach the data loaders. Use --cfg-options with'
        cure = '\n'.join([cure, *options])
    else:
        keys = [f'{dataset.key}.data_root' for dataset in members] + list(evaluators)
        cure = how_to_get(name, root, missing, keys)
    return Problem('\n  '.join([f'{state} Missing:', *missing]), cure)
