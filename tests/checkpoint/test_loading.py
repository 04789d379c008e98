"""Checkpoints: every layout through every route, strictly, with reports that tell the truth."""

import copy
import logging

import pytest
import torch
from layouts import TINY, as_authors, classifier, detector, expanded, make
from mmengine.config import ConfigDict
from mmengine.runner import load_checkpoint
from torch import nn

from mmpoolformer import (
    CheckpointError,
    PoolFormer,
    convert_state_dict,
    create_model,
    load_pretrained,
)
from mmpoolformer.checkpoint import load_weights


@pytest.fixture
def save(tmp_path):
    """A function that saves a checkpoint and returns its path."""

    def write(checkpoint: dict, name: str = 'weights.pth') -> str:
        torch.save(checkpoint, tmp_path / name)
        return str(tmp_path / name)

    return write


def assert_same_weights(model: nn.Module, expected: dict) -> None:
    actual = model.state_dict()
    assert expected
    for key, tensor in expected.items():
        assert torch.equal(actual[key], tensor), key


def assert_fresh(model: nn.Module, *norms: str) -> None:
    for name in norms:
        norm = getattr(model, name)
        assert (norm.weight == 1).all(), name
        assert (norm.bias == 0).all(), name


@pytest.mark.smoke
def test_conversion_is_complete_pure_and_idempotent():
    ours = make().state_dict()
    foreign = as_authors(ours)
    before = dict(foreign)
    converted = convert_state_dict(foreign)
    assert foreign == before
    assert list(foreign) == list(before)
    assert set(converted) == set(ours)
    assert all(converted[key] is ours[key] for key in ours)
    again = convert_state_dict(converted)
    assert list(again) == list(converted)
    assert all(again[key] is converted[key] for key in again)
    assert set(convert_state_dict(classifier())) >= {'norm.weight', 'head.bias', 'stem.conv.bias'}


@pytest.mark.parametrize('size', ['s12', 'm36'])
def test_keys_of_mmpretrain_are_the_authors(size):
    models = pytest.importorskip('mmpretrain.models')
    with torch.device('meta'):
        theirs = models.PoolFormer(arch=size, out_indices=(0, 2, 4, 6)).state_dict()
        ours = PoolFormer(arch=size).state_dict()
    assert set(as_authors(ours)) == set(theirs)
    converted = convert_state_dict(theirs)
    assert {k: v.shape for k, v in converted.items()} == {k: v.shape for k, v in ours.items()}


@pytest.mark.smoke
@pytest.mark.parametrize(
    ('extra', 'words'),
    [
        (
            'network.0.0.attn.qkv.weight',
            ['layout authors', '1 keys', 'network.0.0.attn.qkv.weight'],
        ),
        ('norm1.weight', ['layout authors', 'norm1.weight']),
        ('dist_head.bias', ['layout authors', 'dist_head.bias']),
    ],
)
def test_conversion_refuses_keys_it_does_not_know(extra, words):
    with pytest.raises(CheckpointError) as error:
        convert_state_dict(classifier() | {extra: torch.zeros(1)})
    assert all(word in str(error.value) for word in words), str(error.value)


def test_conversion_refuses_unknown_keys_beside_ours_and_unknown_layouts():
    with pytest.raises(CheckpointError, match=r'layout mmpoolformer: 1 keys .*: stages\.9\.x'):
        convert_state_dict(make().state_dict() | {'stages.9.x': torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r'known layout \(.*authors,.*\): .*layer1\.weight'):
        convert_state_dict({'layer1.weight': torch.zeros(1)})


@pytest.mark.smoke
def test_init_cfg_loads_the_authors_classifier(save):
    source = {'type': 'Pretrained', 'checkpoint': save(classifier())}
    for init_cfg in (source, ConfigDict(source), [source]):
        torch.manual_seed(1)
        model = PoolFormer(arch=TINY, init_cfg=init_cfg)
        model.init_weights()
        expected = make(out_indices=3).state_dict()
        del expected['norm3.weight'], expected['norm3.bias']
        assert_same_weights(model, expected)
        assert_fresh(model, 'norm0', 'norm1', 'norm2', 'norm3')
        assert model.init_cfg == init_cfg


def test_init_cfg_entries_beside_pretrained_are_left_to_mmengine(save):
    constant = {'type': 'Constant', 'layer': 'GroupNorm', 'val': 3.0, 'bias': 2.0}
    source = {'type': 'Pretrained', 'checkpoint': save(classifier())}
    model = PoolFormer(arch=TINY, init_cfg=[constant, source])
    model.init_weights()
    assert (model.norm0.weight == 3).all(), 'the file has no output norms'
    assert_same_weights(model, {'stem.conv.bias': classifier()['patch_embed.proj.bias']})
    norm1 = classifier()['network.0.0.norm1.weight']
    assert_same_weights(model, {'stages.0.blocks.0.norm1.weight': norm1})
    assert model.init_cfg == [constant, source]


def test_init_cfg_that_does_not_fit_raises(save):
    path = save(classifier())
    other = {'depths': (1, 1, 1, 1), 'dims': (8, 16, 24, 32)}
    model = PoolFormer(arch=other, init_cfg={'type': 'Pretrained', 'checkpoint': path})
    with pytest.raises(CheckpointError, match='left over'):
        model.init_weights()
    assert model.init_cfg == {'type': 'Pretrained', 'checkpoint': path}


class Detector(nn.Module):
    """What a detector looks like to a state dict."""

    def __init__(self, **kwargs):
        super().__init__()
        self.backbone = PoolFormer(arch=TINY, **kwargs)
        self.neck = nn.Module()
        self.neck.lateral_convs = nn.ModuleList([nn.Module()])
        self.neck.lateral_convs[0].conv = nn.Conv2d(16, 8, 1, bias=False)
        self.bbox_head = nn.Module()
        self.bbox_head.retina_cls = nn.Conv2d(8, 9, 1)
        del self.bbox_head.retina_cls.weight


@pytest.mark.smoke
@pytest.mark.parametrize('out_indices', [(0, 1, 2, 3), (1, 2, 3)], ids=str)
@pytest.mark.parametrize('route', ['load_state_dict', 'mmengine', 'load_weights'])
def test_authors_detectors_load_through_every_route(save, out_indices, route):
    weights = detector(out_indices=out_indices)
    before = dict(weights)
    model = Detector(out_indices=out_indices)
    if route == 'load_state_dict':
        model.load_state_dict(weights, strict=True)
        assert weights == before
    elif route == 'mmengine':
        path = save({'state_dict': weights, 'meta': {}})
        load_checkpoint(model, path, map_location='cpu', strict=True)
    else:
        load_weights(model, save({'state_dict': weights, 'meta': {}}))
    assert_same_weights(model.backbone, make(out_indices=out_indices).state_dict())


@pytest.mark.smoke
def test_own_layout_loads_as_ever_and_strict_stays_strict(save):
    model = Detector()
    own = copy.deepcopy(model.state_dict())
    model.load_state_dict(own, strict=True)
    wrong = detector()
    wrong.pop('backbone.network.2.1.mlp.fc2.bias')
    with pytest.raises(RuntimeError, match=r'stages\.1\.blocks\.1\.mlp\.fc2\.bias'):
        model.load_state_dict(wrong, strict=True)
    with pytest.raises(CheckpointError, match='does not fit this config') as error:
        load_weights(model, save(wrong))
    assert 'stages.1.blocks.1.mlp.fc2.bias' in str(error.value)


@pytest.mark.smoke
def test_report_of_a_classifier(save, monkeypatch):
    logged = []
    monkeypatch.setattr(
        'mmpoolformer.checkpoint.loading.print_log',
        lambda message, logger, level: logged.append((message, logger, level)),
    )
    path = save(classifier())
    model = PoolFormer(arch=TINY)
    report = load_pretrained(model, path)
    total = len(model.state_dict())
    assert report == (
        f'Loaded {path} (layout authors): {total - 8} of {total} tensors; '
        'start fresh: norm0, norm1, norm2, norm3'
    )
    assert logged == [(report, 'current', logging.INFO)]


def test_lone_last_stage_gets_the_final_norm(save):
    model = PoolFormer(arch=TINY, out_indices=3)
    report = load_pretrained(model, save(classifier()))
    total = len(model.state_dict())
    assert report.endswith(f'(layout authors): {total} of {total} tensors')
    assert_same_weights(model, make(out_indices=3).state_dict())


@pytest.mark.parametrize(
    ('in_file', 'in_model', 'fresh'),
    [
        ((0, 1, 2, 3), (0, 1, 2, 3), ()),
        ((1, 2, 3), (0, 1, 2, 3), ('norm0',)),
        ((0, 1, 2, 3), (1, 2, 3), ()),
        ((1, 2, 3), (3,), ()),
    ],
    ids=str,
)
def test_detector_files(save, in_file, in_model, fresh):
    model = PoolFormer(arch=TINY, out_indices=in_model)
    report = load_pretrained(model, save(detector(out_indices=in_file)))
    total = len(model.state_dict())
    assert f'{total - 2 * len(fresh)} of {total} tensors (left out: bbox_head, neck)' in report
    assert report.endswith('neck)' if not fresh else f'; start fresh: {", ".join(fresh)}')
    common = make(out_indices=in_file).state_dict()
    assert_same_weights(model, {k: v for k, v in common.items() if k in model.state_dict()})
    assert_fresh(model, *fresh)


@pytest.mark.parametrize(
    ('outputs', 'lost'),
    [((0, 1, 2, 3), (1,)), ((1, 2, 3), (3,)), ((0, 1, 2, 3), (0, 1, 2, 3))],
    ids=['a hole', 'the last', 'all'],
)
def test_detector_file_that_lost_an_output_norm(save, outputs, lost):
    weights = detector(out_indices=outputs)
    for stage in lost:
        for part in ('weight', 'bias'):
            del weights[f'backbone.norm{2 * stage}.{part}']
    model = PoolFormer(arch=TINY, out_indices=outputs)
    with pytest.raises(CheckpointError, match=rf'missing in the file .*norm{lost[0]}\.weight'):
        load_pretrained(model, save(weights))


def test_backbone_that_ends_early_takes_what_it_needs(save):
    model = PoolFormer(arch=TINY, out_indices=(0, 1))
    report = load_pretrained(model, save(detector()))
    total = len(model.state_dict())
    assert f'{total} of {total} tensors' in report
    common = make(out_indices=(0, 1, 2, 3)).state_dict()
    assert_same_weights(model, {k: v for k, v in common.items() if k in model.state_dict()})


@pytest.mark.parametrize(
    ('theirs', 'ours'), [('s12', 's24'), ('s24', 's12'), ('s36', 'm36')], ids=str
)
def test_wrong_arch_is_named(save, theirs, ours):
    with torch.device('meta'):
        model = PoolFormer(arch=ours)
    with pytest.raises(CheckpointError) as error:
        load_pretrained(model, save(expanded(theirs)))
    cause = f'the file is poolformer_{theirs}, the config says poolformer_{ours}: change `arch`'
    assert cause in str(error.value)


@pytest.mark.parametrize(
    ('theirs', 'ours', 'cause'),
    [
        ('caformer_s18', 'convformer_s18', 'is caformer_s18, the config says convformer_s18'),
        ('randformer_s12', 'poolformer_s12', 'is randformer_s12, the config says poolformer_s12'),
        (
            'poolformerv2_s12',
            'poolformer_s12',
            'is poolformerv2_s12 or identityformer_s12, the config says poolformer_s12',
        ),
    ],
)
def test_wrong_family_is_named(save, theirs, ours, cause):
    weights = create_model(theirs).state_dict()
    with torch.device('meta'):
        model = create_model(ours)
    with pytest.raises(CheckpointError, match=cause):
        load_pretrained(model, save(weights))


def test_init_cfg_opts_out_of_strictness(save):
    weights = {k: v for k, v in classifier().items() if not k.startswith('network.6')}
    source = {'type': 'Pretrained', 'checkpoint': save(weights)}
    with pytest.raises(CheckpointError, match='missing in the file'):
        PoolFormer(arch=TINY, init_cfg=source).init_weights()
    model = PoolFormer(arch=TINY, init_cfg={**source, 'strict': False})
    model.init_weights()
    assert_same_weights(model, {'stem.conv.bias': weights['patch_embed.proj.bias']})


@pytest.mark.smoke
@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'network.3.proj.bias': None}, ['missing in the file (1): stages.2.downsample.conv.bias']),
        (
            {'network.0.1.norm1.weight': torch.ones(8)},
            ['left over (1): stages.0.blocks.1.norm1.weight', '(2, 2, 1, 1)', '(1, 2, 1, 1)'],
        ),
        (
            {'patch_embed.proj.weight': torch.zeros(8, 1, 7, 7)},
            ['another shape (1): stem.conv.weight', '(8, 1, 7, 7)', '(8, 3, 7, 7)'],
        ),
    ],
    ids=['missing', 'left over', 'misshapen'],
)
def test_whatever_does_not_fit_raises_and_changes_nothing(save, change, words):
    weights = {k: v for k, v in (classifier() | change).items() if v is not None}
    path = save(weights)
    model = PoolFormer(arch=TINY)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(CheckpointError) as error:
        load_pretrained(model, path)
    assert all(word in str(error.value) for word in [path, *words]), str(error.value)
    assert_same_weights(model, before)
    report = load_pretrained(model, path, strict=False)
    assert torch.equal(model.stages[3].blocks[0].norm2.bias, weights['network.6.0.norm2.bias'])
    assert 'layout authors' in report
