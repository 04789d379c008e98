"""Where the usual data sets come from, in the words of the message."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mmpoolformer.config_reading import is_folder

_COCO = 'http://images.cocodataset.org'
_COCO_FILES = {  # what is missing -> the archive that holds it
    'train2017': (f'{_COCO}/zips/train2017.zip', '18 GB'),
    'val2017': (f'{_COCO}/zips/val2017.zip', '1 GB'),
    'instances_': (f'{_COCO}/annotations/annotations_trainval2017.zip', '241 MB'),
}
_ADE = 'http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip'


def name_of(root: str, kinds: set[str]) -> str:
    """Return the common name of the data set at ``root``, or '' when it is the user's own.

    Example:
        >>> name_of('data/coco/', {'CocoDataset'}), name_of('data/mine', {'CocoDataset'})
        ('COCO', '')
    """
    parts = os.path.normpath(root).lower().replace('\\', '/').split('/')
    if 'shapes' in parts:
        return 'The Shapes data set'
    if 'CocoDataset' in kinds and parts[-1] in ('coco', 'coco2017'):
        return 'COCO'
    if 'ADE20KDataset' in kinds and any(part.startswith('ade') for part in parts):
        return 'ADE20K'
    if 'ImageNet' in kinds and any(part.startswith('imagenet') for part in parts):
        return 'ImageNet'
    return ''


def how_to_get(name: str, root: str, missing: Sequence[str], config_keys: Sequence[str]) -> str:
    """Return what to do about missing data.

    Args:
        name: The result of ``name_of``.
        root: The data root as written in the config.
        missing: The missing paths.
        config_keys: The places in the config that point at the data.
    """
    if name == 'The Shapes data set':
        return (
            'Make it (it is built in, and takes seconds):\n  python -m mmpoolformer.datasets.shapes'
        )
    shown = os.path.normpath(root) if root else ''
    lines = []
    if name == 'COCO':
        lines += _get_coco(shown, missing)
    elif name == 'ADE20K':
        lines += [
            f'Get it (923 MB) and unpack it in {Path(shown).parent}/:',
            f'  {_ADE}',
            'Expected in it: images/{training,validation}/*.jpg and '
            'annotations/{training,validation}/*.png',
        ]
    elif name == 'ImageNet':
        lines += [
            'Get ILSVRC2012 from https://image-net.org (it needs an account), and sort it as',
            f'  {shown}/{{train,val}}/n01440764/*.JPEG   (one folder per class, 1000 of them)',
        ]
    # An absolute path is somebody's choice on this machine: there the path itself is in doubt.
    if shown and not Path(shown).is_absolute() and not os.path.lexists(shown):
        have = 'Have it already? Link it:' if name else 'Link your data there:'
        lines += [have, _link(shown)]
    if not name or Path(shown).is_absolute():
        lines += ['The path is written in the config at', *(f'  {key}' for key in config_keys[:6])]
    if name in ('COCO', 'ADE20K'):
        lines.append('Just trying? `make demo` makes its own small data set and trains on it.')
    return '\n'.join(lines)


def _get_coco(root: str, missing: Sequence[str]) -> list[str]:
    files = [
        f'{url}   ({size})'
        for sign, (url, size) in _COCO_FILES.items()
        # 'instances_train2017.json' must not ask for 18 GB of images.
        if any(Path(path).name.startswith(sign) for path in missing)
    ]
    if not files:
        return ['See https://cocodataset.org/#download.']
    return [
        f'Get {"this file" if len(files) == 1 else "these"} and unpack in {root}/:',
        *(f'  {line}' for line in files),
        'or, with an OpenDataLab account, all of COCO at once:',
        '  mim download mmdet --dataset coco2017',
        f'Expected: {root}/{{annotations,train2017,val2017}}/',
    ]


def _link(path: str) -> str:
    parent = str(Path(path).parent)
    make = '' if is_folder(parent) else f'mkdir -p {parent} && '
    return f'  {make}ln -s /path/to/your/{Path(path).name} {path}'
