"""Widths of neck and heads against the backbone's, and no false alarm over any shipped config."""

import argparse
import re
import shlex

import pytest
from mmengine.config import Config, DictAction
from processes import ROOT

from mmpoolformer.preflight import check
from mmpoolformer.preflight.channels import check_channels
from mmpoolformer.zoo.archs import get_arch

LEAVES = [p for p in sorted(ROOT.glob('configs/*/**/*.py')) if '_base_' not in p.parts]


def load(name):
    return Config.fromfile(ROOT / f'configs/{name}.py')


def cured(cfg, problem):
    """Apply the ``--cfg-options`` of a problem's cure, as a shell and mmengine would."""
    (line,) = re.findall(r'^  (--cfg-options .*)$', problem.cure, re.MULTILINE)
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    cfg = Config(cfg.to_dict())
    cfg.merge_from_dict(parser.parse_args(shlex.split(line)).cfg_options)
    return cfg


def test_no_shipped_config_is_refused_and_no_wrong_arch_passes():
    noticed = 0
    for path in LEAVES:
        tree = Config.fromfile(path).to_dict()
        assert check_channels(tree) == [], path
        backbone = tree['model']['backbone']
        if backbone['type'].startswith('mmpoolformer.'):
            backbone['arch'] = dict(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32))
            assert len(check_channels(tree)) == 1, path
            noticed += 1
    assert noticed > 70


@pytest.mark.parametrize(
    ('config', 'options', 'what', 'option'),
    [
        (
            'segmentation/fpn_poolformer_s12_40k',
            {'backbone.arch': 'm36'},
            'model.backbone (PoolFormer) gives maps of 96, 192, 384, 768 channels, but the model '
            'expects others:\n  model.neck.in_channels=[64, 128, 320, 512]',
            "'model.neck.in_channels=[96,192,384,768]'",
        ),
        (
            'segmentation/fpn_poolformer_s12_40k',
            {'neck.out_channels': 128},
            '  model.decode_head.in_channels=[256, 256, 256, 256]',
            "'model.decode_head.in_channels=[128,128,128,128]'",
        ),
        (
            'segmentation/fpn_poolformer_s12_40k',
            {'neck': None},
            '  model.decode_head.in_channels=[256, 256, 256, 256]',
            "'model.decode_head.in_channels=[64,128,320,512]'",
        ),
        (  # Other widths would train, but the anchors would be of the wrong size.
            'detection/retinanet_poolformer_s12_1x',
            {'backbone.out_indices': (0, 1, 2, 3)},
            '  model.neck.in_channels=[128, 320, 512]',
            "'model.backbone.out_indices=[1,2,3]'",
        ),
        (
            'classification/caformer_s18_in1k',
            {'backbone.arch': 'm36'},
            '  model.neck.dim=512\n  model.head.in_channels=2048',
            'model.neck.dim=576 model.head.in_channels=2304',
        ),
        (
            'classification/ablations/poolformer_s12_dwconv_in1k',
            {'backbone.arch': 'poolformer_m36', 'backbone.out_indices': -1},
            '  model.head.in_channels=512',
            'model.head.in_channels=768',
        ),
    ],
)
def test_widths_that_do_not_fit(config, options, what, option):
    cfg = load(config)
    cfg.merge_from_dict({f'model.{key}': value for key, value in options.items()})
    (problem,) = check(cfg, splits=())
    assert what in problem.what
    assert f'--cfg-options {option}' in problem.cure
    assert check(cured(cfg, problem), splits=()) == []


@pytest.mark.parametrize(
    'options',
    [
        {'backbone.type': 'mmdet.ResNet'},
        {'backbone.arch': 's13'},
        {'backbone.arch': {'_delete_': True, 'dims': (1, 2, 3, 4)}},
        {'backbone.out_indices': (1, 2, 7)},
        {'neck.type': 'YOLOV3Neck'},
        {'neck.in_channels': None},
    ],
)
def test_what_is_not_certain_is_left_alone(options):
    cfg = load('detection/retinanet_poolformer_s12_1x')
    cfg.model.neck.in_channels = [1, 2, 3]
    assert len(check_channels(cfg.to_dict())) == 1
    cfg.merge_from_dict({f'model.{key}': value for key, value in options.items()})
    assert check_channels(cfg.to_dict()) == []


def test_the_default_stages_are_all_four():
    backbone = {'type': 'mmpoolformer.PoolFormer', 'arch': 's12'}
    neck = {'type': 'FPN', 'in_channels': list(get_arch('poolformer', 's12').dims)}
    assert check({'model': {'backbone': backbone, 'neck': neck}}) == []
    assert len(check({'model': {'backbone': backbone | {'arch': 'm36'}, 'neck': neck}})) == 1
