"""Keeps Shapes on disk: makes it once, finds it again, and never touches what is not its own."""

import json
import os
import shutil
import uuid
from numbers import Integral
from pathlib import Path
from typing import Any

from mmpoolformer.datasets.shapes.classes import CLASSES
from mmpoolformer.datasets.shapes.formats import Progress, write_tree

VERSION = 1  # Raise it with any change to the drawing: a stored data set is then not reused.
INFO_FILE = 'shapes.json'
DESCRIPTION = 'Shapes, a synthetic data set made by mmpoolformer'
LIMITS = {
    'num_train': range(1, 1_000_001),
    'num_val': range(1, 1_000_001),
    'num_crops': range(len(CLASSES), 1_000_001),
    'size': range(64, 1025),
    'seed': range(2**32),
}


def generate(
    root: str | os.PathLike,
    num_train: int = 512,
    num_val: int = 64,
    num_crops: int = 768,
    size: int = 128,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = iter,
) -> dict[str, Any]:
    """Write the data set, or return at once if it is already there.

    Every picture has a random generator of its own, seeded by ``(seed, split, index)``: the same
    parameters give the same bytes (with the same numpy and OpenCV), validation does not depend on
    the number of training images, and more images only add to the ones before. The tree is built
    in a hidden folder next to ``root`` and renamed when it is complete; a killed process can leave
    such a ``.<name>-<id>.partial`` folder behind, which is never taken for a data set.

    Args:
        root: folder of the data set; created with its parents.
        num_train: training scenes.
        num_val: validation scenes.
        num_crops: training crops for classification, spread evenly over the classes; validation
            gets a quarter as many.
        size: longest possible image side in pixels; sides are between 3/4 of it and it.
        seed: from 0 to 2**32 - 1.
        overwrite: replace a Shapes data set that was made with other parameters.
        progress: wraps the sequence of pictures to draw, for example ``tqdm.tqdm``.

    Returns:
        The content of ``shapes.json`` without the file list: ``version``, ``parameters``,
        ``statistics``.

    Raises:
        ValueError: a parameter is out of range.
        FileExistsError: ``root`` holds something else, or Shapes with other parameters.
        OSError: ``root`` cannot be written.

    Example:
        >>> info = generate('data/shapes', num_train=8, num_val=2, num_crops=6)
        >>> info['parameters']
        {'num_train': 8, 'num_val': 2, 'num_crops': 6, 'size': 128, 'seed': 0}
    """
    parameters = _checked(
        num_train=num_train, num_val=num_val, num_crops=num_crops, size=size, seed=seed
    )
    root = Path(root).expanduser().resolve()
    if not overwrite and (info := _reusable(root, parameters)):
        return info
    _check_replaceable(root)
    if root.parent.exists() and not root.parent.is_dir():
        raise NotADirectoryError(f'{root.parent} is not a folder')
    root.parent.mkdir(parents=True, exist_ok=True)
    draft = root.with_name(f'.{root.name}-{uuid.uuid4().hex[:8]}.partial')
    try:
        draft.mkdir()
        info = {'description': DESCRIPTION, 'version': VERSION, 'parameters': parameters}
        info['statistics'] = write_tree(draft, parameters, progress)
        listed = info | {'files': sorted(_files(draft))}
        (draft / INFO_FILE).write_text(json.dumps(listed, indent=1))
        # Another process may have finished the same data set meanwhile.
        if overwrite or not _reusable(root, parameters):
            _publish(draft, root)
    finally:  # also on Ctrl-C; after a success there is nothing left to remove
        shutil.rmtree(draft, ignore_errors=True)
    return info


def _checked(**parameters: int) -> dict[str, int]:
    for name, value in parameters.items():
        allowed = LIMITS[name]
        if not isinstance(value, Integral) or value not in allowed:
            raise ValueError(
                f'{name} is {value!r}; it must be a whole number from {allowed[0]} to {allowed[-1]}'
            )
    return {name: int(value) for name, value in parameters.items()}


def _read_info(root: Path) -> dict[str, Any] | None:
    """``shapes.json`` of the data set in ``root``; None where there is nothing at all.

    Raises:
        FileExistsError: something other than a Shapes data set is there.
    """
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return None
    try:
        info = json.loads((root / INFO_FILE).read_text())
        if {'version', 'parameters', 'statistics', 'files'} <= info.keys():
            return info
    except (FileNotFoundError, NotADirectoryError, ValueError, AttributeError):
        pass
    raise FileExistsError(
        f'{root} exists and is not a Shapes data set (no valid {INFO_FILE}); '
        'choose another folder or move it away'
    )


def _reusable(root: Path, parameters: dict[str, int]) -> dict[str, Any] | None:
    info = _read_info(root)
    if info is None:
        return None
    stored = {'version': info['version'], **info['parameters']}
    wanted = {'version': VERSION, **parameters}
    changes = [
        f'{key} is {stored.get(key)}, wanted {value}'
        for key, value in wanted.items()
        if stored.get(key) != value
    ]
    if changes:
        raise FileExistsError(
            f'{root} holds Shapes made with other parameters ({"; ".join(changes)}); '
            'choose another folder, or overwrite it'
        )
    missing = set(info.pop('files')) - _files(root)
    if missing:
        raise FileExistsError(
            f'{root} is damaged: {len(missing)} of its files are missing, '
            f'for example {min(missing)}; overwrite it'
        )
    return info


def _check_replaceable(root: Path) -> None:
    info = _read_info(root)
    foreign = _files(root) - set(info['files']) - {INFO_FILE} if info else set()
    if foreign:
        raise FileExistsError(
            f'{root} also holds files that are not part of Shapes, for example {min(foreign)}; '
            'move them away before it is overwritten'
        )


def _files(root: Path) -> set[str]:
    return {
        path.relative_to(root).as_posix()
        for path in root.rglob('*')
        if path.is_symlink() or not path.is_dir()
    }


def _publish(draft: Path, root: Path) -> None:
    if not root.exists() or not any(root.iterdir()):
        draft.rename(root)
        return
    old = draft.with_suffix('.old')
    try:
        root.rename(old)
        draft.rename(root)
    except BaseException:
        if old.exists() and not root.exists():
            old.rename(root)
        raise
    shutil.rmtree(old)
