"""Tells which format a folder is labelled in, and reads it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from mmpoolformer.datasets.folders import classes, coco, masks, voc, yolo
from mmpoolformer.datasets.folders.description import Folder, FolderError
from mmpoolformer.datasets.folders.pictures import Listing

READERS: dict[str, ModuleType] = {
    'coco': coco,
    'yolo': yolo,
    'voc': voc,
    'masks': masks,
    'classes': classes,
}
_NAMES = {
    'coco': 'COCO json',
    'yolo': 'YOLO',
    'voc': 'Pascal VOC xml',
    'masks': 'pictures and masks',
    'classes': 'one folder per class',
}
# What people have instead, and what to do with it.
_OTHERS = {
    '.csv': 'tables (.csv)',
    '.tfrecord': "TensorFlow's records",
    '.parquet': 'tables (.parquet)',
    '.zip': 'archives: unpack them',
    '.json': 'json files of another format, such as LabelMe',
    '.xml': 'xml files of another format, such as CVAT',
}


def read_folder(path: str | Path, format: str | None = None) -> Folder:
    """Read a folder of pictures and labels.

    Args:
        path: The folder, or its COCO json or data.yaml.
        format: 'coco', 'yolo', 'voc', 'masks' or 'classes', where the folder holds several.

    Raises:
        FolderError: If it cannot be read, is in none of the formats, or in several.

    Example:
        >>> folder = read_folder('data/shapes/coco')
        >>> folder.format, folder.kind, len(folder.of('val'))
        ('coco', 'polygons', 64)
    """
    root, named = _root(Path(path).expanduser())
    listing = Listing.of(root)
    if not listing.pictures:
        raise FolderError(f'{root} holds no pictures, in {len(listing.files):,} files.')
    if named:
        format = format or ('coco' if named.endswith('.json') else 'yolo')
    found = {
        name: files
        for name, reader in READERS.items()
        if format in (None, name) and (files := reader.label_files(listing))
    }
    if named:
        found = {format: _with_named(found.get(format, []), named)}
    # Class folders are what is left when there are no label files.
    if len(found) > 1:
        found.pop('classes', None)
    if len(found) > 1:
        raise FolderError(_ambiguous(root, found))
    if not found:
        raise FolderError(_unknown(listing, format))
    name, files = next(iter(found.items()))
    folder = READERS[name].read(listing, files)
    _refuse_empty(folder)
    return folder


def _root(path: Path) -> tuple[Path, str]:
    """Return the folder, and the label file if the path names one."""
    if path.is_dir():
        return path, ''
    if not path.exists():
        raise FolderError(f'{path} does not exist (seen from {Path.cwd()}).')
    if path.suffix.lower() not in ('.json', '.yaml', '.yml'):
        raise FolderError(f'{path} is no folder. Name the folder, its COCO json or its data.yaml.')
    root = path.parent.parent if path.parent.name in ('annotations', 'labels') else path.parent
    return root, path.relative_to(root).as_posix()


def _with_named(files: list[str], named: str) -> list[str]:
    """Keep the label file that was named, of all files of its kind."""
    suffixes = ('.json', '.yaml', '.yml')
    return [named, *(file for file in files if not file.endswith(suffixes))]


def _ambiguous(root: Path, found: dict[str, list[str]]) -> str:
    lines = [f'{root} holds labels in {len(found)} formats:']
    lines += [f'  {_NAMES[name]}: {_some(files)}' for name, files in found.items()]
    options = ' or '.join(f'--format {name}' for name in found)
    return '\n'.join([*lines, f'Choose one: {options}'])


def _unknown(listing: Listing, format: str | None) -> str:
    """Say what was looked for, and what there is."""
    readers = {format: READERS[format]} if format else READERS
    lines = [f'{listing.root} holds {len(listing.pictures):,} pictures, but no labels I know.']
    lines += ['Looked for:', *(f'  {_NAMES[n]}: {r.LOOKS_FOR}' for n, r in readers.items())]
    near = [
        f'{len(files):,} {text} (e.g. {files[0]})'
        for suffix, text in {'.txt': 'texts that are no YOLO labels', **_OTHERS}.items()
        if (files := listing.ending(suffix))
    ]
    lines.append(f'Found: {"; ".join(near) or "pictures only, all in one folder"}.')
    return '\n'.join([*lines, 'Export the labels as COCO json: every labelling tool can.'])


def _some(files: list[str]) -> str:
    return ', '.join(files[:2]) + (f' and {len(files) - 2:,} more' if len(files) > 2 else '')


def _refuse_empty(folder: Folder) -> None:
    if folder.classes and any(folder.objects(folder.pictures)):
        return
    what = f'{folder.root} was read as {_NAMES[folder.format]}, but nothing in it can be learnt: '
    what += f'{len(folder.pictures):,} pictures can be used, and no object.'
    raise FolderError('\n'.join([what, *(f'  {finding}' for finding in folder.findings)]))
