"""Are the folders and annotation files there? One message per missing data set."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmpoolformer.config_reading import (
    DataSet,
    evaluator_files,
    get,
    is_file,
    is_folder,
    is_remote,
    join,
)
from mmpoolformer.preflight.problem import Problem, bullets
from mmpoolformer.preflight.sources import how_to_get, name_of


def missing_data(
    cfg: Mapping[str, Any], found: Sequence[DataSet], splits: Sequence[str]
) -> list[Problem]:
    """Return one problem per data root with everything that is not there.

    Args:
        cfg: The config as plain dicts.
        found: The innermost data sets of the splits asked for.
        splits: The splits, for the annotation files that the evaluators read.
    """
    evaluators = {
        key: path for split in splits for key, path in evaluator_files(cfg, split).items()
    }
    groups: dict[str, list[DataSet]] = {}
    for dataset in found:
        if not is_remote(dataset.root):
            groups.setdefault(_clean(dataset.root), []).append(dataset)
    wanted = {root: _wanted(members) for root, members in groups.items()}
    for path in evaluators.values():
        home = next((r for r in wanted if r and _clean(path).startswith(r + os.sep)), None)
        home = str(Path(path).parent) if home is None else home
        wanted.setdefault(home, {})[_clean(path)] = path
    problems = []
    for root, paths in wanted.items():
        missing = {path: state for path in sorted(paths.values()) if (state := lacks(path))}
        if missing:
            readers = {key: path for key, path in evaluators.items() if _clean(path) in paths}
            problems.append(_problem(cfg, root, groups.get(root, []), missing, readers))
    return problems


def lacks(path: str) -> str:
    """Return how to name ``path`` when it is missing or an empty folder, else ''.

    A folder is recognised by the '/' at its end, since nothing else tells it from a file.
    """
    if path.endswith('/'):
        if not is_folder(path):
            return f'{path}   (a file, not a folder)' if is_file(path.rstrip('/')) else path
        return '' if _has_entries(path) else f'{path}   (there, but empty)'
    if is_folder(path):
        return f'{path}   (a folder, not a file)'
    return '' if is_file(path) else path


def _clean(path: str) -> str:
    return os.path.normpath(path) if path else ''


def _wanted(members: Sequence[DataSet]) -> dict[str, str]:
    """Map each path to how it is shown, so that two splits name a path once."""
    paths = {}
    for dataset in members:
        for path in _paths(dataset):
            paths.setdefault(_clean(path), path)
    return paths


def _paths(dataset: DataSet) -> Iterator[str]:
    if dataset.ann_file and not is_folder(dataset.ann_file):  # mmseg allows a folder here
        yield _clean(dataset.ann_file)
    for folder in dataset.folders.values():
        yield _clean(folder) + '/'


def _has_entries(folder: str) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(not entry.name.startswith('.') for entry in entries)
    except OSError:  # not readable: opening it will say so better than 'empty'
        return True


def _problem(
    cfg: Mapping[str, Any],
    root: str,
    members: Sequence[DataSet],
    missing: Mapping[str, str],
    evaluators: Mapping[str, str],
) -> Problem:
    name = name_of(root, {dataset.type for dataset in members})
    subject = name or 'The data set'
    if os.path.lexists(root) and Path(root).is_symlink() and not is_folder(root):
        state = f'{root} is a link to {Path(root).readlink()}, which does not exist.'
    elif not root:
        state = 'Some data are not there.'
    elif is_folder(root):
        state = f'{subject} at {root}/ is incomplete.'
    else:
        state = f'{subject} is not at {root}/'
        state += '.' if Path(root).is_absolute() else f' (seen from {Path.cwd()}).'
    keys = [f'{dataset.key}.data_root' for dataset in members] + list(evaluators)
    cure = _trap(cfg, root, members, evaluators) or how_to_get(name, root, [*missing], keys)
    return Problem(f'{state} Missing:\n{bullets([*missing.values()])}', cure)


def _trap(
    cfg: Mapping[str, Any],
    root: str,
    members: Sequence[DataSet],
    evaluators: Mapping[str, str],
) -> str:
    """Return the cure of two classic mistakes with paths, when the config shows their traces."""
    if root.startswith('~'):
        return '`~` is not expanded in configs: write the full path.'
    top = get(cfg, 'data_root')
    if not (isinstance(top, str) and is_folder(top) and members) or _clean(top) == root:
        return ''
    # `--cfg-options data_root=…` arrives when the loaders are already written with the old value.
    options = [f'  {dataset.key}.data_root={top}' for dataset in members]
    options += [
        f'  {key}={join(top, os.path.relpath(path, root))}' for key, path in evaluators.items()
    ]
    head = f'`data_root={top}` alone does not reach the data loaders. Use --cfg-options with'
    return '\n'.join([head, *options])
