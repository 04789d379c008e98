"""A small detection data set and the config that reads it; each test then breaks one thing."""

import json
from copy import deepcopy
from pathlib import Path

import pytest

CLASSES = ('circle', 'square', 'triangle')
CATEGORIES = [{'id': i, 'name': name} for i, name in enumerate(CLASSES, 1)]
IMAGE = {'id': 7, 'file_name': 'a.jpg', 'height': 64, 'width': 64}
OBJECT = {
    'id': 1,
    'image_id': 7,
    'category_id': 1,
    'bbox': [2, 2, 8, 8],
    'area': 64,
    'segmentation': [[2, 2, 10, 2, 10, 10]],
}


class Detection:
    """A data set in ``root`` with its config ``cfg``; ``write`` replaces an annotation file."""

    def __init__(self, root: Path):
        self.root = root
        for split in ('train', 'val'):
            (root / split).mkdir(parents=True)
            (root / split / 'a.jpg').write_bytes(b'jpg')
            self.write(split)
        self.cfg = {
            'model': {'backbone': {}, 'bbox_head': {'num_classes': 3}},
            'optim_wrapper': {'optimizer': {'lr': 1e-4}},
            'auto_scale_lr': {'base_batch_size': 16},
            'train_dataloader': self._loader('train'),
            'val_dataloader': self._loader('val'),
            'val_evaluator': {'type': 'CocoMetric', 'ann_file': f'{root}/val.json'},
        }

    def _loader(self, split):
        dataset = {
            'type': 'CocoDataset',
            'data_root': f'{self.root}/',
            'ann_file': f'{split}.json',
            'data_prefix': {'img': f'{split}/'},
            'metainfo': {'classes': CLASSES},
        }
        return {'batch_size': 2, 'dataset': dataset}

    def write(self, split, **changes):
        """Write a good annotation file with some of its lists replaced; None removes one."""
        data = {'images': [IMAGE], 'annotations': [OBJECT], 'categories': CATEGORIES}
        data = {key: value for key, value in (data | changes).items() if value is not None}
        (self.root / f'{split}.json').write_text(json.dumps(deepcopy(data)))


@pytest.fixture
def detection(tmp_path):
    return Detection(tmp_path / 'mine')


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr('mmpoolformer.preflight.settings.cuda_devices', lambda: 0)


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr('mmpoolformer.preflight.settings.cuda_devices', lambda: 2)
