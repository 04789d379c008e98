"""The Triton kernels: in Triton's interpreter on a CPU, compiled without a GPU, and on a GPU."""

import importlib
import os
import sys
from pathlib import Path

import pytest
import torch
from cases import (
    errors,
    mlp_case,
    pack,
    plain_channel_mlp,
    plain_pool_mixer,
    pool_case,
    run,
    truth,
)
from processes import run as run_process

from mmpoolformer.ops import PoolParameters, channel_mlp, pool_mixer

pytest.importorskip('triton', minversion='3.4')

# Triton reads it when it is imported: the whole file runs once more in a process that has it set.
INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'
DEVICE = 'cpu' if INTERPRETED else 'cuda'
LAYOUTS = ('contiguous', 'channels_last', 'strided')
# Each shape and each window with each memory format; wide windows take the interpreter long.
STENCILS = [
    (shape, pool_size, layout)
    for shape, *pool_sizes in (
        ((2, 1, 1, 1), 9, 5, 9),
        ((2, 3, 1, 7), 5, 9, 5),
        ((2, 8, 5, 3), 3, 3, 3),
        ((1, 20, 9, 6), 3, 3, 3),
    )
    for pool_size, layout in zip(pool_sizes, LAYOUTS, strict=True)
]
SHAPES = [(2, 1, 1, 1), (2, 3, 1, 7), (2, 8, 5, 3), (1, 20, 9, 6)]
PARTS = ['', 'b', 'bs', 'brd', 'srd']
LOW = [torch.float16, torch.bfloat16]
DTYPES = [*LOW, torch.float32]
PLAIN = {pool_mixer: plain_pool_mixer, channel_mlp: plain_channel_mlp}


def matrix(test):
    """Mark a test that launches kernels."""
    if INTERPRETED:
        return test
    reason = 'runs on a GPU, and in the interpreter through test_interpreter'
    return pytest.mark.gpu(pytest.mark.skipif(not torch.cuda.is_available(), reason=reason)(test))


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """Fill what is allocated with NaN, so that numbers nobody writes show."""
    for owner, name in ((torch, 'empty'), (torch, 'empty_like'), (torch.Tensor, 'new_empty')):
        allocate = getattr(owner, name)

        def fill(*args, allocate=allocate, **kwargs):
            value = allocate(*args, **kwargs)
            return value.fill_(torch.nan) if value.is_floating_point() else value

        monkeypatch.setattr(owner, name, fill)


@pytest.fixture(autouse=True, scope='module')
def mended_interpreter():
    """Let loops have bounds that are arguments: Triton 3.6 fails with NumPy 2.4 (issue 9171)."""
    if not INTERPRETED:
        yield
        return
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def mended(tensor, scope):
        patch(tensor, scope)
        scope.set_attr(tensor, '__index__', lambda self: int(self.handle.data.item()))

    with pytest.MonkeyPatch.context() as context:
        context.setattr(interpreter, '_patch_lang_tensor', mended)
        yield


def on_device(values):
    return {name: None if v is None else v.to(DEVICE) for name, v in values.items()}


def run_triton(operation, values, **options):
    found = run(operation, on_device(values), fused='triton', **options)
    return {name: value.cpu() for name, value in found.items()}


def check(operation, values, **options):
    """Assert that no error is above twice that of plain PyTorch, plus a rounding step."""
    found = run_triton(operation, values, **options)
    expected = truth(operation, values, **options)
    dtypes = values['x'].dtype, values['norm_weight'].dtype
    wide = torch.promote_types(*dtypes)
    plain = {n: None if v is None else v.to(wide) for n, v in values.items()}
    coarsest = max(dtypes, key=lambda dtype: torch.finfo(dtype).eps)
    assert_at_most_twice(found, run(PLAIN[operation], plain, **options), expected, coarsest)
    return found


def assert_at_most_twice(found, plain, expected, dtype):
    # The interpreter cuts bf16 off where a GPU rounds.
    floor = max(torch.finfo(dtype).eps / (1 if INTERPRETED else 2), 1e-6)
    found, allowed = errors(found, expected), errors(plain, expected)
    print('worst', dtype, max((value, name) for name, value in found.items()))
    # Written so that NaN fails.
    assert all(found[name] <= 2 * allowed[name] + floor for name in found), (found, allowed)


@matrix
@pytest.mark.parametrize(('shape', 'pool_size', 'layout'), STENCILS, ids=str)
def test_pool_mixer(shape, pool_size, layout):
    found = check(pool_mixer, pool_case(shape, layout=layout), pool_size=pool_size)
    assert not found['norm_bias'].any()


@matrix
@pytest.mark.parametrize('parts', PARTS)
def test_pool_mixer_without_some_parameters(parts):
    check(pool_mixer, pool_case((2, 8, 5, 3), parts=parts), pool_size=3)


@matrix
@pytest.mark.parametrize('layout', ['contiguous', 'channels_last'])
@pytest.mark.parametrize('per_position', [False, True])
@pytest.mark.parametrize('act', ['gelu', 'star_relu'])
def test_channel_mlp(act, per_position, layout):
    # Every other shape in this memory format: each has both, with either activation and norm.
    for shape in SHAPES[per_position ^ (layout == 'contiguous') :: 2]:
        values = mlp_case(shape, layout=layout, act=act)
        check(channel_mlp, values, act=act, per_position=per_position)


@matrix
@pytest.mark.parametrize('parts', PARTS)
def test_channel_mlp_without_some_parameters(parts):
    for act in ('gelu', 'star_relu'):
        for per_position in (False, True):
            values = mlp_case((2, 8, 5, 3), act=act, parts=parts)
            check(channel_mlp, values, act=act, per_position=per_position)


@pytest.fixture
def small_tiles(monkeypatch):
    """Small maps need several parts, programs along each axis, and tiles for one program."""
    monkeypatch.setattr(sys.modules['mmpoolformer.ops.triton_statistics'], '_BLOCK', 512)
    launch = sys.modules['mmpoolformer.ops.channel_mlp.triton_launch']
    monkeypatch.setattr(launch, '_TILE', 128)
    monkeypatch.setattr(launch, '_PROGRAMS', 2)


@matrix
def test_pool_mixer_in_several_tiles(small_tiles):
    check(pool_mixer, pool_case((1, 3, 9, 5)), pool_size=5)
    check(pool_mixer, pool_case((1, 9, 9, 65), layout='contiguous'), pool_size=3)
    values = pool_case((1, 72, 9, 9))
    found = check(pool_mixer, values, pool_size=3)
    assert_equal_to_the_bit(found, run_triton(pool_mixer, values, pool_size=3))


@matrix
@pytest.mark.parametrize(('act', 'per_position'), [('gelu', False), ('star_relu', True)])
def test_channel_mlp_in_several_tiles(small_tiles, act, per_position):
    values, options = mlp_case((2, 72, 2, 5), act=act), dict(act=act, per_position=per_position)
    found = check(channel_mlp, values, **options)
    assert_equal_to_the_bit(found, run_triton(channel_mlp, values, **options))


def assert_equal_to_the_bit(first, second):
    assert len(first) > 5
    assert all(torch.equal(first[name], second[name]) for name in first)


@matrix
@pytest.mark.parametrize('x_dtype', DTYPES, ids=str)
@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_types(dtype, x_dtype):
    """Types of the parameters and of the input, each with each memory format and shape."""
    i, j = DTYPES.index(x_dtype), DTYPES.index(dtype)
    layout, shape = LAYOUTS[(i + j) % 3], SHAPES[1 + (i + 2 * j) % 3]
    values = pool_case(shape, dtype=dtype, layout=layout)
    values['x'] = values['x'].to(x_dtype)
    check(pool_mixer, values, pool_size=3)
    y = pool_mixer(*pack(on_device(values)), fused='triton')
    assert y.dtype == torch.promote_types(dtype, x_dtype)
    if layout != 'strided':
        assert y.stride() == values['x'].stride()
    if x_dtype == dtype or dtype == torch.float32:
        for act, per_position in (('gelu', False), ('star_relu', True)):
            values = mlp_case(shape, dtype=dtype, act=act)
            values['x'] = values['x'].to(x_dtype)
            check(channel_mlp, values, act=act, per_position=per_position)


@matrix
@pytest.mark.parametrize('dtype', LOW, ids=str)
@pytest.mark.parametrize('scale', [1.0, 1e-5])
def test_autocast(dtype, scale):
    """Products in half precision, everything else in fp32; a tiny LayerScale loses nothing."""
    values = mlp_case((2, 8, 5, 3), parts='bsd')
    values['layer_scale'] *= scale
    options = dict(act='gelu', per_position=False)
    with torch.autocast(DEVICE, dtype):
        found = run_triton(channel_mlp, values, **options)
        y = channel_mlp(*pack(on_device(values)), fused='triton')
    assert y.dtype == torch.float32
    with torch.autocast('cpu', dtype):
        plain = run(plain_channel_mlp, values, **options)
    assert_at_most_twice(found, plain, truth(channel_mlp, values, **options), dtype)


@matrix
@pytest.mark.parametrize('layout', ['contiguous', 'channels_last'])
def test_a_large_mean_costs_no_digits(layout):
    """Neither the variance nor the sum over a window is a difference of large numbers."""
    values = pool_case((2, 8, 5, 7), layout=layout, mean=1000.0)
    values['res_scale'] = torch.zeros(8)
    found, expected = run_triton(pool_mixer, values), truth(pool_mixer, values)
    assert max(errors(found, expected).values()) < 1e-5, errors(found, expected)
    for per_position in (False, True):
        values = mlp_case((2, 8, 5, 7), layout=layout, mean=1000.0)
        check(channel_mlp, values, act='gelu', per_position=per_position)


@matrix
def test_strides():
    """Slices, transposed weights, and gradients that autograd hands over expanded or permuted."""
    values = mlp_case((2, 8, 5, 3))
    values['fc1_weight'] = values['fc1_weight'].T.contiguous().T
    values['norm_weight'] = torch.randn(8, 2)[:, 0]
    values['x'] = torch.randn(2, 5, 4, 16).transpose(1, 3)[:, ::2]
    pool_values = {name: values[name] for name in pool_case((2, 8, 4, 5))}
    for weights in (torch.randn(5, 2, 4, 8).permute(1, 3, 2, 0), torch.ones(1).expand(2, 8, 4, 5)):
        for operation, given in ((pool_mixer, pool_values), (channel_mlp, values)):
            exact = {name: None if v is None else v.double() for name, v in given.items()}
            found = gradient(operation, on_device(given), weights, 'triton')
            assert (found - gradient(operation, exact, weights, 'reference')).abs().max() < 1e-5


def gradient(operation, values, weights, fused):
    x = values['x'].detach().requires_grad_()
    y = operation(*pack({**values, 'x': x}), fused=fused)
    y.backward(weights.to(y))
    return x.grad.cpu().double()


@pytest.fixture(scope='module')
def all_gradients(mended_interpreter):
    """For each operation its tensors, options, and all gradients."""
    cases = [
        (pool_mixer, pool_case((2, 8, 5, 3)), {}),
        (channel_mlp, mlp_case((2, 8, 5, 3), act='star_relu'), dict(act='star_relu')),
    ]
    return [(*case, run_triton(case[0], case[1], **case[2])) for case in cases]


@matrix
@pytest.mark.parametrize(
    'needed', [['x'], ['norm_weight', 'layer_scale'], ['res_scale'], ['fc1_bias'], ['act_scale']]
)
def test_frozen(all_gradients, needed):
    """Only what needs a gradient gets one, and it does not depend on what else needs one."""
    for operation, values, options, expected in all_gradients:
        present = [name for name in needed if name in values]
        if not present:
            continue
        leaves = {
            name: v.detach().to(DEVICE).requires_grad_(name in needed) for name, v in values.items()
        }
        y = operation(*pack(leaves), **options, fused='triton')
        y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y))
        assert [name for name, v in leaves.items() if v.grad is not None] == present
        for name in present:
            assert torch.equal(leaves[name].grad.cpu().double(), expected[name])


@matrix
@pytest.mark.parametrize('act', ['gelu', 'star_relu'])
def test_inference_equals_training(act):
    values = mlp_case((2, 8, 5, 3), act=act)
    x, parameters = pack(on_device(values))
    trained = channel_mlp(x.requires_grad_(), parameters, act=act, fused='triton').detach()
    with torch.inference_mode():
        assert torch.equal(channel_mlp(x, parameters, act=act, fused='triton'), trained)
        y = pool_mixer(x, PoolParameters(parameters.norm_weight), fused='triton')
        assert y.isfinite().all()


@matrix
def test_only_input_statistics_and_the_hidden_layer_are_saved():
    values = on_device(mlp_case((2, 8, 5, 3)))
    values['x'].requires_grad_()
    known = {v.data_ptr() for v in values.values() if v is not None}
    new = []

    def look(tensor):
        new.extend([tensor.numel()] if tensor.data_ptr() not in known else [])
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(look, lambda tensor: tensor):
        pool_mixer(values['x'], PoolParameters(values['norm_weight']), fused='triton')
        channel_mlp(*pack(values), fused='triton')
    assert new == [2 * 2, 2 * 2, 2 * 5 * 3 * len(values['fc1_weight'])]


@matrix
def test_the_reference_takes_double_precision():
    values = pool_case((2, 8, 5, 3), dtype=torch.float64)
    assert errors(run_triton(pool_mixer, values), truth(pool_mixer, values))['y'] < 1e-12
    values = mlp_case((2, 8, 5, 3), dtype=torch.float64)
    assert errors(run_triton(channel_mlp, values), truth(channel_mlp, values))['y'] < 1e-12


@pytest.mark.exhaustive
@pytest.mark.skipif(INTERPRETED, reason='is what this test starts')
def test_interpreter(tmp_path):
    """All of the above on a CPU."""
    command = [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', __file__]
    finished = run_process(command, Path(__file__).parents[2], timeout=600, TRITON_INTERPRET='1')
    assert finished.code == 0, finished.text[-5000:]
    assert ' passed' in finished.out


@pytest.mark.exhaustive
@pytest.mark.skipif(INTERPRETED, reason='the interpreter compiles nothing')
def test_kernels_compile(tmp_path):
    """The compiler takes less of Python than the interpreter; it needs no GPU."""
    command = [sys.executable, Path(__file__).with_name('compile_kernels.py')]
    finished = run_process(command, tmp_path, TRITON_CACHE_DIR=str(tmp_path))
    assert finished.code == 0, finished.text[-5000:]
    rooms = 'triton_statistics', 'pool_mixer.triton_kernels', 'channel_mlp.triton_kernels'
    modules = [importlib.import_module(f'mmpoolformer.ops.{room}') for room in rooms]
    kernels = [name for module in modules for name in vars(module) if name.endswith('_kernel')]
    assert len(kernels) == 13
    for capability in (80, 90):
        for kernel in ('_reduce_part', *kernels):
            assert f'{capability} {kernel} ' in finished.out
