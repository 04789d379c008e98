"""Configs of classifiers."""

from __future__ import annotations

from typing import Any

from mmpoolformer.finetuning.base_config import ConfigWriter
from mmpoolformer.finetuning.code import Name, assignment

_CROP = 0.9  # Of the short side is seen in tests, as in the recipe of the S models.


class ClassifierConfig(ConfigWriter):
    """Writes configs of classifiers."""

    def model(self) -> list[str]:
        number = {'num_classes': len(self.classes)}
        weights = self.recipe.weights
        init = {'type': 'Pretrained', 'checkpoint': weights} if weights else None
        parts = {
            'data_preprocessor': number,
            'backbone': self.backbone() | {'init_cfg': init},
            'head': number,
            'train_cfg': {'_delete_': True},
        }
        why = '# Images are not mixed, as 300 epochs on ImageNet need it.'
        return [why, assignment('model', parts)]

    def pipelines(self) -> list[str]:
        short = self.recipe.short
        load, pack = {'type': 'LoadImageFromFile'}, {'type': 'PackInputs'}
        how = {'backend': 'pillow', 'interpolation': 'bicubic'}
        crop = {'type': 'RandomResizedCrop', 'scale': short, 'crop_ratio_range': (0.35, 1.0)}
        edge = {'type': 'ResizeEdge', 'scale': round(short / _CROP), 'edge': 'short'}
        flip = {'type': 'RandomFlip', 'prob': 0.5}
        centre = {'type': 'CenterCrop', 'crop_size': short}
        return [
            self.why('image size', 'the short side: '),
            assignment('train_pipeline', [load, crop | how, flip, pack]),
            assignment('test_pipeline', [load, edge | how, centre, pack]),
        ]

    def dataset(self, split: str) -> dict[str, Any]:
        return {
            '_delete_': True,
            'type': 'CustomDataset',
            'metainfo': Name('metainfo'),
            'ann_file': Name(f"annotations + '{split}.txt'"),
            'data_prefix': Name('pictures'),
            **self.pipeline_of(split),
        }

    def evaluators(self) -> list[str]:
        return ['val_evaluator = dict(topk=(1,))', 'test_evaluator = val_evaluator']

    def schedule(self) -> list[str]:
        epochs = self.recipe.epochs
        decay = {'type': 'CosineAnnealingLR', 'T_max': epochs, 'convert_to_iter_based': True}
        return [
            self.why('epochs'),
            assignment('train_cfg', {'max_epochs': epochs, 'val_interval': self.interval()}),
            *self.optimizer({'_delete_': True, 'type': 'AdamW', 'weight_decay': 0.05}),
            assignment('param_scheduler', [self.warm_up(), decay]),
        ]
