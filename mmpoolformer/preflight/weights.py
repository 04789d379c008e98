"""Are the checkpoint files there, and are they checkpoints? Reads first bytes, never unpickles."""

from __future__ import annotations

import difflib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmpoolformer.config_reading import as_list, is_file, is_folder, is_remote
from mmpoolformer.preflight.problem import Problem, some

_AGAIN = 'Download or copy it again.'
_SUFFIXES = ('.pth', '.pt', '.tar', '.bin', '.safetensors', '.ckpt')


def check_weights(cfg: Mapping[str, Any], checkpoint: str | None) -> list[Problem]:
    """Return what is wrong with every local weight file that the run would read.

    Args:
        cfg: The config as plain dicts: ``load_from`` and each ``init_cfg`` of type 'Pretrained'.
        checkpoint: The file given on the command line, if any.

    Example:
        >>> print(check_weights({'load_from': 'no_such.pth'}, None)[0].what)
        The weights no_such.pth (load_from) do not exist.
    """
    wanted = {} if checkpoint is None else {checkpoint: 'command line'}
    if isinstance(cfg.get('load_from'), str) and cfg['load_from']:
        wanted.setdefault(cfg['load_from'], 'load_from')
    for path, key in _pretrained(cfg.get('model'), 'model'):
        wanted.setdefault(path, key)
    problems = (_check_file(path, key) for path, key in wanted.items() if not is_remote(path))
    return [problem for problem in problems if problem]


def _pretrained(node: object, key: str) -> Iterator[tuple[str, str]]:
    """Yield (path, config key) of each ``dict(type='Pretrained', checkpoint=...)`` in the model."""
    if isinstance(node, (list, tuple)):
        for i, item in enumerate(node):
            yield from _pretrained(item, f'{key}.{i}')
    elif isinstance(node, Mapping):
        for init in as_list(node.get('init_cfg')):
            named = isinstance(init, Mapping) and str(init.get('type')).endswith('Pretrained')
            if named and isinstance(init.get('checkpoint'), str):
                yield init['checkpoint'], f'{key}.init_cfg.checkpoint'
        for name, child in node.items():
            if name != 'init_cfg':
                yield from _pretrained(child, f'{key}.{name}')


def _check_file(path: str, key: str) -> Problem | None:
    if not path:
        return Problem(f'{key} is an empty path.', 'Name a weight file there, or remove it.')
    name = f'The weights {path} ({key})'
    if is_folder(path):
        inside = _weight_files(path)
        cure = f'Name one of its files: {some(inside, 3)}.' if inside else 'Name a file.'
        return Problem(f'{name} are a folder; a file is needed.', cure)
    if not is_file(path):
        return Problem(f'{name} do not exist.', _nearby(path))
    try:
        size = Path(path).stat().st_size
        with Path(path).open('rb') as file:
            start = file.read(512)
        return _judge(name, start, size, path)
    except OSError as error:
        return Problem(f'{name} cannot be read: {error.strerror}.', 'Check its permissions.')


def _judge(name: str, start: bytes, size: int, path: str) -> Problem | None:
    """Tell from the first bytes what a file is that is not weights."""
    text = start.lstrip(b'\xef\xbb\xbf \t\r\n').lower()
    if size == 0:
        return Problem(f'{name} are an empty file (0 bytes).', f'The download failed. {_AGAIN}')
    if text.startswith((b'<!doctype', b'<html', b'<?xml', b'<head')):
        cure = f'The address led to a page, not to the file: use its direct download link. {_AGAIN}'
        return Problem(f'{name} are a web page saved under this name, not weights.', cure)
    if start.startswith(b'version https://git-lfs'):
        cure = (
            'Fetch the content in the repository it came from:\n  git lfs install && git lfs pull'
        )
        return Problem(f'{name} are a git-lfs pointer of {size} bytes, not the weights.', cure)
    if start.startswith(b'PK\x03\x04') and not zipfile.is_zipfile(path):
        # torch.save writes a zip archive; its table of contents stands at the end.
        return Problem(f'{name} are cut off: the end of the file is missing.', _AGAIN)
    return None


def _weight_files(folder: str) -> list[str]:
    try:
        found = [path for path in Path(folder).iterdir() if path.name.endswith(_SUFFIXES)]
        found.sort(key=lambda path: path.stat().st_mtime, reverse=True)  # newest first
    except OSError:
        return []
    return [str(path) for path in found]


def _nearby(path: str) -> str:
    """Say what is there instead: files beside it, or the last folder of the path that exists."""
    if path.startswith('~'):
        return '`~` is not expanded here: write the full path.'
    folder = str(Path(path).parent)
    beside = _weight_files(folder)
    if beside:
        names = {Path(file).name: file for file in beside}
        close = difflib.get_close_matches(Path(path).name, names, 3, 0.5)
        shown = [names[name] for name in close] or beside
        return f'Did you mean {some(shown, 3)}?'
    if is_folder(folder):
        return f'There are no weights in {folder}/ yet: train first, or correct the path.'
    there = next((str(parent) for parent in Path(path).parents if is_folder(str(parent))), '.')
    there = 'No part of this path exists' if there == '.' else f'The path exists only up to {there}'
    return f'{there}: correct it, or train first.'
