"""PoolFormer equals mmpretrain's with the same weights, and the published numbers of its table."""

import pytest
import torch
from layouts import randomise
from mmengine.registry import DefaultScope
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmpoolformer import ARCHS, PoolFormer, convert_state_dict
from mmpoolformer.models import MetaFormerBlock

mmpretrain_models = pytest.importorskip('mmpretrain.models')

SIZES = [(224, 224), (33, 65), (97, 129), (32, 32)]
# Published: top-1 in percent and GMACs at 224 px by fvcore (arXiv 2111.11418, table 1 and code).
PUBLISHED = {
    'poolformer_s12': (77.2, 1.8),
    'poolformer_s24': (80.3, 3.4),
    'poolformer_s36': (81.4, 5.0),
    'poolformer_m36': (82.1, 8.8),
    'poolformer_m48': (82.5, 11.6),
}


@pytest.fixture(
    scope='module',
    params=['s12', 's36', 'm36'],
    ids=lambda size: f'poolformer_{size}',
)
def pair(request):
    """mmpretrain's backbone and ours, with the same weights and all four outputs."""
    torch.manual_seed(0)
    theirs = mmpretrain_models.PoolFormer(
        arch=request.param, out_indices=(0, 2, 4, 6), frozen_stages=-1
    )
    randomise(theirs)
    theirs.eval()
    ours = PoolFormer(arch=request.param)
    ours.load_state_dict(convert_state_dict(theirs.state_dict()), strict=True)
    return theirs, ours.eval()


def assert_equal(actual, expected, what: str, tolerance: float = 1e-5) -> None:
    """Assert a maximum error relative to the largest entry."""
    error = (actual - expected).abs().max() / expected.abs().max()
    assert error <= tolerance, f'{what}: {error:.1e}'


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_features_equal_those_of_mmpretrain(pair, size):
    theirs, ours = pair
    images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, actual = theirs(images), ours(images)
    assert len(actual) == len(expected) == 4
    for i in range(4):
        assert actual[i].shape == expected[i].shape
        assert_equal(actual[i], expected[i], f'stage {i}')


# Fused operations work in channels-last. In that format plain PyTorch's gradients, too, are up to
# 1e-5 away from those in fp64, in the default one 3e-6.
@pytest.mark.parametrize(('fused', 'tolerance'), [('reference', 1e-5), ('auto', 2e-5)])
def test_gradients_equal_those_of_mmpretrain(pair, fused, tolerance):
    images = torch.randn(2, 3, 97, 129, generator=torch.Generator().manual_seed(2))
    gradients = []
    for block in pair[1].modules():
        if isinstance(block, MetaFormerBlock):
            block.fused = fused
    for model in pair:
        x = images.clone().requires_grad_()
        weights = torch.Generator().manual_seed(3)
        loss = sum((f * torch.randn(f.shape, generator=weights)).sum() for f in model(x))
        model.zero_grad()
        loss.backward()
        gradients.append(({name: p.grad for name, p in model.named_parameters()}, x.grad))
    (expected, expected_x), (actual, actual_x) = gradients
    assert_equal(actual_x, expected_x, 'images', tolerance)
    expected = convert_state_dict(expected)
    assert set(actual) == set(expected)
    # The gradient of norm1.bias is exactly zero (pooling minus identity cancels constants), so
    # both sides hold nothing but rounding there.
    compared = [name for name in actual if not name.endswith('norm1.bias')]
    assert compared
    for name in compared:
        assert_equal(actual[name], expected[name], name, tolerance)


def test_comparison_notices_each_branch(pair):
    theirs, ours = pair
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    block = ours.stages[1].blocks[-1]
    with torch.no_grad():
        expected = theirs(images)
        for scale in (block.layer_scale1.scale, block.layer_scale2.scale):
            original = scale.clone()
            scale.mul_(1.01)
            with pytest.raises(AssertionError, match='stage 3'):
                assert_equal(ours(images)[3], expected[3], 'stage 3')
            scale.copy_(original)
        assert_equal(ours(images)[3], expected[3], 'restored')


@pytest.mark.smoke
@pytest.mark.parametrize('name', PUBLISHED)
def test_parameters_of_the_classifier(name):
    arch, size = ARCHS[name], name.removeprefix('poolformer_')
    with torch.device('meta'), DefaultScope.overwrite_default_scope('mmpretrain'):
        ours = nn.ModuleList([PoolFormer(arch=name, out_indices=3), nn.Linear(arch.dims[-1], 1000)])
        theirs = mmpretrain_models.ImageClassifier(
            backbone={'type': 'PoolFormer', 'arch': size},
            neck={'type': 'GlobalAveragePooling'},
            head={'type': 'LinearClsHead', 'num_classes': 1000, 'in_channels': arch.dims[-1]},
        )
    assert sum(p.numel() for p in ours.parameters()) == arch.params
    assert sum(p.numel() for p in theirs.parameters()) == arch.params


def test_table_holds_the_published_numbers():
    rows = {name: ARCHS[name] for name in PUBLISHED}
    weights = {name: row.weights['in1k'] for name, row in rows.items()}
    assert {name: (entry.top1, entry.gmacs) for name, entry in weights.items()} == PUBLISHED
    release = 'https://github.com/sail-sg/poolformer/releases/download/v1.0/{}.pth.tar'
    assert {name: entry.url for name, entry in weights.items()} == {
        name: release.format(name) for name in PUBLISHED
    }
    assert [row.drop_path_rate for row in rows.values()] == [0.1, 0.1, 0.2, 0.3, 0.4]
    assert [row.layer_scale for row in rows.values()] == [1e-5, 1e-5, 1e-6, 1e-6, 1e-6]


@pytest.mark.parametrize('name', PUBLISHED)
def test_recomputed_macs_agree_with_the_published(name):
    with torch.device('meta'):
        model = PoolFormer(arch=name, out_indices=3).eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 3, 224, 224))
    # Two operations per multiply-accumulate. Only convolutions are counted here; fvcore adds norms
    # and pooling, 1 to 2 %.
    assert counter.get_total_flops() / 2e9 == pytest.approx(PUBLISHED[name][1], rel=0.03)
