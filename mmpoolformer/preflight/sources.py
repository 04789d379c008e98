"""Where the usual data sets come from, in the words of the message."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

_SHAPES = 'The Shapes data set'
_COCO = 'http://images.cocodataset.org'
_COCO_FILES = {  # what is missing -> the archive that holds it
    'train2017': f'{_COCO}/zips/train2017.zip   (18 GB)',
    'val2017': f'{_COCO}/zips/val2017.zip   (1 GB)',
    'instances_': f'{_COCO}/annotations/annotations_trainval2017.zip   (241 MB)',
}
_ADE = 'http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip'


def name_of(root: str, kinds: set[str]) -> str:
    """Return the common name of the data set at ``root``, or '' when it is the user's own."""
    parts = root.lower().replace('\\', '/').split('/')
    if 'shapes' in parts:
        return _SHAPES
    if 'CocoDataset' in kinds and parts[-1] in ('coco', 'coco2017'):
        return 'COCO'
    if 'ADE20KDataset' in kinds and any(part.startswith('ade') for part in parts):
        return 'ADE20K'
    if 'ImageNet' in kinds and any(part.startswith('imagenet') for part in parts):
        return 'ImageNet'
    return ''


def how_to_get(name: str, root: str, missing: Sequence[str], config_keys: Sequence[str]) -> str:
    """Return what to do about the missing paths of a data root named in the ``config_keys``."""
    if name == _SHAPES:
        return (
            'Make it (it is built in, and takes seconds):\n  python -m mmpoolformer.datasets.shapes'
        )
    parent, lines = Path(root).parent, []
    if name == 'COCO':
        # 'instances_train2017.json' must not ask for 18 GB of images.
        starts = [Path(path.split('   ')[0]).name for path in missing]
        files = [a for sign, a in _COCO_FILES.items() if any(s.startswith(sign) for s in starts)]
        files = files or ['https://cocodataset.org/#download']
        lines += [f'Get and unpack in {root}/:', *(f'  {file}' for file in files)]
        lines += [f'Expected: {root}/{{annotations,train2017,val2017}}/']
    elif name == 'ADE20K':
        lines += [f'Get it (923 MB) and unpack it in {parent}/:', f'  {_ADE}']
        folders = '{images,annotations}/{training,validation}/'
        lines += [f'Expected: {root}/{folders}']
    elif name == 'ImageNet':
        lines += ['Get ILSVRC2012 from https://image-net.org (it needs an account), and sort it as']
        lines += [f'  {root}/{{train,val}}/n01440764/*.JPEG   (one folder per class, 1000 of them)']
    # An absolute path is somebody's choice on this machine: there the path itself is in doubt.
    is_absolute = Path(root).is_absolute()
    if root and not is_absolute and not os.path.lexists(root):
        lines += ['Have it already? Link it:' if name else 'Link your data there:']
        lines += [f'  mkdir -p {parent} && ln -s /path/to/your/{Path(root).name} {root}']
    if not name or is_absolute:
        lines += ['The path is written in the config at', *(f'  {key}' for key in config_keys[:6])]
    if name in ('COCO', 'ADE20K'):
        lines += ['Just trying? `make demo` makes its own small data set and trains on it.']
    return '\n'.join(lines)
