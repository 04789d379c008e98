"""Fused operations equal the modules, are taken where they should be, and nowhere else."""

import copy

import pytest
import torch
from mmcv.cnn.bricks import DropPath
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import parametrize

from mmpoolformer import (
    CAFormer,
    ConvFormer,
    IdentityFormer,
    PoolFormer,
    PoolFormerV2,
    RandFormer,
)
from mmpoolformer.models import fusion
from mmpoolformer.models.layers import StarReLU
from mmpoolformer.models.metaformer import MetaFormerBlock
from mmpoolformer.models.token_mixers import Pooling

FAMILIES = (PoolFormer, PoolFormerV2, IdentityFormer, RandFormer, ConvFormer, CAFormer)
HOOKS = {
    'forward': lambda module, call: module.register_forward_hook(lambda *_: call()),
    'forward pre': lambda module, call: module.register_forward_pre_hook(lambda *_: call()),
    'backward': lambda module, call: module.register_full_backward_hook(lambda *_: call()),
    'backward pre': lambda module, call: module.register_full_backward_pre_hook(lambda *_: call()),
}
GROUP_NORM = dict(type='GN', num_groups=1)


@pytest.fixture
def fused(monkeypatch):
    """The names of the fused operations that ran, in order."""
    names = []

    def watch(operation):
        def run(*args, **kwargs):
            names.append(operation.__name__)
            return operation(*args, **kwargs)

        return run

    for operation in (fusion.pool_mixer, fusion.channel_mlp):
        monkeypatch.setattr(fusion, operation.__name__, watch(operation))
    return names


def build(family: type, **options) -> nn.Module:
    """Return a backbone of four narrow blocks in training mode, with no parameter at its default.

    At their initial values the branches hardly count, and a fault in them would not show.
    """
    arch = dict(depths=(1, 1, 1, 1), dims=(8, 16, 32, 64), layer_scale=0.5)
    if family is RandFormer:
        options['img_size'] = 64
    torch.manual_seed(0)
    return stir(family(arch=arch, **options)).train()


def build_block(**options) -> MetaFormerBlock:
    """Return a block of PoolFormer in training mode."""
    arguments = dict(
        dim=8,
        token_mixer=Pooling,
        mlp_ratio=2,
        norm_cfg=GROUP_NORM,
        act_cfg=dict(type='StarReLU'),
        drop_rate=0.0,
        drop_path_rate=0.0,
        layer_scale=0.5,
        res_scale=0.5,
        fused='torch',
    )
    torch.manual_seed(0)
    return stir(MetaFormerBlock(**{**arguments, **options})).train()


def stir(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        if parameter.requires_grad:
            deviation = 0.2 if parameter.ndim < 2 else parameter[0].numel() ** -0.5
            parameter.data += deviation * torch.randn(parameter.shape)
    return module


def modules_of(module: nn.Module) -> nn.Module:
    """Return a copy that computes with plain modules."""
    plain = copy.deepcopy(module)
    for block in plain.modules():
        if isinstance(block, MetaFormerBlock):
            block.fused = 'reference'
    return plain


def step(module: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return outputs and gradients of one training step, and the next random number, by name."""
    module.zero_grad()
    x = x.clone().requires_grad_()
    torch.manual_seed(7)
    outputs = module(x)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    found = {'random': torch.rand(1), **{f'y{i}': y.detach() for i, y in enumerate(outputs)}}
    sum(y.float().pow(3).mean() for y in outputs).backward()
    named = {**dict(module.named_parameters()), 'x': x}
    grads = {name: p.grad.clone() for name, p in named.items() if p.requires_grad}
    return {**found, **grads}


def assert_equal(actual: dict, expected: dict) -> None:
    assert actual.keys() == expected.keys()
    sizes = {name: float(value.abs().max()) for name, value in expected.items()}
    for name, value in expected.items():
        # Some gradients are small sums of large numbers: that of a bias before pooling is 0.
        scale = max(sizes[name], 0.1 * max(sizes.values()))
        torch.testing.assert_close(actual[name], value, rtol=0, atol=2e-5 * scale, msg=name)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.smoke
@pytest.mark.parametrize('drop_path_rate', [0.0, 0.5])
@pytest.mark.parametrize('family', FAMILIES)
def test_training_equals_that_of_the_modules(fused, family, drop_path_rate):
    """With drop path from the same random numbers, of which as many are used."""
    model, images = (
        build(family, drop_path_rate=drop_path_rate, fused='torch'),
        random(4, 3, 64, 64),
    )
    actual = step(model, images)
    assert fused.count('channel_mlp') == 4
    assert fused.count('pool_mixer') == (4 if family in (PoolFormer, PoolFormerV2) else 0)
    assert_equal(actual, step(modules_of(model), images))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_drop_path_drops_the_same_samples(dtype):
    drop_path, x = DropPath(0.3), torch.ones(200, 8, 2, 2, dtype=dtype)
    torch.manual_seed(7)
    expected, expected_next = drop_path(x)[:, 0, 0, 0], torch.rand(1)
    torch.manual_seed(7)
    assert torch.equal(fusion._drop_factor(drop_path, x), expected)
    assert torch.equal(torch.rand(1), expected_next)
    assert 30 < (expected == 0).sum() < 90
    assert fusion._drop_factor(drop_path.eval(), x) is None


@pytest.mark.parametrize('family', FAMILIES)
def test_inference_equals_that_of_the_modules(fused, family):
    model = build(family, drop_path_rate=0.5, fused='torch').eval()
    images = random(2, 3, 64, 64)
    with torch.no_grad():
        actual, expected = model(images), modules_of(model)(images)
    assert fused
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def distance(actual: dict, expected: dict) -> float:
    """Return how far all tensors together are from what they should be, relative to their size."""
    differences = [(actual[name].float() - value).norm() for name, value in expected.items()]
    sizes = [value.norm() for value in expected.values()]
    return float(torch.stack(differences).norm() / torch.stack(sizes).norm())


@pytest.mark.parametrize('family', FAMILIES)
def test_autocast_is_as_exact_as_with_the_modules(fused, family):
    model, images = build(family, fused='torch'), random(2, 3, 64, 64)
    plain = modules_of(model)
    expected = step(plain, images)
    with torch.autocast('cpu', torch.bfloat16):
        actual, allowed = step(model, images), step(plain, images)
    assert fused
    outputs = {name: value for name, value in expected.items() if name.startswith('y')}
    gradients = {name: value for name, value in expected.items() if name not in outputs}
    for values in (outputs, gradients):
        assert 1e-3 < distance(actual, values) < 1.5 * distance(allowed, values)


def parts(block: nn.Module) -> list[str]:
    return [name for name, _ in block.named_modules() if name]


@pytest.mark.parametrize('kind', HOOKS)
@pytest.mark.parametrize('family', FAMILIES)
def test_hooks_fire_and_change_nothing(family, kind):
    model = build(family, drop_path_rate=0.5, fused='torch')
    tried = 0
    for stage in (model.stages[1], model.stages[3]):  # They differ in token mixers and scales.
        block = stage.blocks[0]
        x = random(2, block.norm1.weight.numel(), 4 if stage is model.stages[1] else 2, 2)
        expected = step(modules_of(block), x)
        for name in parts(block):
            calls = []
            handle = HOOKS[kind](block.get_submodule(name), lambda calls=calls: calls.append(1))
            assert_equal(step(block, x), expected)
            # Dropout has one place behind each layer of an MLP, drop path one in each half.
            assert len(calls) == (2 if name in ('drop_path', 'mlp.drop') else 1), (name, calls)
            handle.remove()
            tried += 1
    assert tried >= 20


def test_a_hook_on_all_modules_fires(fused):
    block, seen = build_block(), []
    with register_module_forward_hook(lambda module, *_: seen.append(module)):
        block(random(2, 8, 4, 4))
    assert not fused
    assert {block.norm1, block.token_mixer.pool, block.mlp.act, block.layer_scale2} <= {*seen}


class Halved(nn.Module):
    def forward(self, value):
        return value / 2


@pytest.mark.parametrize(
    ('name', 'operations'),
    [
        ('norm1.weight', ['channel_mlp']),
        ('layer_scale1.scale', ['channel_mlp']),
        ('res_scale1.scale', ['channel_mlp']),
        ('norm2.bias', ['pool_mixer']),
        ('mlp.fc1.weight', ['pool_mixer']),
        ('mlp.fc2.bias', ['pool_mixer']),
        ('mlp.act.scale', ['pool_mixer']),
        ('layer_scale2.scale', ['pool_mixer']),
        ('res_scale2.scale', ['pool_mixer']),
    ],
)
def test_parametrized_parts_run_as_modules(fused, name, operations):
    block, x = build_block(), random(2, 8, 4, 4)
    before = step(block, x)['y0']
    fused.clear()
    owner, _, tensor = name.rpartition('.')
    parametrize.register_parametrization(block.get_submodule(owner), tensor, Halved())
    actual = step(block, x)
    assert fused == operations
    assert_equal(actual, step(modules_of(block), x))
    assert not torch.allclose(actual['y0'], before)


@pytest.mark.parametrize(
    ('options', 'operations'),
    [
        (dict(), ['pool_mixer', 'channel_mlp']),
        (dict(norm_cfg=dict(type='LN2d')), ['channel_mlp']),
        (dict(norm_cfg=dict(type='GN', num_groups=2)), []),
        (dict(norm_cfg=dict(type='GN', num_groups=1, affine=False)), []),
        (dict(norm_cfg=dict(type='LN2d', elementwise_affine=False)), []),
        (dict(norm_cfg=dict(type='BN')), []),
        (dict(drop_rate=0.5), ['pool_mixer']),
        (dict(act_cfg=dict(type='GELU')), ['pool_mixer', 'channel_mlp']),
        (dict(act_cfg=dict(type='GELU', approximate='tanh')), ['pool_mixer']),
        (dict(act_cfg=dict(type='SquaredReLU')), ['pool_mixer']),
        (dict(residual=False), []),
        (dict(mlp_ratio=None), ['pool_mixer']),
    ],
    ids=str,
)
def test_what_no_operation_covers_runs_as_modules(fused, options, operations):
    # Dropout draws its numbers in the order of memory, and operations return channels-last maps.
    x = random(2, 8, 4, 4).contiguous(memory_format=torch.channels_last)
    block = build_block(**options)
    actual = step(block, x)
    assert fused == operations
    assert_equal(actual, step(modules_of(block), x))


def test_dropout_is_fused_where_it_drops_nothing(fused):
    block, x = build_block(drop_rate=0.5).eval(), random(2, 8, 4, 4)
    actual = step(block, x)
    assert fused == ['pool_mixer', 'channel_mlp']
    assert_equal(actual, step(modules_of(block), x))


def test_replaced_parts_run_as_modules(fused):
    for name, part in (
        ('drop_path', nn.Dropout2d(0.5)),
        ('layer_scale1', nn.Conv2d(8, 8, 1)),
        ('mlp.fc1', nn.Sequential(nn.Conv2d(8, 16, 1))),
        ('mlp.act', nn.Sequential(StarReLU())),
    ):
        block, x = build_block(), random(2, 8, 4, 4)
        block.set_submodule(name, part)
        actual = step(block, x)
        assert len(fused) < 2, name
        assert_equal(actual, step(modules_of(block), x))
        fused.clear()


def test_inference_leaves_the_input_of_a_block_as_it_is(fused):
    for mixer in (Pooling, nn.Identity):
        block, x = build_block(token_mixer=mixer), random(2, 8, 4, 4)
        with torch.no_grad():
            block(x)
        assert torch.equal(x, random(2, 8, 4, 4))
    assert fused == ['pool_mixer', 'channel_mlp', 'channel_mlp']


@pytest.mark.usefixtures('shipped_threshold')
class TestShippedThreshold:
    """What users get: large maps are fused, small ones are not. Other tests fuse all of them."""

    @pytest.fixture
    def model(self):
        return build(PoolFormer, drop_path_rate=0.5)

    @pytest.fixture
    def images(self):
        return random(1, 3, 384, 352)  # The map of the first stage has 8 * 96 * 88 numbers.

    def test_features(self, model, images, fused):
        with torch.no_grad():
            actual, expected = model.eval()(images), modules_of(model)(images)
        assert fused == ['pool_mixer', 'channel_mlp']
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)

    def test_training_step(self, model, images, fused):
        actual = step(model, images)
        assert fused == ['pool_mixer', 'channel_mlp']
        assert_equal(actual, step(modules_of(model), images))

    def test_export(self, model, images, fused):
        program = torch.export.export(model.eval(), (images,)).module()
        assert not fused
        torch.testing.assert_close(program(images), model(images), rtol=1e-4, atol=1e-5)
        assert fused == ['pool_mixer', 'channel_mlp']

    def test_compile(self, model, images, fused):
        torch.compiler.reset()
        compiled = torch.compile(model.eval(), backend='eager', fullgraph=True)
        with torch.no_grad():
            actual = compiled(images)
            assert not fused
            torch.testing.assert_close(actual, model(images), rtol=1e-4, atol=1e-5)
        assert fused == ['pool_mixer', 'channel_mlp']
