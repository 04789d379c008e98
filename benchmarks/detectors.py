"""Compare speed and memory of whole detectors and segmenters: our backbone against mmpretrain's.

Models of PoolFormers are measured with mmpretrain's backbone, too, with the same weights; others as
they are. Inference is everything up to the raw outputs (mode 'tensor'), a training step the losses
of random annotations and the backward pass. They are timed in turn after it was checked that the
backbones compute the same; if not, the exit status is 1.
"""

import copy
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import BaseDataElement, PixelData
from torch import nn

from benchmarks.backbones import mmpretrain_config, our_entries
from benchmarks.command_line import make_parser, measure_all
from benchmarks.workload import Entry, Setting, Workload, randomise
from mmpoolformer import convert_state_dict
from mmpoolformer.engine.launch import add_config_arguments, load_config
from mmpoolformer.zoo.complexity import IMAGE_SIZES

# mmpretrain's PoolFormer has the other options with another meaning, or has them not.
_SHARED = {'type', 'arch', 'out_indices', 'init_cfg', 'drop_path_rate', 'fused'}


def entries_of(backbone: Mapping, device: str) -> list[Entry]:
    """Return the entries for a backbone's config and a device."""
    if not backbone['type'].startswith('mmpoolformer.'):
        return [Entry('ours')]
    if backbone['type'] == 'mmpoolformer.PoolFormer' and backbone.keys() <= _SHARED:
        return [*our_entries(device), Entry('mmpretrain')]
    return our_entries(device)


def build(model: Mapping, scope: str, entry: Entry, setting: Setting) -> Workload:
    """Return a model at work; weights, images and annotations are the same for all entries.

    ``model`` is that of a config, and ``scope`` its library. Its backbone drops no paths: with
    paths dropped at random nothing could be compared.
    """
    torch.manual_seed(0)
    backbone, to_ours = dict(model['backbone']), dict
    if backbone['type'].startswith('mmpoolformer.'):
        backbone |= dict(fused=entry.fused or 'auto', drop_path_rate=0.0)
    module = _build(model, scope, backbone)
    randomise(module.backbone)
    if entry.source != 'ours':
        weights, to_ours = convert_state_dict(module.state_dict(), 'authors'), convert_state_dict
        backbone = dict(type='mmpretrain.PoolFormer', **mmpretrain_config(module.backbone))
        module = _build(model, scope, backbone)
        module.load_state_dict(weights)
    samples = _samples(scope, setting)

    def step(images):
        if setting.mode == 'training':
            return module.parse_losses(module.loss(images, samples))[0]
        return module(images, samples, mode='tensor')

    return Workload(module, entry, setting, module.backbone, step, to_ours)


def _build(model: Mapping, scope: str, backbone: Mapping) -> nn.Module:
    with DefaultScope.overwrite_default_scope(scope):
        return MODELS.build(ConfigDict(copy.deepcopy({**model, 'backbone': backbone})))


def _samples(scope: str, setting: Setting) -> list:
    """Return annotations of the images of a setting, the same each time."""
    batch, *size = setting.shape
    if scope == 'mmdet':
        from mmdet.testing import demo_mm_inputs

        # Seven objects per image, as in COCO, of the class that all models know.
        objects = dict(num_items=[7] * batch, num_classes=2, with_mask=True)
        samples = demo_mm_inputs(batch, (3, *size), **objects)['data_samples']
        for sample in samples:
            sample.set_metainfo(dict(pad_shape=tuple(size), batch_input_shape=tuple(size)))
            sample.gt_instances.labels.zero_()
            masks = sample.gt_instances.masks
            masks.masks = masks.masks.astype('uint8')
    else:
        label, pixels = (torch.zeros(1, *sides, dtype=torch.long) for sides in ((), size))
        labels = dict(gt_label=label, gt_sem_seg=PixelData(data=pixels))
        samples = [BaseDataElement(**labels) for _ in range(batch)]
    return [sample.to(setting.device) for sample in samples]


def main() -> None:
    parser = make_parser('benchmarks.detectors', __doc__)
    parser.add_argument('config', help='e.g. configs/detection/retinanet_poolformer_s12_1x.py')
    add_config_arguments(parser)
    # Losses and box coding are not written for weights of half precision.
    parser.set_defaults(amp=True)
    args = parser.parse_args()
    cfg = load_config(args, needs=('model', 'default_scope')).to_dict()
    model, scope = cfg['model'], cfg['default_scope']
    entries = entries_of(model['backbone'], args.device)
    sizes = {'inference': [(1, *IMAGE_SIZES[scope])], 'training': [(2, *IMAGE_SIZES[scope])]}
    measure_all(args, [(Path(args.config).stem, partial(build, model, scope), entries)], sizes)


if __name__ == '__main__':
    main()
