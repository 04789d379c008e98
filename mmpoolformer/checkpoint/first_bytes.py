"""Says why a file is not what its name promises, from its first bytes and without loading it."""

from __future__ import annotations

import difflib
import zipfile
from pathlib import Path
from typing import NamedTuple

_SUFFIXES = ('.pth', '.pt', '.tar', '.bin', '.safetensors', '.ckpt')


class Fault(NamedTuple):
    """What is wrong with a file, the path first, and what to do about it."""

    what: str
    cure: str


def find_fault(source: str | Path) -> Fault | None:
    """Tell what a file is that cannot be read as weights or data; ``None`` if nothing is seen.

    Args:
        source: A local path; ``~`` is the home folder.

    Example:
        >>> find_fault('no_such_folder/a.pth').what
        'no_such_folder/a.pth does not exist.'
    """
    path = Path(source)
    try:
        path = path.expanduser()
        if path.is_dir():
            inside = _weights_in(path)
            cure = (
                f'Name one of its files: {", ".join(inside[:3])}.'
                if inside
                else 'Name a file in it.'
            )
            return Fault(f'{path} is a folder; a file is needed.', cure)
        if not path.is_file():
            return Fault(f'{path} does not exist.', _nearby(path))
        size = path.stat().st_size
        with path.open('rb') as file:
            start = file.read(512).lstrip(b'\xef\xbb\xbf \t\r\n')
        return _judge(path, size, start)
    except (OSError, RuntimeError) as error:  # A home folder that is not known is a RuntimeError.
        return Fault(f'{path} cannot be read: {error}.', 'Check the path and its permissions.')


def _judge(path: Path, size: int, start: bytes) -> Fault | None:
    if not start:
        return Fault(f'{path} is empty ({size} bytes).', 'The copy failed: fetch the file again.')
    if start.lower().startswith((b'<!doctype', b'<html', b'<head', b'<?xml')):
        return Fault(
            f'{path} is a web page saved under this name, not the file itself.',
            'Fetch it again from its direct download link; a login may be needed.',
        )
    if start.startswith(b'version https://git-lfs'):
        return Fault(
            f'{path} is a git-lfs pointer of {size} bytes, not the file itself.',
            'Run `git lfs install && git lfs pull` in the repository it came from.',
        )
    # torch.save writes a zip archive, whose table of contents stands at the end.
    if start.startswith(b'PK\x03\x04') and not zipfile.is_zipfile(path):
        what = f'{path} ({size} bytes) is cut off: the end of the file is missing.'
        return Fault(what, 'Fetch or copy it again.')
    return None


def _weights_in(folder: Path) -> list[str]:
    """Return the weight files in a folder, the newest first."""
    found = [path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.is_file()]
    found.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    return [str(path) for path in found]


def _nearby(path: Path) -> str:
    beside = _weights_in(path.parent) if path.parent.is_dir() else []
    names = {Path(file).name: file for file in beside}
    if close := difflib.get_close_matches(path.name, names, 3, 0.5):
        return f'Did you mean {", ".join(names[name] for name in close)}?'
    if beside:
        return f'Weights beside it: {", ".join(beside[:3])}.'
    where = '' if path.is_absolute() else f' (relative ones start at {Path.cwd()})'
    return f'Check the path{where}, or train or download the file first.'
