"""Whole released classifiers load strictly, in any layout, and give their library's logits."""

import copy
import pickle
import re

import pytest
import torch
from layouts import as_authors, as_baselines, make, randomise
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import load_checkpoint
from processes import ROOT
from torch import Tensor, nn
from torch.nn import functional as F

from mmpoolformer import (
    ARCHS,
    CheckpointError,
    convert_state_dict,
    create_model,
    load_pretrained,
)
from mmpoolformer.checkpoint import load_weights, read_checkpoint, write_weights

IN_TIMM = ['poolformerv2_s12', 'convformer_s18', 'caformer_s18']
NOT_IN_TIMM = ['identityformer_s12', 'randformer_s12']
TINY = {'depths': (1, 1, 1, 1), 'dims': (16, 24, 32, 48)}


def build(name: str) -> nn.Module:
    pytest.importorskip('mmpretrain.models')
    cfg = Config.fromfile(ROOT / f'configs/classification/{name}_in1k.py')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(cfg.model)


def images() -> Tensor:
    return torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))


def assert_same_logits(model: nn.Module, theirs: Tensor) -> None:
    with torch.no_grad():
        logits = model.eval()(images(), mode='tensor')
    assert logits.shape == theirs.shape == (2, 1000)
    error = (logits - theirs).abs().max() / theirs.abs().max()
    assert error <= 1e-5, f'{error:.1e}'


def as_their_head(model: nn.Module) -> nn.Module:
    """Set the one epsilon that timm changed: the authors' MLP heads have torch's default."""
    for module in model.head.modules():
        if type(module).__name__ == 'MlpHead':
            module.norm.eps = 1e-5
    return model


class Mixing(nn.Module):
    """What RandFormer does, on timm's maps."""

    tokens = 196

    def __init__(self, dim: int, **kwargs) -> None:
        super().__init__()
        matrix = torch.rand(self.tokens, self.tokens).softmax(dim=-1)
        self.random_matrix = nn.Parameter(matrix, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum('mn,bcn->bcm', self.random_matrix, x.flatten(2)).view(x.shape)


class LateMixing(Mixing):
    tokens = 49


def their_model(name: str) -> nn.Module:
    """One of timm's, or of its parts where it lacks the family; its weights are random."""
    timm = pytest.importorskip('timm')
    torch.manual_seed(0)
    if name in IN_TIMM:
        model = timm.create_model(name)
    else:
        from timm.models import metaformer

        row, identity = ARCHS[name], nn.Identity
        mixers = [identity, identity, Mixing, LateMixing]
        model = metaformer.MetaFormer(
            depths=row.depths,
            dims=row.dims,
            token_mixers=mixers if name.startswith('rand') else identity,
            norm_layers=metaformer.GroupNorm1NoBias,
            use_mlp_head=False,
        )
    randomise(model)
    return as_their_head(model).eval()


@pytest.mark.parametrize('layout', ['timm', 'authors-baselines', 'mmpoolformer'])
@pytest.mark.parametrize('name', IN_TIMM + NOT_IN_TIMM)
def test_later_families_have_the_logits_of_timm(name, layout, tmp_path):
    theirs = their_model(name)
    weights = theirs.state_dict()
    if layout == 'authors-baselines':
        weights = {'model': as_baselines(weights), 'epoch': 299}
    elif layout == 'mmpoolformer':
        weights = convert_state_dict(weights)
    torch.save(weights, tmp_path / 'weights.pth')
    ours = build(name)
    load_weights(ours, tmp_path / 'weights.pth')
    with torch.no_grad():
        assert_same_logits(ours, theirs(images()))


@pytest.fixture(scope='module')
def mmpretrains():
    """A classifier of mmpretrain, and its logits."""
    models = pytest.importorskip('mmpretrain.models')
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = models.ImageClassifier(
            backbone={'type': 'PoolFormer', 'arch': 's12'},
            neck={'type': 'GlobalAveragePooling'},
            head={'type': 'LinearClsHead', 'num_classes': 1000, 'in_channels': 512},
        )
    randomise(model)
    # At its initial 0.01 the classes would hardly differ.
    nn.init.normal_(model.head.fc.weight, std=0.1)
    for module in model.modules():
        module.training = False  # Its own eval() fails.
    with torch.no_grad():
        return model.state_dict(), model(images(), mode='tensor')


def by_hand_as_authors(weights: dict) -> dict:
    return {
        key.removeprefix('backbone.').replace('norm6', 'norm').replace('head.fc', 'head'): tensor
        for key, tensor in weights.items()
    }


@pytest.mark.parametrize(
    'layout', ['mmpretrain', 'authors', 'timm', 'transformers', 'mmpoolformer', 'DDP']
)
def test_poolformer_has_the_logits_of_mmpretrain(layout, mmpretrains, tmp_path):
    weights, logits = mmpretrains
    if layout == 'mmpretrain':
        weights = {'state_dict': weights, 'meta': {}}
    else:
        weights = by_hand_as_authors(weights)
    if layout == 'DDP':
        weights = {'model': {f'module.{key}': tensor for key, tensor in weights.items()}}
    elif layout in ('timm', 'transformers', 'mmpoolformer'):
        weights = convert_state_dict(weights, layout)
    torch.save(weights, tmp_path / 'weights.pth')
    ours = build('poolformer_s12')
    load_weights(ours, tmp_path / 'weights.pth')
    assert_same_logits(ours, logits)


def test_poolformer_has_the_logits_of_transformers(tmp_path):
    transformers = pytest.importorskip('transformers')
    torch.manual_seed(0)
    row = ARCHS['poolformer_s12']
    config = transformers.PoolFormerConfig(
        depths=row.depths, hidden_sizes=row.dims, num_labels=1000
    )
    theirs = transformers.PoolFormerForImageClassification(config).eval()
    randomise(theirs)
    theirs.save_pretrained(tmp_path)
    ours = build('poolformer_s12')
    load_weights(ours, tmp_path / 'model.safetensors')
    with torch.no_grad():
        assert_same_logits(ours, theirs(images()).logits)


def test_timms_poolformer_loads_although_timm_normalises_later(tmp_path):
    """timm pools before the norm, the authors after it: put right, its logits are the same."""
    theirs = pytest.importorskip('timm').create_model('poolformer_s12').eval()
    randomise(theirs)
    torch.save(theirs.state_dict(), tmp_path / 'weights.pth')
    ours = build('poolformer_s12')
    load_weights(ours, tmp_path / 'weights.pth')
    with torch.no_grad():
        norm = theirs.head.norm
        maps = F.group_norm(theirs.forward_features(images()), 1, norm.weight, norm.bias)
        assert_same_logits(ours, theirs.head.fc(maps.mean(dim=(2, 3))))


@pytest.mark.parametrize('name', ['poolformer_s12', 'caformer_s18'])
@pytest.mark.parametrize('route', ['load_state_dict', 'mmengine', 'copy'])
def test_every_route_loads_all_of_a_classifier(name, route, tmp_path):
    weights = released(name)
    before = dict(weights)
    model = build(name)
    if route == 'mmengine':  # That of `load_from`.
        torch.save(weights, tmp_path / 'weights.pth')
        load_checkpoint(model, str(tmp_path / 'weights.pth'), map_location='cpu', strict=True)
    else:
        model = copy.deepcopy(model) if route == 'copy' else model
        model.load_state_dict(weights, strict=True)
    assert weights == before
    assert torch.equal(model.head.fc.bias, weights.get('head.bias', weights.get('head.fc2.bias')))
    norm = model.backbone.norm3 if name == 'poolformer_s12' else model.neck.norm
    assert torch.equal(norm.weight, weights['norm.weight'])


def released(name: str) -> dict:
    """Random weights of a model, named as the authors' release."""
    torch.manual_seed(1)
    model = build(name)
    randomise(model)
    weights = model.state_dict()
    body = {k.removeprefix('backbone.'): v for k, v in weights.items() if 'backbone.' in k}
    if name == 'poolformer_s12':
        weights = {f'backbone.{k}': v for k, v in as_authors(body).items()} | {
            k: v for k, v in weights.items() if 'backbone.' not in k
        }
        return by_hand_as_authors(weights)
    head = {'neck.norm': 'head.norm', 'neck.mlp': 'head.fc', 'head.fc': 'head.fc.fc2'}
    renamed = {}
    for key, tensor in weights.items():
        old = next((old for old in head if key.startswith(old)), None)
        new = key.replace(old, head[old]) if old else key.removeprefix('backbone.')
        renamed[new] = tensor
    return as_baselines(renamed)


@pytest.mark.parametrize(
    ('name', 'change', 'words'),
    [
        ('caformer_s18', {'head.fc2.bias': None}, [r'Missing .*"head\.fc\.bias"']),
        ('caformer_s18', {'norm.weight': None}, [r'Missing .*"neck\.norm\.weight"']),
        ('caformer_s18', {'head.dist.bias': torch.ones(1)}, [r'Unexpected .*head\.dist\.bias']),
        ('poolformer_s12', {'norm.bias': None}, [r'Missing .*"backbone\.norm3\.bias"']),
        ('poolformer_s12', {'aux.bias': torch.ones(1)}, [r'Unexpected .*"aux\.bias"']),
        ('poolformer_s12', {'head.bias': torch.ones(21841)}, [r'head\.fc\.bias.*21841']),
    ],
    ids=['no head', 'no norm', 'more head', 'no norm v1', 'more', 'other classes'],
)
def test_what_does_not_fit_is_named(name, change, words, tmp_path):
    weights = {k: v for k, v in (released(name) | change).items() if v is not None}
    torch.save(weights, tmp_path / 'weights.pth')
    with pytest.raises(CheckpointError, match='does not fit this config') as error:
        load_weights(build(name), tmp_path / 'weights.pth')
    assert all(re.search(word, str(error.value)) for word in words), str(error.value)


def test_another_family_is_refused(tmp_path):
    torch.save(released('convformer_s18'), tmp_path / 'weights.pth')
    with pytest.raises(CheckpointError, match=r'Unexpected .*pwconv1') as error:
        load_weights(build('caformer_s18'), tmp_path / 'weights.pth')
    assert 'token_mixer.qkv.weight' in str(error.value)


@pytest.mark.parametrize('name', ['poolformer_s12', 'caformer_s18'])
def test_classifiers_trained_here_load_and_hand_on_their_backbone(name, tmp_path):
    torch.manual_seed(0)
    trained, fresh = build(name), build(name)
    randomise(trained)
    torch.save({'state_dict': trained.state_dict(), 'meta': {}}, tmp_path / 'epoch_300.pth')
    load_weights(fresh, tmp_path / 'epoch_300.pth')
    assert fresh.state_dict().keys() == trained.state_dict().keys()
    assert all(torch.equal(v, trained.state_dict()[k]) for k, v in fresh.state_dict().items())
    backbone = create_model(name)
    report = load_pretrained(backbone, tmp_path / 'epoch_300.pth')
    assert '(layout mmpoolformer)' in report
    if name == 'poolformer_s12':
        assert report.endswith('(left out: head); start fresh: norm0, norm1, norm2')
        assert torch.equal(backbone.norm3.weight, trained.backbone.norm3.weight)
    else:
        assert report.endswith('(left out: head, neck); start fresh: norm0, norm1, norm2, norm3')


def test_bare_backbone_is_no_classifier(tmp_path):
    torch.save(create_model('poolformer_s12').state_dict(), tmp_path / 'backbone.pth')
    with pytest.raises(CheckpointError, match=r'Missing .*"head\.fc\.weight"'):
        load_weights(build('poolformer_s12'), tmp_path / 'backbone.pth')


def tiny_release() -> dict:
    """A classifier for the tiny config, in the authors' layout."""
    weights = as_authors(make(arch=TINY, out_indices=3).state_dict())
    weights = {key.replace('norm6', 'norm'): tensor for key, tensor in weights.items()}
    return weights | {'head.weight': torch.randn(6, 48), 'head.bias': torch.randn(6)}


def in_classifier(weights: dict) -> dict:
    """The same as training saves it, renamed by hand."""
    body = make(arch=TINY, out_indices=3).state_dict()
    head = {f'head.fc.{p}': weights[f'head.{p}'] for p in ('weight', 'bias')}
    return {f'backbone.{key}': tensor for key, tensor in body.items()} | head


def test_tools_evaluate_a_release(forked, tiny, tmp_path):
    release, config = tiny_release(), tiny('classification')
    torch.save(release, tmp_path / 'release.pth')
    torch.save({'state_dict': in_classifier(release)}, tmp_path / 'own.pth')
    scores = {}
    for name in ('release', 'own'):
        out = tmp_path / f'{name}.pkl'
        run = forked('test', config, tmp_path / f'{name}.pth', '--out', out)
        assert run.code == 0, run.text[-3000:]
        scores[name] = torch.stack([p['pred_score'] for p in pickle.loads(out.read_bytes())])
    assert scores['release'].shape[1] == 6
    assert torch.equal(scores['release'], scores['own'])
    assert scores['own'].std(dim=1).min() > 0.01, 'all classes alike would prove nothing'

    del release['head.bias']
    torch.save(release, tmp_path / 'headless.pth')
    run = forked('test', config, tmp_path / 'headless.pth')
    assert run.code != 0
    assert 'Missing key(s) in state_dict: "head.fc.bias"' in run.err
    assert 'Traceback' not in run.text


def test_tools_evaluate_a_named_release(forked, tiny, tmp_path):
    cache = tmp_path / 'torch/hub/checkpoints'
    cache.mkdir(parents=True)
    weights = released('poolformer_s12')
    weights |= {key: weights[key][:6] for key in ('head.weight', 'head.bias')}
    torch.save(weights, cache / 'poolformer_s12.pth.tar')
    options = ('model.backbone.arch=s12', 'model.head.in_channels=512')
    arguments = (tiny('classification'), 'metaformer://poolformer_s12', '--cfg-options', *options)
    run = forked('test', *arguments, env={'TORCH_HOME': str(tmp_path / 'torch')})
    assert run.code == 0, run.text[-3000:]
    assert 'Loaded metaformer://poolformer_s12' in run.text
    assert 'accuracy/top1: ' in run.text


@pytest.mark.parametrize('form', ['release.pth', 'release.safetensors', 'wrapped.pth'])
def test_training_starts_from_a_release(form, forked, tiny, tmp_path):
    release = tiny_release()
    if form == 'wrapped.pth':
        torch.save({'model': release, 'epoch': 299}, tmp_path / form)
    else:
        write_weights(release, tmp_path / form)
    # A rate too small to change a number of fp32.
    options = (f'load_from={tmp_path / form}', 'optim_wrapper.optimizer.lr=1e-30')
    run = forked('train', tiny('classification'), '--cfg-options', *options)
    assert run.code == 0, run.text[-3000:]
    trained = read_checkpoint(tmp_path / 'work_dirs/tiny/epoch_1.pth')['state_dict']
    expected = in_classifier(release)
    assert expected.keys() == trained.keys()
    assert all(torch.equal(trained[key], tensor) for key, tensor in expected.items())
