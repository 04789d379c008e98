"""Finds data sets, model heads and the files they name in a config, whatever its shape.

It never raises: an unreadable path is an absent one, and what is not a config is an empty one.
Paths go through the functions here, because a path out of a config can be anything: pathlib alone
raises on a forbidden folder and on a name too long for the file system, and takes '' for the
current folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

# The stock data set classes whose class list is used when the config names none.
DEFAULT_CLASS_COUNTS = {'CocoDataset': 80, 'ADE20KDataset': 150, 'ImageNet': 1000}
FOLDER_DATASETS = ('ImageNet', 'CustomDataset')
# rpn_head is absent on purpose: its num_classes is 1 (object or not) for any data set.
_HEADS = ('bbox_head', 'mask_head', 'decode_head', 'auxiliary_head', 'head')


@dataclass(frozen=True)
class DataSet:
    """One innermost data set of a config, its paths joined as mmengine will join them.

    Args:
        split: 'train', 'val' or 'test'.
        key: Where it stands in the config, as ``--cfg-options`` spells it.
        type: The class name without its scope, e.g. 'CocoDataset'.
        root: ``data_root`` as written, or ''.
        ann_file: The joined annotation file, '' when there is none or it is not a local one.
        folders: The joined local folders by prefix name, e.g. ``{'img': 'data/coco/val2017/'}``.
        options: The untouched settings of the data set.
    """

    split: str
    key: str
    type: str
    root: str
    ann_file: str
    folders: dict[str, str] = field(hash=False)
    options: Mapping[str, Any] = field(hash=False, repr=False)

    @property
    def images(self) -> str:
        """The folder of the images, or ''."""
        return self.folders.get('img') or self.folders.get('img_path') or ''

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The class names that the config itself gives, or None."""
        names = get(self.options, 'metainfo.classes') or self.options.get('classes')
        if isinstance(names, str) and is_file(names):  # mmengine reads such a file
            return tuple(lines_of(names))
        if isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names):
            return tuple(names)
        return None

    @property
    def num_classes(self) -> int | None:
        """How many classes the data set will have, or None when only building it would tell."""
        if self.classes is not None:
            return len(self.classes)
        if self.options.get('classes') or get(self.options, 'metainfo.classes'):
            return None  # given, but unreadable: another check speaks about it
        return DEFAULT_CLASS_COUNTS.get(self.type)


def plain(cfg: object) -> Mapping[str, Any]:
    """Return the config as plain dicts; anything that is not a config becomes an empty one."""
    if isinstance(cfg, Config):
        return cfg.to_dict()  # lazy `type=SomeClass` become dotted strings, nothing is imported
    return cfg if isinstance(cfg, Mapping) else {}


def get(node: object, path: str) -> Any:
    """Follow a dotted path through nested mappings; None when it leads nowhere.

    Example:
        >>> get({'a': {'b': 1}}, 'a.b'), get({'a': None}, 'a.b')
        (1, None)
    """
    for part in path.split('.'):
        if not isinstance(node, Mapping):
            return None
        node = node.get(part)
    return node


def type_name(node: object) -> str:
    """Return the class name of a ``dict(type=...)`` without scope or module, or ''."""
    kind = get(node, 'type')
    name = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
    return name.rpartition('.')[2]


def is_remote(path: str) -> bool:
    """Tell an address ('s3://…', 'https://…', 'metaformer://…') from a local path."""
    return '://' in path


def is_local(node: object) -> bool:
    """Tell whether files are read from disk: with petrel even 'data/coco' may be an address."""
    return get(node, 'backend_args.backend') in (None, 'local')


def as_list(node: object) -> list[Any]:
    """Return a list or tuple as a list, None as none, anything else as one."""
    if node is None:
        return []
    return list(node) if isinstance(node, (list, tuple)) else [node]


def datasets(cfg: Mapping[str, Any], split: str) -> list[DataSet]:
    """Return the innermost data sets of ``<split>_dataloader``, wrappers unwrapped."""
    key = f'{split}_dataloader.dataset'
    return [_read(leaf, split, place) for leaf, place in _unwrap(get(cfg, key), key)]


def _unwrap(node: object, key: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield the data sets inside RepeatDataset, ConcatDataset and the other wrappers."""
    if not isinstance(node, Mapping):
        return
    inner = [(node['dataset'], f'{key}.dataset')] if node.get('dataset') else []
    inner += [(part, f'{key}.datasets.{i}') for i, part in enumerate(as_list(node.get('datasets')))]
    if not inner:
        yield node, key
    for part, place in inner:
        yield from _unwrap(part, place)


def _read(node: Mapping[str, Any], split: str, key: str) -> DataSet:
    kind = type_name(node)
    root = node.get('data_root') if isinstance(node.get('data_root'), str) else ''
    prefixes, ann_file = node.get('data_prefix'), node.get('ann_file')
    if kind == 'ImageNet' and isinstance(node.get('split'), str):
        # mmpretrain's ImageNet(split='val') means the folder val/, and meta/val.txt if it exists.
        prefixes = prefixes or node['split']
        labels = f'meta/{node["split"]}.txt'
        if not ann_file and is_file(join(root, labels)):
            ann_file = labels
    if isinstance(prefixes, str):
        prefixes = {'img_path': _home(prefixes)}
    elif kind in FOLDER_DATASETS and not prefixes:
        prefixes = {'img_path': ''}
    prefixes = prefixes if isinstance(prefixes, Mapping) and is_local(node) else {}
    folders = {
        str(name): _join(root, prefix)
        for name, prefix in prefixes.items()
        if isinstance(prefix, str) and (prefix or root)
    }
    folders = {name: path for name, path in folders.items() if path}
    named = isinstance(ann_file, str) and ann_file and is_local(node)
    return DataSet(split, key, kind, root, _join(root, ann_file) if named else '', folders, node)


def _join(root: str, path: str) -> str:
    """Join two parts of a path; '' when the result is an address."""
    if is_remote(path) or (is_remote(root) and not Path(path).is_absolute()):
        return ''
    return join(root, path)


def _home(path: str) -> str:
    """Expand '~' in a prefix as mmpretrain does."""
    try:
        return str(Path(path).expanduser()) if path.startswith('~') else path
    except RuntimeError:  # '~nobody'
        return path


def heads(cfg: Mapping[str, Any]) -> dict[str, int]:
    """Return every ``num_classes`` of the model's heads by its config key.

    Example:
        >>> heads({'model': {'roi_head': {'bbox_head': [{'num_classes': 80}]}}})
        {'model.roi_head.bbox_head.0.num_classes': 80}
    """
    found = {}
    for parent in ('model', 'model.roi_head', 'model.detector', 'model.detector.roi_head'):
        for name in _HEADS:
            place = f'{parent}.{name}'
            node = get(cfg, place)
            for i, head in enumerate(as_list(node)):
                number = get(head, 'num_classes')
                if isinstance(number, int) and not isinstance(number, bool):
                    index = f'.{i}' if isinstance(node, (list, tuple)) else ''
                    found[f'{place}{index}.num_classes'] = number
    return found


def join(root: str, path: str) -> str:
    """Join as mmengine does: an absolute path stays as it is.

    Example:
        >>> join('data/coco/', 'train2017/'), join('data', '/b')
        ('data/coco/train2017', '/b')
    """
    return str(Path(root) / path)


def is_file(path: str) -> bool:
    """Tell whether ``path`` is a file that can be seen."""
    try:
        return bool(path) and Path(path).is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: str) -> bool:
    """Tell whether ``path`` is a folder that can be seen."""
    try:
        return bool(path) and Path(path).is_dir()
    except (OSError, ValueError):
        return False


def lines_of(path: str) -> list[str]:
    """Return the lines of a text file that are not empty, stripped."""
    try:
        text = Path(path).read_text(encoding='utf-8', errors='replace')
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip()]
