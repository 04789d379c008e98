"""Files written by other libraries load through ``init_cfg`` and give the same features."""

from collections.abc import Callable

import pytest
import torch
from layouts import as_authors, as_baselines, randomise
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from processes import ROOT
from torch import Tensor, nn

from mmpoolformer import (
    ARCHS,
    CheckpointError,
    convert_state_dict,
    create_model,
    load_pretrained,
)
from mmpoolformer.checkpoint import LAYOUTS, detect_layout, load_weights, unwrap

exhaustive = pytest.mark.exhaustive
SIZES = ['s12', 's24', *(pytest.param(size, marks=exhaustive) for size in ('s36', 'm36', 'm48'))]
FAMILIES_OF_TIMM = [
    name if name.endswith(('_s12', '_s18')) else pytest.param(name, marks=exhaustive)
    for name in ARCHS
    if not name.startswith(('identity', 'rand'))
]
NO_NORM = {'type': 'Identity'}


def random_weights(model: nn.Module) -> nn.Module:
    randomise(model)
    return model.eval()


def maps_of(model: nn.Module) -> Callable[[Tensor], list[Tensor]]:
    """Return a function for the four maps of a timm model, not normalised."""
    return lambda x: model.to(x.dtype).forward_intermediates(x, intermediates_only=True)


def from_timm(size: str, family: str = 'poolformer'):
    timm = pytest.importorskip('timm')
    model = random_weights(timm.create_model(f'{family}_{size}'))
    return model.state_dict(), maps_of(model)


def from_mmpretrain(size: str):
    models = pytest.importorskip('mmpretrain.models')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = models.ImageClassifier(
            backbone={'type': 'PoolFormer', 'arch': size},
            neck={'type': 'GlobalAveragePooling'},
            head={'type': 'LinearClsHead', 'num_classes': 1000, 'in_channels': 512},
        )
    random_weights(model)

    def maps(x: Tensor) -> list[Tensor]:
        backbone, found = model.backbone.to(x.dtype), []
        x = backbone.forward_embeddings(x)
        for index, part in enumerate(backbone.network):
            x = part(x)
            found += [x] if index % 2 == 0 else []
        return found

    return {'state_dict': model.state_dict(), 'meta': {}}, maps


def from_transformers(size: str):
    transformers = pytest.importorskip('transformers')
    row = ARCHS[f'poolformer_{size}']
    config = transformers.PoolFormerConfig(
        depths=row.depths, hidden_sizes=row.dims, num_labels=1000, output_hidden_states=True
    )
    model = random_weights(transformers.PoolFormerForImageClassification(config))
    return model.state_dict(), lambda x: model.to(x.dtype)(x).hidden_states


def from_authors(size: str):
    """Name mmpretrain's weights by hand: the authors' code cannot be installed."""
    checkpoint, maps = from_mmpretrain(size)
    weights = {
        key.removeprefix('backbone.').replace('norm6', 'norm').replace('head.fc', 'head'): tensor
        for key, tensor in checkpoint['state_dict'].items()
    }
    return weights, maps


def from_authors_detector(size: str):
    checkpoint, maps = from_mmpretrain(size)
    weights = {k: v for k, v in checkpoint['state_dict'].items() if k.startswith('backbone.')}
    dims = ARCHS[f'poolformer_{size}'].dims
    for index in (2, 4, 6):  # RetinaNet's: no norm of the first stage.
        weights |= {
            f'backbone.norm{index}.{p}': torch.rand(dims[index // 2]) for p in ('weight', 'bias')
        }
    return {'state_dict': weights | {'neck.lateral_convs.0.conv.bias': torch.zeros(256)}}, maps


def from_baselines(size: str, family: str = 'poolformerv2'):
    weights, maps = from_timm(size, family)
    return {'model': as_baselines(weights), 'epoch': 299}, maps


SOURCES = {
    'authors': from_authors,
    'authors-baselines': from_baselines,
    'authors (detector)': from_authors_detector,
    'timm': from_timm,
    'mmpretrain': from_mmpretrain,
    'transformers': from_transformers,
}


def assert_same_features(ours: nn.Module, maps: Callable, sizes=((64, 96),)) -> None:
    """Compare in fp64, and let fp32 be 1e-5 off, or twice as far as the other library's is."""
    for size in sizes:
        x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            rounded, exact = maps(x), maps(x.double())
            actual, ours64 = ours.float()(x), ours.double()(x.double())
        assert len(exact) == len(actual) == 4
        for stage, (theirs, mine) in enumerate(zip(exact, ours64, strict=True)):
            assert mine.shape == theirs.shape
            assert error_of(mine, theirs) <= 1e-10, f'stage {stage}'
            error, allowed = (error_of(m[stage], theirs) for m in (actual, rounded))
            assert error <= max(1e-5, 2 * allowed), (
                f'stage {stage}: {error:.1e}, theirs {allowed:.1e}'
            )


def error_of(actual: Tensor, expected: Tensor) -> float:
    return float((actual - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('layout', SOURCES)
def test_every_layout_gives_the_features_of_its_library(layout, size, tmp_path, monkeypatch):
    torch.manual_seed(0)
    checkpoint, maps = SOURCES[layout](size)
    torch.save(checkpoint, tmp_path / 'weights.pth')
    source = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'weights.pth')}
    family = 'poolformerv2' if layout == 'authors-baselines' else 'poolformer'
    ours = create_model(f'{family}_{size}', out_norm_cfg=NO_NORM, init_cfg=source).eval()
    reports = []
    where = 'mmpoolformer.checkpoint.loading.print_log'
    monkeypatch.setattr(where, lambda message, **kwargs: reports.append(message))
    ours.init_weights()
    total = len(ours.state_dict())
    assert f'(layout {layout.split()[0]}): {total} of {total} tensors' in reports[0]
    assert ('left out: neck' in reports[0]) == ('detector' in layout)
    assert_same_features(ours, maps)
    assert_truthful_reports(f'{family}_{size}', source['checkpoint'], layout)


def assert_truthful_reports(name: str, path: str, layout: str) -> None:
    """Only detectors hold output norms; a lone last stage takes a PoolFormer's final norm."""
    fresh = 'norm0' if 'detector' in layout else 'norm0, norm1, norm2, norm3'
    assert load_pretrained(create_model(name), path).endswith(f'; start fresh: {fresh}')
    last = create_model(name, out_indices=3)
    report = load_pretrained(last, path)
    assert ('start fresh' in report) == name.startswith('poolformerv2')
    final = {'authors (detector)': 'norm3', 'timm': 'norm', 'authors-baselines': None}
    if final_norm := final.get(layout, 'norm'):
        expected = convert_state_dict(unwrap(torch.load(path)))
        prefix = 'backbone.' if 'detector' in layout else ''
        for part in ('weight', 'bias'):
            assert torch.equal(getattr(last.norm3, part), expected[f'{prefix}{final_norm}.{part}'])


@pytest.mark.parametrize('name', FAMILIES_OF_TIMM)
def test_features_of_every_family_equal_those_of_timm(name):
    torch.manual_seed(0)
    family, size = name.split('_')
    weights, maps = from_timm(size, family)
    ours = create_model(name, out_norm_cfg=NO_NORM).eval()
    converted = convert_state_dict(weights)
    body = {k: v for k, v in converted.items() if not k.startswith(('norm', 'head'))}
    ours.load_state_dict(body, strict=True)
    assert_same_features(ours, maps, sizes=((64, 64), (97, 65)))


def test_every_layout_is_named():
    assert {layout.split()[0] for layout in SOURCES} | {'mmpoolformer'} == {x.name for x in LAYOUTS}


@pytest.mark.parametrize('name', ['poolformer_s12', 'poolformerv2_s12', 'caformer_s18'])
def test_conversion_back_and_forth_is_identity(name):
    torch.manual_seed(0)
    theirs, _ = from_timm(*reversed(name.split('_')))
    ours = convert_state_dict(theirs)
    assert detect_layout(theirs).name == 'timm'
    layouts = ['timm', 'authors-baselines']
    layouts += ['authors', 'mmpretrain', 'transformers'] if name == 'poolformer_s12' else []
    for layout in layouts:
        there = convert_state_dict(ours, layout)
        assert detect_layout(there).name == layout
        back = convert_state_dict(there)
        assert list(back) == list(ours)
        for key, tensor in ours.items():
            assert back[key].shape == tensor.shape, key
            assert torch.equal(back[key], tensor), key
    again = convert_state_dict(ours, 'timm')
    assert {k: v.shape for k, v in again.items()} == {k: v.shape for k, v in theirs.items()}
    by_hand = {k: v.shape for k, v in as_baselines(theirs).items()}
    assert {k: v.shape for k, v in convert_state_dict(ours, 'authors-baselines').items()} == by_hand


def test_conversion_that_would_lose_weights_is_refused():
    outputs = create_model('poolformer_s12').state_dict()
    with pytest.raises(CheckpointError, match=r'timm has no place for 8 .*norm0\.weight'):
        convert_state_dict(outputs, 'timm')
    assert set(convert_state_dict(outputs, 'authors')) == set(as_authors(outputs))
    newer = create_model('poolformerv2_s12', out_norm_cfg=NO_NORM).state_dict()
    with pytest.raises(CheckpointError, match=r'layout authors has no place for'):
        convert_state_dict(newer, 'authors')
    with pytest.raises(ValueError, match="layout 'keras': choose one of"):
        convert_state_dict(newer, 'keras')


@pytest.mark.parametrize(
    'config',
    [
        'detection/retinanet_poolformer_s12_1x',
        'detection/mask_rcnn_poolformer_s12_1x',
        'segmentation/fpn_poolformer_s12_40k',
    ],
)
def test_authors_models_load_whole_into_ours(config, tmp_path):
    """Head and neck under the names of mmdet 2 and mmseg 0, which are still theirs."""
    torch.manual_seed(0)
    cfg = Config.fromfile(ROOT / f'configs/{config}.py')
    cfg.model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        first, second = (revert_sync_batchnorm(MODELS.build(cfg.model)) for _ in range(2))
    weights = first.state_dict()
    body = {k[9:]: v for k, v in weights.items() if k.startswith('backbone.')}
    theirs = {f'backbone.{k}': v for k, v in as_authors(body).items()}
    theirs |= {k: v for k, v in weights.items() if not k.startswith('backbone.')}
    assert OLD_NAMES[config.split('/')[1].split('_pool')[0]] <= theirs.keys()
    torch.save({'meta': {'epoch': 12}, 'state_dict': theirs}, tmp_path / 'theirs.pth')
    load_weights(second, tmp_path / 'theirs.pth')
    loaded = second.state_dict()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in weights.items())


# What mmdet 2.19 and mmseg 0.19 called them.
OLD_NAMES = {
    'retinanet': {
        'backbone.norm2.weight',
        'neck.lateral_convs.0.conv.weight',
        'neck.fpn_convs.4.conv.weight',
        'bbox_head.cls_convs.3.conv.weight',
        'bbox_head.reg_convs.0.conv.bias',
        'bbox_head.retina_cls.weight',
        'bbox_head.retina_reg.bias',
    },
    'mask_rcnn': {
        'backbone.norm0.weight',
        'rpn_head.rpn_conv.weight',
        'rpn_head.rpn_cls.weight',
        'rpn_head.rpn_reg.bias',
        'roi_head.bbox_head.fc_cls.weight',
        'roi_head.bbox_head.fc_reg.bias',
        'roi_head.bbox_head.shared_fcs.0.weight',
        'roi_head.mask_head.convs.3.conv.weight',
        'roi_head.mask_head.upsample.weight',
        'roi_head.mask_head.conv_logits.bias',
    },
    'fpn': {
        'backbone.norm0.weight',
        'neck.fpn_convs.3.conv.weight',
        'decode_head.conv_seg.weight',
        'decode_head.scale_heads.0.0.conv.weight',
        'decode_head.scale_heads.3.4.bn.running_mean',
    },
}
