"""The Triton kernels: in Triton's interpreter on a CPU, compiled without a GPU, and on a GPU."""

import os
import sys
from pathlib import Path

import pytest
import torch
from cases import (
    errors,
    mlp_case,
    plain_channel_mlp,
    plain_pool_mixer,
    pool_case,
    run,
    truth,
)
from processes import run as run_process

from mmpoolformer.ops import channel_mlp, pool_mixer

pytest.importorskip('triton')

# Triton reads it when it is imported: the whole file runs once more in a process that has it set.
INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'
DEVICE = 'cpu' if INTERPRETED else 'cuda'
# Shapes and the sizes of windows tried on them: those of 9 take the interpreter long.
SHAPES = {
    (2, 1, 1, 1): (3, 9),
    (2, 3, 1, 7): (3, 5, 7, 9),
    (2, 8, 5, 3): (3, 5),
    (2, 20, 9, 6): (3,),
}
PARTS = ['', 'b', 'bs', 'brd', 'srd']
LOW = [torch.float16, torch.bfloat16]
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


def run_triton(operation, values, **options):
    values = {name: None if v is None else v.to(DEVICE) for name, v in values.items()}
    found = run(operation, values, fused='triton', **options)
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
@pytest.mark.parametrize('layout', ['contiguous', 'channels_last', 'strided'])
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_pool_mixer(shape, layout):
    for pool_size in SHAPES[shape]:
        values = pool_case(shape, layout=layout)
        found = check(pool_mixer, values, pool_size=pool_size)
        assert not found['norm_bias'].any()
    for parts in PARTS if shape[1] == 8 else []:
        check(pool_mixer, pool_case(shape, layout=layout, parts=parts), pool_size=3)


@matrix
@pytest.mark.parametrize('layout', ['contiguous', 'channels_last'])
@pytest.mark.parametrize('per_position', [False, True])
@pytest.mark.parametrize('act', ['gelu', 'star_relu'])
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_channel_mlp(shape, act, per_position, layout):
    for parts in ['bsrd', *(PARTS if shape[1] == 8 else [])]:
        values = mlp_case(shape, layout=layout, act=act, parts=parts)
        check(channel_mlp, values, act=act, per_position=per_position)


@matrix
def test_several_tiles(monkeypatch):
    """Maps that need several programs along each axis, and several tiles for one program."""
    for layout in ('contiguous', 'channels_last'):
        values = pool_case((1, 64, 33, 17), layout=layout, parts='bsr')
        check(pool_mixer, values, pool_size=3)
    check(pool_mixer, pool_case((2, 3, 17, 5)), pool_size=9)
    options = dict(act='gelu', per_position=False)
    check(channel_mlp, mlp_case((1, 64, 33, 17), parts='bsr'), **options)
    launch = sys.modules['mmpoolformer.ops.channel_mlp.triton_launch']
    monkeypatch.setattr(launch, '_TILE', 32)
    check(channel_mlp, mlp_case((2, 20, 19, 11)), **options)
    check(
        channel_mlp, mlp_case((2, 20, 19, 11), act='star_relu'), act='star_relu', per_position=True
    )


@matrix
@pytest.mark.parametrize('x_dtype', [*LOW, torch.float32], ids=str)
@pytest.mark.parametrize('dtype', [*LOW, torch.float32], ids=str)
def test_types(dtype, x_dtype):
    """Types of the parameters and of the input."""
    for layout in ('contiguous', 'channels_last'):
        values = pool_case((2, 20, 9, 6), dtype=dtype, layout=layout)
        values['x'] = values['x'].to(x_dtype)
        check(pool_mixer, values, pool_size=3)
        y = pool_mixer(**{n: v.to(DEVICE) for n, v in values.items()}, fused='triton')
        assert y.dtype == torch.promote_types(dtype, x_dtype)
        assert y.stride() == values['x'].stride()
    if x_dtype == dtype or dtype == torch.float32:
        for act, per_position in (('gelu', False), ('star_relu', True)):
            values = mlp_case((2, 20, 9, 6), dtype=dtype, act=act)
            values['x'] = values['x'].to(x_dtype)
            check(channel_mlp, values, act=act, per_position=per_position)


@matrix
@pytest.mark.parametrize('dtype', LOW, ids=str)
@pytest.mark.parametrize('scale', [1.0, 1e-5])
def test_autocast(dtype, scale):
    """Products in half precision, everything else in fp32; a tiny LayerScale loses nothing."""
    values = mlp_case((2, 20, 9, 6), parts='bsd')
    values['layer_scale'] *= scale
    options = dict(act='gelu', per_position=False)
    with torch.autocast(DEVICE, dtype):
        found = run_triton(channel_mlp, values, **options)
        y = channel_mlp(**{n: None if v is None else v.to(DEVICE) for n, v in values.items()})
    assert y.dtype == torch.float32
    with torch.autocast('cpu', dtype):
        plain = run(plain_channel_mlp, values, **options)
    assert_at_most_twice(found, plain, truth(channel_mlp, values, **options), dtype)


@matrix
@pytest.mark.parametrize('layout', ['contiguous', 'channels_last'])
def test_a_large_mean_costs_no_digits(layout):
    """Neither the variance nor the sum over a window is a difference of large numbers."""
    values = pool_case((2, 8, 11, 13), layout=layout, mean=1000.0)
    values['res_scale'] = torch.zeros(8)
    found, expected = run_triton(pool_mixer, values), truth(pool_mixer, values)
    assert max(errors(found, expected).values()) < 1e-5, errors(found, expected)
    for per_position in (False, True):
        values = mlp_case((2, 8, 11, 13), layout=layout, mean=1000.0)
        check(channel_mlp, values, act='gelu', per_position=per_position)


@matrix
def test_strides():
    """Slices, transposed weights, and gradients that autograd hands over expanded or permuted."""
    values = mlp_case((2, 8, 5, 3))
    values['fc1_weight'] = values['fc1_weight'].T.contiguous().T
    values['norm_weight'] = torch.randn(8, 2)[:, 0]
    values['x'] = torch.randn(2, 5, 4, 16).transpose(1, 3)[:, ::2]
    for weights in (torch.randn(5, 2, 4, 8).permute(1, 3, 2, 0), torch.ones(1).expand(2, 8, 4, 5)):
        for operation, names in ((pool_mixer, list(pool_case((2, 8, 4, 5)))), (channel_mlp, None)):
            given = {name: values[name] for name in names or values}
            results = []
            for device, dtype, fused in (
                (DEVICE, None, 'triton'),
                ('cpu', torch.float64, 'reference'),
            ):
                leaves = {
                    n: v.detach().to(device, dtype) for n, v in given.items() if v is not None
                }
                x = leaves['x'].requires_grad_()
                leaves = [leaves.get(name) for name in given]
                y = operation(**dict(zip(given, leaves, strict=True)), fused=fused)
                y.backward(weights.to(y))
                results.append(x.grad.cpu().double())
            assert (results[0] - results[1]).abs().max() < 1e-5


@matrix
def test_runs_are_equal_to_the_bit():
    for operation, values in (
        (pool_mixer, pool_case((2, 20, 19, 11))),
        (channel_mlp, mlp_case((2, 20, 19, 11))),
    ):
        first, second = (run_triton(operation, values) for _ in range(2))
        assert len(first) > 5
        assert all(torch.equal(first[name], second[name]) for name in first)


@matrix
@pytest.mark.parametrize(
    'needed', [['x'], ['norm_weight', 'layer_scale'], ['res_scale'], ['fc1_bias'], ['act_scale']]
)
def test_frozen(needed):
    """Only what needs a gradient gets one, and it does not depend on what else needs one."""
    for operation, values in (
        (pool_mixer, pool_case((2, 8, 5, 3))),
        (channel_mlp, mlp_case((2, 8, 5, 3), act='star_relu')),
    ):
        options = {} if operation is pool_mixer else dict(act='star_relu')
        present = [name for name in needed if name in values]
        if not present:
            continue
        expected = run_triton(operation, values, **options)
        leaves = {
            name: v.detach().to(DEVICE).requires_grad_(name in needed) for name, v in values.items()
        }
        y = operation(**leaves, **options, fused='triton')
        y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y))
        assert [name for name, v in leaves.items() if v.grad is not None] == present
        for name in present:
            assert torch.equal(leaves[name].grad.cpu().double(), expected[name])


@matrix
@pytest.mark.parametrize('act', ['gelu', 'star_relu'])
def test_inference_equals_training(act):
    values = mlp_case((2, 8, 5, 3), act=act)
    leaves = {n: None if v is None else v.to(DEVICE) for n, v in values.items()}
    leaves['x'].requires_grad_()
    trained = channel_mlp(**leaves, act=act, fused='triton').detach()
    with torch.inference_mode():
        assert torch.equal(channel_mlp(**leaves, act=act, fused='triton'), trained)
        assert pool_mixer(leaves['x'], leaves['norm_weight'], fused='triton').isfinite().all()


@matrix
def test_only_input_statistics_and_the_hidden_layer_are_saved():
    values = {n: None if v is None else v.to(DEVICE) for n, v in mlp_case((2, 8, 5, 3)).items()}
    values['x'].requires_grad_()
    known = {v.data_ptr() for v in values.values() if v is not None}
    new = []

    def pack(tensor):
        new.extend([tensor.numel()] if tensor.data_ptr() not in known else [])
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        pool_mixer(values['x'], values['norm_weight'], fused='triton')
        channel_mlp(**values, fused='triton')
    assert new == [2 * 2, 2 * 2, 2 * 5 * 3 * len(values['fc1_weight'])]


@matrix
def test_the_reference_takes_double_precision():
    values = pool_case((2, 8, 5, 3), dtype=torch.float64)
    assert errors(run_triton(pool_mixer, values), truth(pool_mixer, values))['y'] < 1e-12
    values = mlp_case((2, 8, 5, 3), dtype=torch.float64)
    assert errors(run_triton(channel_mlp, values), truth(channel_mlp, values))['y'] < 1e-12


@pytest.mark.skipif(INTERPRETED, reason='is what this test starts')
def test_interpreter(tmp_path):
    """All of the above on a CPU."""
    command = [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', __file__]
    finished = run_process(command, Path(__file__).parents[2], timeout=600, TRITON_INTERPRET='1')
    assert finished.code == 0, finished.text[-5000:]
    assert ' passed' in finished.out


@pytest.mark.skipif(INTERPRETED, reason='the interpreter compiles nothing')
@pytest.mark.parametrize('capability', [80, 90])
def test_kernels_compile(tmp_path, capability):
    """The compiler takes less of Python than the interpreter; it needs no GPU."""
    command = [sys.executable, Path(__file__).with_name('compile_kernels.py'), str(capability)]
    finished = run_process(command, tmp_path, TRITON_CACHE_DIR=str(tmp_path))
    assert finished.code == 0, finished.text[-5000:]
    for kernel in (
        '_reduce_part',
        'mix_kernel',
        'sum_kernel',
        'norm_sums_kernel',
        'norm_backward_kernel',
    ):
        assert f'{kernel} ' in finished.out
