"""The backbone's contract: shapes, outputs, construction, arguments."""

import builtins
import doctest
import importlib
import socket

import pytest
import torch
from torch import nn

from mmpoolformer import ARCHS, MetaFormer, PoolFormer
from mmpoolformer.models import Pooling
from mmpoolformer.zoo.archs import get_arch

SUBSETS = [(0,), (1, 2), (1, 2, 3), (0, 1, 2, 3)]


def expected_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """The stem pads by 2 (facts of the paper's code); each later stage rounds up."""
    sizes = [((height + 1) // 4, (width + 1) // 4)]
    for _ in range(3):
        sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
    return sizes


@pytest.mark.parametrize('size', [(64, 64), (33, 65), (47, 129), (32, 32)], ids=str)
def test_shapes_of_every_row(row, size):
    name, model = row
    with torch.no_grad():
        features = model(torch.rand(2, 3, *size))
    assert isinstance(features, tuple)
    assert [tuple(f.shape) for f in features] == [
        (2, dim, *side) for dim, side in zip(ARCHS[name].dims, expected_sizes(*size), strict=True)
    ]
    assert all(f.isfinite().all() for f in features)
    assert model.out_channels == ARCHS[name].dims
    assert model.out_strides == (4, 8, 16, 32)


def test_every_row_is_built_as_its_table_says(row):
    name, model = row
    arch = ARCHS[name]
    assert tuple(len(stage.blocks) for stage in model.stages) == arch.depths
    first_paper = name.startswith('poolformer_')
    layer_scales = [p for key, p in model.named_parameters() if 'layer_scale' in key]
    assert len(layer_scales) == (2 * sum(arch.depths) if first_paper else 0)
    assert all((scale == arch.layer_scale).all() for scale in layer_scales)
    res_scales = [p for key, p in model.named_parameters() if 'res_scale' in key]
    assert len(res_scales) == (0 if first_paper else 2 * sum(arch.depths[2:]))
    assert all((scale == 1).all() for scale in res_scales)
    fc1, fc2 = model.stages[2].blocks[1].mlp.fc1, model.stages[2].blocks[1].mlp.fc2
    assert fc1.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert fc2.weight.std().item() == pytest.approx(0.02, rel=0.05)
    norm = model.stages[0].blocks[0].norm1
    assert norm.eps == (1e-5 if first_paper else 1e-6)
    for biased in (fc1, fc2, norm):
        assert not biased.bias.any() if first_paper else biased.bias is None
    over_channels = name.startswith(('convformer', 'caformer'))
    assert isinstance(norm, nn.LayerNorm if over_channels else nn.GroupNorm)
    assert over_channels or norm.num_groups == 1
    assert all(getattr(model, f'norm{i}').bias is not None for i in range(4))


def test_sizes_from_32_to_67_follow_the_formula(small):
    model = small().eval()
    checked = 0
    for side in range(32, 68):
        with torch.no_grad():
            features = model(torch.rand(1, 3, side, 99 - side))
        assert [tuple(f.shape[2:]) for f in features] == expected_sizes(side, 99 - side)
        checked += 1
    assert checked == 36


@pytest.mark.smoke
@pytest.mark.parametrize(
    ('given', 'stages'),
    [(3, (3,)), (-1, (3,)), ((-3, -1), (1, 3)), ([1, 2, 3], (1, 2, 3)), ((0, -1), (0, 3))],
    ids=str,
)
def test_out_indices_in_all_spellings(small, given, stages):
    before = list(given) if isinstance(given, list) else given
    every, chosen = small().eval(), small(out_indices=given).eval()
    assert given == before
    assert chosen.out_indices == stages
    assert chosen.out_channels == tuple(every.out_channels[i] for i in stages)
    assert chosen.out_strides == tuple(4 * 2**i for i in stages)
    assert {key for key, _ in chosen.named_children() if key.startswith('norm')} == {
        f'norm{i}' for i in stages
    }
    chosen.load_state_dict(every.state_dict(), strict=False)
    x = torch.rand(1, 3, 40, 64)
    with torch.no_grad():
        features, all_features = chosen(x), every(x)
    assert len(features) == len(stages)
    for i, feature in zip(stages, features, strict=True):
        torch.testing.assert_close(feature, all_features[i], rtol=0, atol=0)


def test_block_is_the_equation_of_the_paper(small):
    block = small().stages[1].blocks[0].double().eval()
    x = torch.randn(2, 16, 7, 5, dtype=torch.float64)
    with torch.no_grad():
        normed = block.norm1(x)
        window = nn.functional.avg_pool2d(normed, 3, 1, 1, count_include_pad=False)
        y = x + 0.5 * (window - normed)
        y = y + 0.5 * block.mlp.fc2(nn.functional.gelu(block.mlp.fc1(block.norm2(y))))
        torch.testing.assert_close(block(x), y)


@pytest.mark.parametrize('layer_scale', [None, 0.25, 'arch'])
def test_layer_scale(small, layer_scale):
    scales = [p for n, p in small(layer_scale=layer_scale).named_parameters() if 'layer_scale' in n]
    expected = {None: None, 0.25: 0.25, 'arch': 0.5}[layer_scale]
    assert len(scales) == (0 if expected is None else 10)
    assert all((scale == expected).all() for scale in scales)


@pytest.mark.smoke
def test_drop_path_rises_linearly_over_all_blocks(small):
    def rates(model):
        return [
            getattr(block.drop_path, 'drop_prob', 0.0)
            for stage in model.stages
            for block in stage.blocks
        ]

    assert rates(small(drop_path_rate=0.4)) == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert rates(small(drop_path_rate=0.0)) == [0] * 5


def test_options_reach_the_layers(small):
    assert small(in_channels=1)(torch.rand(1, 1, 32, 32))[0].shape == (1, 8, 8, 8)
    block = small(
        mlp_ratio=2, pool_size=5, act_cfg={'type': 'ReLU'}, norm_cfg={'type': 'BN'}, drop_rate=0.3
    ).stages[2].blocks[1]  # fmt: skip
    assert block.mlp.fc1.out_channels == 48
    assert block.token_mixer.pool.kernel_size == 5
    assert isinstance(block.mlp.act, nn.ReLU)
    assert isinstance(block.norm2, nn.BatchNorm2d)
    assert block.mlp.drop.p == 0.3


def test_token_mixer_per_stage():
    def identity(dim):
        return nn.Identity()

    row = get_arch('poolformer', {'depths': (1, 1, 1, 1), 'dims': (8, 8, 8, 8)})
    model = MetaFormer(row, [identity, identity, Pooling, Pooling])
    mixers = [type(stage.blocks[0].token_mixer) for stage in model.stages]
    assert mixers == [nn.Identity, nn.Identity, Pooling, Pooling]
    with pytest.raises(ValueError, match='token_mixers has 3 entries: give one for all, or four'):
        MetaFormer(row, [identity] * 3)


@pytest.mark.parametrize('arch', ['s12', 'S12', 'poolformer_s12'])
def test_spellings_of_arch(arch):
    with torch.device('meta'):
        assert PoolFormer(arch=arch).arch is ARCHS['poolformer_s12']


ARGUMENTS = [
    ({'arch': 's13'}, ["arch='s13'", 's12', 'm48', 'dict(depths=']),
    ({'arch': {'depths': (1, 1, 1, 1)}}, ['depths', "needs 'depths' and 'dims'"]),
    ({'arch': {'depths': (1,) * 4, 'dims': (8,) * 4, 'width': 2}}, ['width', 'may hold', 'dims']),
    ({'arch': {'depths': (1, 1, 1), 'dims': (8, 8, 8)}}, ['(1, 1, 1)', 'four stages', 'e.g.']),
    ({'arch': {'depths': (1, 1, 0, 1), 'dims': (8,) * 4}}, ['(1, 1, 0, 1)', 'positive integer']),
    ({'arch': {'depths': (1,) * 4, 'dims': (8, 8, 8, 8.5)}}, ['8.5', 'positive integer']),
    ({'pool_size': 2}, ['pool_size=2', 'odd', '3, 5 or 7']),
    ({'pool_size': -1}, ['pool_size=-1', 'positive']),
    ({'out_indices': 4}, ['out_indices=4', '0 to 3', '(1, 2, 3) for RetinaNet']),
    ({'out_indices': -5}, ['out_indices=-5', '-4 to -1']),
    ({'out_indices': ()}, ['out_indices=()', '0 to 3']),
    ({'out_indices': (1, 1)}, ['(1, 1)', 'each once']),
    ({'out_indices': (3, -1)}, ['(3, -1)', 'each once']),
    ({'out_indices': (2, 1)}, ['(2, 1)', 'ascending']),
    ({'frozen_stages': 5}, ['frozen_stages=5', '-1 freezes nothing', '1 to 4']),
    ({'frozen_stages': -2}, ['frozen_stages=-2', '0 the stem']),
    ({'in_channels': 0}, ['in_channels=0', 'at least 1']),
    ({'mlp_ratio': 0}, ['mlp_ratio=0', 'positive', '4']),
    ({'drop_rate': 1.0}, ['drop_rate=1.0', '[0, 1)']),
    ({'drop_path_rate': -0.1}, ['drop_path_rate=-0.1', '[0, 1)']),
    ({'drop_path_rate': 1}, ['drop_path_rate=1', '[0, 1)']),
    ({'layer_scale': 'small'}, ["layer_scale='small'", 'None', "'arch'"]),
    ({'norm_cfg': {'type': 'LN'}}, ["'LN'", "dict(type='GN', num_groups=1)"]),
]


@pytest.mark.smoke
@pytest.mark.parametrize(('kwargs', 'words'), ARGUMENTS, ids=lambda x: str(x)[:40])
def test_wrong_arguments_say_value_allowed_and_remedy(small, kwargs, words):
    with pytest.raises(ValueError) as error:
        small(**kwargs)
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize('shape', [(3, 32, 32), (1, 1, 32, 32), (1, 32, 32, 3)], ids=str)
def test_wrong_input_is_refused_with_its_shape(small, shape):
    with pytest.raises(ValueError, match='in_channels') as error:
        small()(torch.rand(shape))
    assert str(shape) in str(error.value)
    assert '(B, 3, H, W)' in str(error.value)


@pytest.mark.parametrize('size', [(1, 1), (2, 64), (64, 2)], ids=str)
def test_images_smaller_than_the_stem_are_refused(small, size):
    with pytest.raises(ValueError, match=f'image of {size[0]}x{size[1]} pixels.*at least 3'):
        small()(torch.rand(1, 3, *size))


@pytest.mark.parametrize('size', [(3, 3), (3, 5), (31, 7)], ids=str)
def test_smallest_images_run(small, size):
    shapes = [tuple(feature.shape[2:]) for feature in small().eval()(torch.rand(1, 3, *size))]
    expected = [tuple((side + 1) // 4 for side in size)]
    for _ in range(3):
        expected.append(tuple((side + 1) // 2 for side in expected[-1]))
    assert shapes == expected


def test_stages_behind_the_last_output_are_not_built(small):
    whole, part = small().eval(), small(out_indices=(0, 1), frozen_stages=4).eval()
    assert len(part.stages) == 2
    assert part.out_channels == whole.out_channels[:2]
    weights = {k: v for k, v in whole.state_dict().items() if k in part.state_dict()}
    part.load_state_dict(weights, strict=True)
    image = torch.rand(1, 3, 64, 64)
    for ours, theirs in zip(part(image), whole(image)[:2], strict=True):
        assert torch.equal(ours, theirs)


def test_one_line_of_log_instead_of_one_per_parameter(small, monkeypatch):
    logged = []
    name = 'mmpoolformer.models.metaformer.print_log'
    monkeypatch.setattr(name, lambda message, logger: logged.append(message))
    small().init_weights()
    assert len(logged) == 1
    assert logged[0].startswith('Initialised PoolFormer of ')


@pytest.mark.smoke
def test_construction_does_no_io(small, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError(f'I/O in a constructor: {args}')

    monkeypatch.setattr(socket, 'socket', refuse)
    monkeypatch.setattr(builtins, 'open', refuse)
    monkeypatch.setattr(torch, 'load', refuse)
    monkeypatch.setattr(torch.hub, 'download_url_to_file', refuse)
    source = {'type': 'Pretrained', 'checkpoint': 'metaformer://poolformer_s12'}
    model = small(init_cfg=source)
    assert model.init_cfg == source
    monkeypatch.undo()
    monkeypatch.setattr(torch.hub, 'download_url_to_file', refuse)
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: '/nonexistent-folder-of-this-test')
    monkeypatch.setattr('pathlib.Path.mkdir', lambda *args, **kwargs: None)
    with pytest.raises(AssertionError, match='I/O'):  # It is init_weights that loads.
        model.init_weights()


def test_docstring_examples():
    modules = ['', '.zoo.archs', '.models.layers', '.models.token_mixers', '.models.metaformer']
    attempted = {}
    for name in [*modules, '.models.families', '.models.factory', '.checkpoint']:
        module = importlib.import_module(f'mmpoolformer{name}')
        result = doctest.testmod(module, extraglobs={'torch': torch})
        assert not result.failed, name
        attempted[name] = result.attempted
    assert attempted[''] == 3
    with_examples = ('.zoo.archs', '.models.token_mixers', '.models.families', '.models.factory')
    assert all(attempted[name] for name in with_examples)
