"""Is the annotation file valid COCO json, and does it hold the classes the config asks for?"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from mmpoolformer.checkpoint.first_bytes import find_fault
from mmpoolformer.config_reading import DataSet, get, is_file, is_folder, join
from mmpoolformer.preflight.problem import Problem, count, some

# COCO's own train file (450 MB) takes 20 s to parse, twice as long as this whole check may take:
# of a file above this limit only the class list is parsed.
PARSE_LIMIT = 64 * 2**20

_IMAGE_KEYS = ('id', 'file_name', 'height', 'width')
_OBJECT_KEYS = ('id', 'image_id', 'category_id', 'bbox', 'area')
_COCO_PROBES = {'person', 'dog', 'toothbrush'}  # first, middle and last of the 80 names
_AGAIN = 'Export or download the file again.'


def check_annotations(dataset: DataSet, has_mask_head: bool) -> list[Problem]:
    """Return what is wrong inside the annotation file of one data set.

    Any '.json' file must be readable; the COCO rules are for ``CocoDataset``. A model that learns
    instance masks needs polygons.
    """
    path = dataset.ann_file
    if not path.endswith('.json'):
        return []
    if fault := find_fault(path):
        return [Problem(*fault)]
    try:
        if Path(path).stat().st_size > PARSE_LIMIT:
            return _check_large(dataset)
        data = json.loads(Path(path).read_bytes().decode('utf-8-sig'))
    except json.JSONDecodeError as error:
        where = f'{error.msg} at line {error.lineno}, column {error.colno}'
        cut = 'It was cut off. ' if error.pos >= len(error.doc.rstrip()) - 1 else ''
        return [Problem(f'{path} is not valid json: {where}.', cut + _AGAIN)]
    except (UnicodeDecodeError, RecursionError, OSError) as error:
        reason = getattr(error, 'reason', None) or error
        return [Problem(f'{path} cannot be read as json: {reason}.', _AGAIN)]
    if dataset.type != 'CocoDataset':
        return []
    return _check_layout(dataset, data) or [
        *_check_content(dataset, data, has_mask_head),
        *_check_images(dataset, data['images']),
        *_check_names(dataset, [category.get('name') for category in data['categories']]),
    ]


def _check_large(dataset: DataSet) -> list[Problem]:
    """Check the end and the class list of a file that would take too long to parse."""
    path = Path(dataset.ann_file)
    with path.open('rb') as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        if data[-99:].rstrip()[-1:] not in (b'}', b']'):
            what = f'{path} is not whole: json ends with }} or ], this file does not.'
            return [Problem(what, f'It was cut off. {_AGAIN}')]
        start = data.rfind(b'"categories"')
        text = data[start : start + 2**20].decode('utf-8', 'ignore').partition(':')[2].lstrip()
    with suppress(json.JSONDecodeError, RecursionError):
        categories, _ = json.JSONDecoder().raw_decode(text)
        if dataset.type == 'CocoDataset' and _is_records(categories):
            return _check_names(dataset, [category.get('name') for category in categories])
    return []


def _check_layout(dataset: DataSet, data: Any) -> list[Problem]:
    """Check for the lists of the COCO format; what follows relies on them."""
    path, cure = dataset.ann_file, 'Convert it to COCO json: https://cocodataset.org/#format-data'
    # The public test files name images only; there is nothing to train or score in them.
    needed = ['images', 'categories'] + ['annotations'] * (dataset.split != 'test')
    bad = [key for key in needed if not _is_records(get(data, key))]
    if not bad:
        return []
    keys = some(data) if isinstance(data, Mapping) else f'a {type(data).__name__}'
    if 'data_list' in keys:
        cure = f"It is in OpenMMLab's own format (metainfo, data_list). {cure}"
    what = f'{path} is not in COCO format: it has no list of {" and no list of ".join(bad)}.'
    return [Problem(f'{what} Found: {keys or "nothing"}.', cure)]


def _is_records(node: object) -> bool:
    return isinstance(node, list) and all(isinstance(item, Mapping) for item in node)


def _check_content(dataset: DataSet, data: Mapping[str, Any], has_mask_head: bool) -> list[Problem]:
    path, images, objects = dataset.ann_file, data['images'], data.get('annotations') or []
    if not images or (not objects and dataset.split == 'train'):
        lists = f'{count(len(images), "image")} but no objects' if images else 'no images'
        return [Problem(f'{path} lists {lists}.', 'Export it with its images and annotations.')]
    for name, items, keys in (('image', images, _IMAGE_KEYS), ('object', objects, _OBJECT_KEYS)):
        lacking = [(i, key) for i, item in enumerate(items, 1) for key in keys if key not in item]
        if lacking:
            first, total = lacking[0], len({i for i, _ in lacking})
            what = f'{path}: {total:,} of {len(items):,} {name}s lack a needed field; '
            what += f'number {first[0]} lacks `{first[1]}`. Needed: {", ".join(keys)}.'
            return [Problem(what, 'Export the file again with these fields.')]
    has_polygons = any(item.get('segmentation') for item in objects)
    if has_mask_head and dataset.split == 'train' and not has_polygons:
        what = f'{path} holds boxes but no polygons, and the model has a mask head.'
        cure = 'Export with segmentations, or train a box detector such as RetinaNet.'
        return [Problem(what, cure)]
    return []


def _check_images(dataset: DataSet, images: Sequence[Mapping[str, Any]]) -> list[Problem]:
    """Look up a sample of the images: a wrong prefix loses all of them, a broken copy some."""
    names = [name for image in images if isinstance(name := image.get('file_name'), str)]
    sample = names[:: max(1, len(names) // 100)]
    lost = [name for name in sample if not is_file(join(dataset.images, name))]
    if not (lost and is_folder(dataset.images)):
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
        is_coco = len(names) == 80 and set(names) >= _COCO_PROBES
        if is_coco or get(dataset.options, 'metainfo.classes'):
            return []
        what = f'{path} has {count(len(names), "category", "categories")} ({some(names)}), but the '
        what += 'config names no classes, so the 80 COCO names are expected.'
        return [Problem(what, f'Name yours: {key}=dict(classes={tuple(names)})')]
    lost = [name for name in dataset.classes if name not in names]
    if not lost:
        return []
    lines = [f'{count(len(lost), "class", "classes")} of {key}.classes not found in {path}:']
    real = {name.lower(): name for name in names}
    for name in lost[:8]:
        close = difflib.get_close_matches(name.lower(), real, 1, 0.6)
        lines += [f'  {name!r}' + (f'   (did you mean {real[close[0]]!r}?)' if close else '')]
    return [Problem('\n'.join(lines), f'Spell the classes as the file does: {some(names, 20)}.')]
