"""Is the annotation file valid COCO json, and does it hold the classes the config asks for?"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmpoolformer.config_reading import DataSet, get, is_file, is_folder, join
from mmpoolformer.preflight.problem import Problem, count, some

# COCO's own train file (450 MB) takes 20 s to parse, twice as long as this whole check may take:
# of a file above this limit only the two ends are read. They show a cut-off download, and the
# class list, which the official files hold at the end.
PARSE_LIMIT = 64 * 2**20
_END = 128 * 2**10

_IMAGE_KEYS = ('id', 'file_name', 'height', 'width')
_OBJECT_KEYS = ('id', 'image_id', 'category_id', 'bbox', 'area')
_COCO_PROBES = {'person', 'dog', 'toothbrush'}  # first, middle and last of the 80 names
_AGAIN = 'Export or download the file again.'


def check_annotations(dataset: DataSet, has_mask_head: bool) -> list[Problem]:
    """Return what is wrong inside the annotation file of one data set.

    Any '.json' file must be readable; the COCO rules are applied to ``CocoDataset`` only, because
    other classes read other formats.

    Args:
        dataset: A data set whose annotation file exists.
        has_mask_head: Whether the model learns instance masks, which need polygons.
    """
    path = dataset.ann_file
    if not path.endswith('.json'):
        return []
    try:
        if Path(path).stat().st_size > PARSE_LIMIT:
            return _check_ends(dataset)
        content = Path(path).read_bytes()
        if not content.strip():
            return [Problem(f'{path} is empty ({count(len(content), "byte")}).', _AGAIN)]
        data = json.loads(content.decode('utf-8-sig'))
    except json.JSONDecodeError as error:
        where = f'line {error.lineno}, column {error.colno}'
        return [Problem(f'{path} is not valid json: {error.msg} at {where}.', _broken(error))]
    except UnicodeDecodeError:
        return [Problem(f'{path} is not a text file, so it cannot be json.', _AGAIN)]
    except RecursionError:
        return [Problem(f'{path} is nested too deeply to be an annotation file.', _AGAIN)]
    except OSError as error:
        return [Problem(f'{path} cannot be read: {error.strerror}.', 'Check its permissions.')]
    if dataset.type != 'CocoDataset':
        return []
    return _check_layout(dataset, data) or [
        *_check_content(dataset, data, has_mask_head),
        *_check_images(dataset, data['images']),
        *_check_names(dataset, [category.get('name') for category in data['categories']]),
    ]


def _broken(error: json.JSONDecodeError) -> str:
    if error.doc.lstrip()[:1] == '<':
        return 'It is a web page saved under this name. ' + _AGAIN
    if error.pos >= len(error.doc.rstrip()) - 1:
        return f'The file ends too early: a copy or download was cut off. {_AGAIN}'
    line = error.doc.splitlines()[error.lineno - 1] if error.doc else ''
    around = line[max(0, error.colno - 30) : error.colno + 30].strip()
    return f'It stands near\n  {around}\n{_AGAIN}'


def _check_ends(dataset: DataSet) -> list[Problem]:
    """Check a file that is too large to parse by its first and last kilobytes."""
    path = dataset.ann_file
    with Path(path).open('rb') as file:
        head = file.read(_END).lstrip(b'\xef\xbb\xbf \t\r\n')
        file.seek(-_END, os.SEEK_END)
        tail = file.read().rstrip()
    if head[:1] not in b'{[' or tail[-1:] not in b'}]':
        what = f'{path} is not whole: json begins with {{ and ends with }}, this file does not.'
        return [Problem(what, f'A copy or download was cut off. {_AGAIN}')]
    if dataset.type != 'CocoDataset':
        return []
    for end in (tail, head):
        text = end.decode('utf-8', errors='ignore')
        for match in re.finditer(r'"categories"\s*:\s*', text):
            try:
                categories, _ = json.JSONDecoder().raw_decode(text, match.end())
            except (json.JSONDecodeError, RecursionError):
                continue
            if isinstance(categories, list) and all(isinstance(c, Mapping) for c in categories):
                return _check_names(dataset, [category.get('name') for category in categories])
    return []


def _check_layout(dataset: DataSet, data: Any) -> list[Problem]:
    """Check for the lists of the COCO format; what follows relies on them."""
    path, cure = dataset.ann_file, 'Convert it to COCO json: https://cocodataset.org/#format-data'
    if not isinstance(data, Mapping):
        kind = {list: 'a list', str: 'a text', type(None): 'null'}.get(type(data), 'a number')
        return [Problem(f'{path} is not in COCO format: it holds {kind}, not an object.', cure)]
    # The public test files name images only; there is nothing to train or score in them.
    needed = ['images', 'categories'] + ['annotations'] * (dataset.split != 'test')
    bad = [key for key in needed if not _is_records(data.get(key))]
    if not bad:
        return []
    if 'data_list' in data:
        cure = "It is in OpenMMLab's own format (metainfo, data_list). " + cure
    what = f'{path} is not in COCO format: it has no list of {" and no list of ".join(bad)}.'
    return [Problem(f'{what} Found: {some(data) or "nothing"}.', cure)]


def _is_records(node: object) -> bool:
    return isinstance(node, list) and all(isinstance(item, Mapping) for item in node)


def _check_content(dataset: DataSet, data: Mapping[str, Any], has_mask_head: bool) -> list[Problem]:
    path, images, objects = dataset.ann_file, data['images'], data.get('annotations') or []
    if not images:
        return [Problem(f'{path} lists no images.', 'Export the file with its images.')]
    if not objects and dataset.split == 'train':
        what = f'{path} lists {count(len(images), "image")} but no objects: nothing can be learnt.'
        return [Problem(what, 'Export the file with its annotations.')]
    for name, items, keys in (
        ('image', images, _IMAGE_KEYS),
        ('object', objects, _OBJECT_KEYS),
    ):
        incomplete = [(i, key) for i, item in enumerate(items) for key in keys if key not in item]
        if incomplete:
            (first, key), total = incomplete[0], len({i for i, _ in incomplete})
            what = f'{path}: {total:,} of {len(items):,} {name}s lack a needed field; '
            what += f'number {first + 1} lacks `{key}`. Needed: {", ".join(keys)}.'
            return [Problem(what, 'Export the file again with these fields.')]
    ids = [str(item['id']) for item in objects]
    if len(set(ids)) < len(ids):
        what = f'{path}: {len(ids) - len(set(ids)):,} annotation ids are used more than once.'
        return [Problem(what, 'Number the annotations 1, 2, 3, … through the whole file.')]
    if has_mask_head and dataset.split == 'train' and objects:
        bare = sum(not item.get('segmentation') for item in objects)
        if bare == len(objects):
            what = f'{path} holds boxes but no polygons, and the model has a mask head.'
            cure = 'Export with segmentations, or train a box detector such as RetinaNet.'
            return [Problem(what, cure)]
    return []


def _check_images(dataset: DataSet, images: Sequence[Mapping[str, Any]]) -> list[Problem]:
    """Look up a sample of the images: a wrong prefix loses all of them, a broken copy some."""
    names = [image.get('file_name') for image in images]
    names = [name for name in names if isinstance(name, str)]
    sample = names[:: max(1, len(names) // 100)]
    if not is_folder(dataset.images):
        return []
    lost = [name for name in sample if not is_file(join(dataset.images, name))]
    if not lost:
        return []
    what = f'{dataset.ann_file} names images that are not in {dataset.images}/: '
    cure = f'Copy them there, or correct {dataset.key}.data_prefix.'
    return [Problem(f'{what}{some(lost, 3)} (of {len(sample)} looked up).', cure)]


def _check_names(dataset: DataSet, names: list[Any]) -> list[Problem]:
    """Compare the category names of the file with the classes of the config.

    mmdet drops a class it does not find in the file without a word, and every later label moves
    up by one, so this is worth an error even where training would start.
    """
    names = [str(name) for name in names]
    path, key = dataset.ann_file, f'{dataset.key}.metainfo'
    if dataset.classes is None:
        given = get(dataset.options, 'metainfo.classes')
        if given or (len(names) == 80 and set(names) >= _COCO_PROBES):
            return []
        what = f'{path} has {count(len(names), "category", "categories")} ({some(names)}), but the '
        what += 'config names no classes, so the 80 COCO names are expected.'
        return [Problem(what, f'Name yours: {key}=dict(classes={_as_tuple(names)})')]
    lost = [name for name in dataset.classes if name not in names]
    if not lost:
        return []
    lines = []
    for name in lost[:8]:
        close = difflib.get_close_matches(name.lower(), {n.lower() for n in names}, 1, 0.6)
        real = next((n for n in names if close and n.lower() == close[0]), None)
        lines.append(f'  {name!r}' + (f'   (did you mean {real!r}?)' if real else ''))
    if len(lost) > len(lines):
        lines.append(f'  … and {len(lost) - len(lines)} more')
    what = f'{count(len(lost), "class", "classes")} of {key}.classes are not in {path}:'
    what = what.replace(' are ', ' is ') if len(lost) == 1 else what
    cure = f'Spell the classes as the file does: {some(names, 20)}.'
    return [Problem('\n'.join([what, *lines]), cure)]


def _as_tuple(names: Sequence[str]) -> str:
    return repr(tuple(names)) if len(names) <= 6 else f'({", ".join(map(repr, names[:3]))}, …)'
