"""Configs of RetinaNet and Mask R-CNN."""

from __future__ import annotations

from typing import Any

from mmpoolformer.finetuning.base_config import NORM, ConfigWriter, without_empty
from mmpoolformer.finetuning.code import Name, assignment

_LONG_SIDE = 5 / 3  # Of the short one, as the recipe's 1333 of 800.


class RetinaNetConfig(ConfigWriter):
    """Writes configs of RetinaNet."""

    labels: dict[str, Any] = {'type': 'LoadAnnotations', 'with_bbox': True}  # noqa: RUF012

    def model(self) -> list[str]:
        norm = NORM if self.from_scratch else {}
        parts = {
            'backbone': self.backbone(),
            'neck': self.neck(first_stage=1) | norm,
            'bbox_head': {'num_classes': len(self.classes)} | norm,
        }
        return [*self.norm(), assignment('model', without_empty(parts))]

    def norm(self) -> list[str]:
        """Return the lines of the norm that neck and head need without weights."""
        if not self.from_scratch:
            return []
        why = '# Without weights, neck and head need a norm (arXiv 1811.08883).'
        return [why, assignment('norm_cfg', {'type': 'GN', 'num_groups': 32})]

    def pipelines(self) -> list[str]:
        load, pack = {'type': 'LoadImageFromFile'}, {'type': 'PackDetInputs'}
        resize = {'type': 'Resize', 'scale': Name('scale'), 'keep_ratio': True}
        flip = {'type': 'RandomFlip', 'prob': 0.5}
        keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
        test = [load, resize, self.labels, pack | {'meta_keys': keys}]
        short = self.recipe.short
        return [
            self.why('image size', 'the short side: '),
            assignment('scale', (round(short * _LONG_SIDE), short)),
            assignment('train_pipeline', [load, self.labels, resize, flip, pack]),
            assignment('test_pipeline', test),
        ]

    def dataset(self, split: str) -> dict[str, Any]:
        dataset = {
            'data_root': '',
            'metainfo': Name('metainfo'),
            'ann_file': Name(f"annotations + '{split}.json'"),
            'data_prefix': {'img': Name('pictures')},
        }
        if split == 'train':
            # Small pictures, and those without objects, are learnt from, too.
            dataset['filter_cfg'] = {'_delete_': True, 'filter_empty_gt': False}
        return dataset | self.pipeline_of(split)

    def evaluators(self) -> list[str]:
        lines = ["val_evaluator = dict(ann_file=annotations + 'val.json')"]
        if 'test' in self.places.splits:
            return [*lines, "test_evaluator = dict(ann_file=annotations + 'test.json')"]
        return [*lines, 'test_evaluator = val_evaluator']

    def schedule(self) -> list[str]:
        epochs = self.recipe.epochs
        # The recipe's 12 epochs have their steps after the 8th and the 11th.
        steps = sorted({round(epochs * 8 / 12), round(epochs * 11 / 12)} - {0, epochs})
        decay = {'type': 'MultiStepLR', 'begin': 0, 'end': epochs, 'by_epoch': True}
        decay |= {'milestones': steps, 'gamma': 0.1}
        return [
            self.why('epochs'),
            assignment('train_cfg', {'max_epochs': epochs, 'val_interval': self.interval()}),
            *self.optimizer({}),
            assignment('param_scheduler', [self.warm_up(), decay]),
        ]


class MaskRCNNConfig(RetinaNetConfig):
    """Writes configs of Mask R-CNN, whose schedule is the same."""

    labels = RetinaNetConfig.labels | {'with_mask': True}

    def model(self) -> list[str]:
        norm = NORM if self.from_scratch else {}
        number = {'num_classes': len(self.classes)}
        parts = {
            'backbone': self.backbone(),
            'neck': self.neck(first_stage=0) | norm,
            'roi_head': {'bbox_head': number, 'mask_head': number | norm},
        }
        return [*self.norm(), assignment('model', without_empty(parts))]
