"""ImageNet classifiers of the later families: their recipes are the authors', and they train."""

import numpy as np
import pytest
import torch
from leaves import LARGE, read, trained_once
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

from mmpoolformer import ARCHS
from mmpoolformer.models import ClassifierNeck

LATER = [name for name in ARCHS if not name.startswith('poolformer_')]
WITH_MLP = ('convformer', 'caformer')
HEAD_DROPOUT = {'caformer_s36': 0.4, 'caformer_m36': 0.4, 'caformer_b36': 0.5}


@pytest.mark.parametrize('name', LATER)
def test_recipe_is_the_authors(name):
    cfg, row = read(f'{name}_in1k'), ARCHS[name]
    family, size = name.split('_')
    backbone, neck, head = dict(cfg.model.backbone), dict(cfg.model.neck), cfg.model.head
    assert backbone.pop('type').lower() == f'mmpoolformer.{family}'
    assert backbone == {
        'arch': size,
        'drop_path_rate': row.drop_path_rate,
        'out_indices': 3,
        'out_norm_cfg': {'type': 'Identity'},
    }
    mlp_ratio = 4 if family in WITH_MLP else None
    assert neck.pop('type') == 'mmpoolformer.ClassifierNeck'
    assert neck.pop('dim') == row.dims[-1]
    assert neck.pop('mlp_ratio', None) == mlp_ratio
    assert neck.pop('drop_rate', 0.0) == HEAD_DROPOUT.get(name, 0.0)
    assert not neck
    assert head.in_channels == row.dims[-1] * (mlp_ratio or 1)
    assert (head.num_classes, head.loss.label_smooth_val) == (1000, 0.1)
    assert [(a.type, a.alpha) for a in cfg.model.train_cfg.augments] == [
        ('Mixup', 0.8),
        ('CutMix', 1.0),
    ]


@pytest.mark.parametrize('name', LATER)
def test_schedule_is_the_authors(name):
    cfg, family = read(f'{name}_in1k'), name.split('_')[0]
    kind, rate, batch, warm_up = {
        'convformer': ('AdamW', 4e-3, 4096, 20),
        'caformer': ('Lamb', 8e-3, 4096, 20),
    }.get(family, ('AdamW', 1e-3, 1024, 5))
    assert cfg.optim_wrapper.optimizer == {'type': kind, 'lr': rate, 'weight_decay': 0.05}
    assert cfg.auto_scale_lr == {'enable': False, 'base_batch_size': batch}
    assert cfg.train_dataloader.batch_size == 128
    assert cfg.train_cfg.max_epochs == 300
    linear, cosine = cfg.param_scheduler
    assert (linear.type, linear.begin, linear.end) == ('LinearLR', 0, warm_up)
    assert (cosine.type, cosine.begin, cosine.end) == ('CosineAnnealingLR', warm_up, 300)
    assert cosine.T_max == 300 - warm_up
    assert cosine.eta_min == 1e-5
    assert linear.start_factor * 4e-3 == pytest.approx(4e-6 if family not in WITH_MLP else 1e-6)


@pytest.mark.parametrize(
    ('name', 'size'), [*((name, 224) for name in LATER), *((name, 384) for name in LARGE)]
)
def test_images_are_those_timm_evaluates_with(name, size):
    cfg, family = read(f'{name}_in1k' if size == 224 else f'{name}_384_in1k'), name.split('_')[0]
    ratio = 1.0
    if family in ('poolformerv2', *WITH_MLP):
        tag = 'sail_in1k' if size == 224 else 'sail_in1k_384'
        theirs = pytest.importorskip('timm').get_pretrained_cfg(f'{name}.{tag}')
        assert (theirs.tag, theirs.input_size) == (tag, (3, size, size))
        ratio = theirs.crop_pct
        normalise = cfg.model.data_preprocessor
        assert np.array(normalise.mean) / 255 == pytest.approx(theirs.mean)
        assert np.array(normalise.std) / 255 == pytest.approx(theirs.std)
    for split in ('val', 'test'):
        _, resize, crop, _ = cfg[f'{split}_dataloader'].dataset.pipeline
        assert (resize.type, resize.edge, resize.interpolation) == (
            'ResizeEdge',
            'short',
            'bicubic',
        )
        assert resize.scale == int(size / ratio)
        assert (crop.type, crop.crop_size) == ('CenterCrop', size)


@pytest.mark.parametrize('name', LARGE)
def test_384_px_change_nothing_but_the_images_of_evaluation(name):
    cfg, at_224 = read(f'{name}_384_in1k').to_dict(), read(f'{name}_in1k').to_dict()
    for config in (cfg, at_224):
        del config['test_pipeline']
        for split in ('val', 'test'):
            del config[f'{split}_dataloader']['dataset']['pipeline']
    assert cfg == at_224


@pytest.mark.parametrize('name', ['poolformerv2_s12', 'convformer_s18', 'caformer_s18'])
def test_takes_a_step_that_trains_everything(name):
    model, cfg = trained_once(f'{name}_in1k'), read(f'{name}_in1k')
    assert model.head.fc.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.backbone.stem.conv.weight.grad.any()
    assert model.backbone.stages[3].blocks[-1].mlp.fc2.weight.grad.any()
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    assert type(optimizer.optimizer).__name__ == cfg.optim_wrapper.optimizer.type
    no_decay = {id(p) for g in optimizer.param_groups for p in g['params'] if not g['weight_decay']}
    assert no_decay == {id(p) for p in model.parameters() if p.ndim == 1}
    watched = (model.head.fc.weight, model.neck.norm.bias)
    before = [parameter.detach().clone() for parameter in watched]
    optimizer.step()
    assert not any(torch.equal(old, new) for old, new in zip(before, watched, strict=True))


def test_neck_is_checked_and_drops_only_in_training():
    with pytest.raises(ValueError, match=r'drop_rate=0\.5: only an MLP has dropout'):
        ClassifierNeck(dim=8, drop_rate=0.5)
    neck, maps = ClassifierNeck(dim=8, mlp_ratio=4, drop_rate=0.5), (torch.rand(4, 8, 3, 5),)
    (trained,) = neck(maps)
    (tested,) = neck.eval()(maps)
    assert trained.shape == tested.shape == (4, 32)
    assert (trained == 0).any()
    assert not (tested == 0).any()
    (plain,) = ClassifierNeck(dim=8)((torch.zeros(1, 2, 2, 2), *maps))
    assert plain.shape == (4, 8)
    assert plain.mean(1).abs().max() < 1e-6
