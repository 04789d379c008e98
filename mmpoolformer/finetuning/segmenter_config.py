"""Configs of Semantic FPN."""

from __future__ import annotations

from typing import Any

from mmpoolformer.finetuning.base_config import ConfigWriter, without_empty
from mmpoolformer.finetuning.code import Name, assignment


class SemanticFPNConfig(ConfigWriter):
    """Writes configs of Semantic FPN, which counts steps, not epochs."""

    def model(self) -> list[str]:
        parts = {
            'data_preprocessor': {'size': Name('crop_size')},
            'backbone': self.backbone(),
            'neck': self.neck(first_stage=0),
            'decode_head': {'num_classes': len(self.classes)},
        }
        return [
            self.why('image size', 'the short side: '),
            assignment('crop_size', (self.recipe.short, self.recipe.short)),
            assignment('model', without_empty(parts)),
        ]

    def pipelines(self) -> list[str]:
        load, labels = {'type': 'LoadImageFromFile'}, {'type': 'LoadAnnotations'}
        pack = {'type': 'PackSegInputs'}
        scale = {'scale': (4 * self.recipe.short, self.recipe.short), 'keep_ratio': True}
        train = [
            load,
            labels,
            {'type': 'RandomResize', 'ratio_range': (0.5, 2.0)} | scale,
            {'type': 'RandomCrop', 'crop_size': Name('crop_size'), 'cat_max_ratio': 0.75},
            {'type': 'RandomFlip', 'prob': 0.5},
            {'type': 'PhotoMetricDistortion'},
            pack,
        ]
        whole = {'type': 'ResizeToMultiple', 'size_divisor': 32}
        return [
            assignment('train_pipeline', train),
            assignment('test_pipeline', [load, {'type': 'Resize'} | scale, whole, labels, pack]),
        ]

    def dataset(self, split: str) -> dict[str, Any]:
        prefix = {'img_path': Name('pictures'), 'seg_map_path': Name("annotations + 'masks/'")}
        return {
            'type': 'BaseSegDataset',
            'data_root': '',
            'metainfo': Name('metainfo'),
            'ann_file': Name(f"annotations + '{split}.txt'"),
            'data_prefix': prefix,
            # The list has whole names: a mask is called like its picture, with .png behind.
            'img_suffix': '',
            'seg_map_suffix': '.png',
            **self.pipeline_of(split),
        }

    def evaluators(self) -> list[str]:
        return []

    def schedule(self) -> list[str]:
        decay = {'type': 'PolyLR', 'power': 0.9, 'eta_min': 0.0, 'begin': 0, 'end': self.steps}
        scheduler = [decay | {'by_epoch': False}]
        if self.from_scratch:
            scheduler = [self.warm_up(), *scheduler]
        loop = {'max_iters': self.steps, 'val_interval': self.interval_in_steps()}
        return [
            f'# {self.recipe.epochs} times {self.recipe.steps}: {self.recipe.why("epochs")}.',
            assignment('train_cfg', loop),
            *self.optimizer({}),
            assignment('param_scheduler', scheduler),
        ]

    def hooks(self) -> dict[str, Any]:
        hooks = super().hooks()
        hooks['checkpoint']['interval'] = self.interval_in_steps()
        return hooks
