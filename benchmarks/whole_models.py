"""Whole detectors, segmenters and classifiers: with our backbone, and with mmpretrain's."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from benchmarks.backbones import implementations, mmpretrain_config, renamed
from benchmarks.samples import random_samples
from benchmarks.settings import Candidate, Setting
from benchmarks.workload import Workload, place, randomise
from mmpoolformer import convert_state_dict
from mmpoolformer.config_reading import heads
from mmpoolformer.zoo.complexity import IMAGE_SIZES, build_on_meta, measure

_OURS = 'mmpoolformer.'
# mmpretrain's PoolFormer has the other options with another meaning, or has them not.
_SHARED = {'type', 'arch', 'out_indices', 'init_cfg', 'drop_path_rate', 'fused'}
_DIVISOR = 32  # What batches are padded to.


@dataclass(frozen=True)
class WholeModel:
    """The subject of a table: the model of a config.

    Its backbone drops no paths here: with paths dropped at random nothing could be compared.

    Args:
        model: ``cfg.model`` as plain dictionaries.
        scope: ``'mmdet'``, ``'mmseg'`` or ``'mmpretrain'``.
    """

    model: Mapping
    scope: str

    def candidates(self, device: str) -> tuple[list[Candidate], list[str]]:
        """Return all entries that can run on a device, and a note if there is no other package."""
        backbone = self.model['backbone']
        if not backbone['type'].startswith(_OURS):
            return [Candidate('ours')], ['another backbone than ours: nothing to compare']
        ours = [Candidate('ours', fused) for fused in implementations(device)]
        if backbone['type'] != f'{_OURS}PoolFormer' or backbone.keys() - _SHARED:
            return ours, ['mmpretrain has no such backbone']
        if find_spec('mmpretrain') is None:
            return ours, ['mmpretrain is not installed']
        return [*ours, Candidate('mmpretrain')], []

    def build(self, candidate: Candidate, setting: Setting) -> Workload:
        """Return a model at work; weights, images and annotations are the same for all."""
        torch.manual_seed(0)
        module = self._build(self._config(candidate.fused))
        randomise(module.backbone)
        names = {}
        if candidate.is_peer:
            ours = module
            module = self._build({**self.model, 'backbone': mmpretrain_config(ours.backbone)})
            weights = ours.state_dict()
            theirs = convert_state_dict(weights, 'authors')
            module.load_state_dict(theirs, strict=True)
            names = renamed(weights, theirs)
        images = place(module, candidate, setting)
        samples = random_samples(self.scope, setting, _classes(self.model))

        def forward() -> object:
            return module(images, samples, mode='tensor')

        def loss() -> Tensor:
            return module.parse_losses(module.loss(images, samples))[0]

        return Workload(module, images, setting, module.backbone, names, forward, loss)

    def cost(self, setting: Setting) -> tuple[int, list[tuple[int, ...]]]:
        """Return multiply-accumulates of a forward pass, and the shapes of the backbone's maps."""
        cfg = Config(dict(model=self._config('reference'), default_scope=self.scope))
        batch, height, width = setting.shape
        with torch.device('meta'), torch.no_grad():
            maps = build_on_meta(cfg).backbone(torch.empty(batch, 3, height, width))
        return batch * measure(cfg, (height, width)).macs, [tuple(m.shape) for m in maps]

    def _config(self, fused: str) -> dict:
        model = copy.deepcopy(dict(self.model))
        if model['backbone']['type'].startswith(_OURS):
            model['backbone'] |= dict(fused=fused or 'auto', drop_path_rate=0.0)
        return model

    def _build(self, model: Mapping) -> nn.Module:
        with DefaultScope.overwrite_default_scope(self.scope):
            return MODELS.build(ConfigDict(copy.deepcopy(dict(model))))


def subject_of(cfg: Config) -> WholeModel:
    """Return the model of a config as a subject."""
    plain = cfg.to_dict()
    return WholeModel(plain['model'], plain['default_scope'])


def test_size(cfg: Config) -> tuple[int, int]:
    """Return height and width of the images that the test pipeline of a config makes at most.

    Of segmenters both are the shorter side: the longer one is a bound that photographs keep far
    away from.
    """
    pipeline = cfg.test_dataloader.dataset.get('pipeline', [])
    sizes = [t.get('crop_size', t.get('scale')) for t in pipeline]
    size = next((s for s in reversed(sizes) if s), IMAGE_SIZES[cfg.default_scope])
    sides = (size, size) if isinstance(size, int) else (min(size), max(size))
    if cfg.default_scope == 'mmseg':
        sides = (sides[0], sides[0])
    return tuple(-(-side // _DIVISOR) * _DIVISOR for side in sides)


def _classes(model: Mapping) -> int:
    """Return how many classes a model knows."""
    counts = heads({'model': model}).values()
    if not counts:
        raise ValueError(f'{model["type"]} has no head that is known here')
    return max(counts)
