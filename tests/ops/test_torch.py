"""The PyTorch implementations equal the references in fp64: forward and every gradient."""

import sys

import pytest
import torch
from cases import (
    LAYOUTS,
    errors,
    lay_out,
    mlp_case,
    pack,
    plain_channel_mlp,
    plain_pool_mixer,
    pool_case,
    run,
    truth,
)

from mmpoolformer.ops import PoolParameters, channel_mlp, pool_mixer, tokens

SHAPES = [(2, 3, 1, 1), (2, 5, 1, 7), (3, 8, 5, 3), (2, 20, 33, 17), (1, 128, 36, 33)]
PARTS = ['', 'b', 'bs', 'bsrd']


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """What is allocated without being filled holds NaN, so that a gap would show."""
    empty_like = torch.empty_like

    def filled(*args, **kwargs):
        tensor = empty_like(*args, **kwargs)
        return tensor.fill_(float('nan')) if tensor.is_floating_point() else tensor

    monkeypatch.setattr(torch, 'empty_like', filled)
    # So that these maps are cut into many strips and chunks, of uneven sizes.
    for module in (tokens, sys.modules['mmpoolformer.ops.pool_mixer.torch_impl']):
        monkeypatch.setattr(module, 'CACHED', 2**13)


def assert_close(actual: dict, expected: dict, tolerance: float = 1e-5) -> None:
    found = errors(actual, expected)
    assert max(found.values()) <= tolerance, found


@pytest.mark.smoke
@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('pool_size', [3, 5, 9])
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_pool_mixer_equals_the_reference(shape, pool_size, layout):
    for parts in PARTS:
        values = pool_case(shape, layout=layout, parts=parts)
        expected = truth(pool_mixer, values, pool_size=pool_size)
        actual = run(pool_mixer, values, pool_size=pool_size, fused='torch')
        assert_close(actual, expected)
        if 'b' in parts:
            assert not actual['norm_bias'].any()


@pytest.mark.smoke
@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('act', ['gelu', 'star_relu'])
@pytest.mark.parametrize('per_position', [False, True])
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_channel_mlp_equals_the_reference(shape, per_position, act, layout):
    options = dict(act=act, per_position=per_position)
    for parts in PARTS:
        values = mlp_case(shape, layout=layout, parts=parts, act=act)
        expected = truth(channel_mlp, values, **options)
        assert_close(run(channel_mlp, values, fused='torch', **options), expected)


def assert_at_most_twice(fused: dict, plain: dict, expected: dict, dtype: torch.dtype) -> None:
    floor = 2 * torch.finfo(dtype).eps
    found, allowed = errors(fused, expected), errors(plain, expected)
    assert all(found[name] <= 2 * allowed[name] + floor for name in found), (found, allowed)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize('shape', [(2, 5, 1, 7), (2, 20, 33, 17), (1, 64, 72, 65)], ids=str)
@pytest.mark.parametrize('parts', ['b', 'bsrd'])
def test_low_precision_is_at_most_twice_as_wrong_as_plain_pytorch(shape, parts, dtype):
    values = pool_case(shape, dtype=dtype, parts=parts)
    results = [run(pool_mixer, values, pool_size=3, fused='torch')]
    results += [run(plain_pool_mixer, values, pool_size=3), truth(pool_mixer, values, pool_size=3)]
    assert_at_most_twice(*results, dtype)
    for act in ('gelu', 'star_relu'):
        for per_position in (False, True):
            values = mlp_case(shape, dtype=dtype, parts=parts, act=act)
            options = dict(act=act, per_position=per_position)
            results = [run(channel_mlp, values, fused='torch', **options)]
            results += [run(plain_channel_mlp, values, **options)]
            assert_at_most_twice(*results, truth(channel_mlp, values, **options), dtype)


@pytest.mark.parametrize('parts', ['b', 'bsrd'])
def test_autocast_multiplies_in_its_type_and_returns_the_wider(parts):
    values = mlp_case((2, 20, 33, 17), parts=parts)
    options = dict(act='gelu', per_position=False)
    with torch.autocast('cpu', torch.bfloat16):
        y = channel_mlp(*pack(values), fused='torch', **options)
        mixed = pool_mixer(*pack(pool_case((2, 20, 33, 17))), fused='torch')
        actual = run(channel_mlp, values, fused='torch', **options)
        plain = run(plain_channel_mlp, values, **options)
    assert y.dtype == mixed.dtype == torch.float32
    expected = truth(channel_mlp, values, **options)
    assert 1e-4 < errors(actual, expected)['y'] < 1e-1
    assert_at_most_twice(actual, plain, expected, torch.bfloat16)


@pytest.mark.parametrize('parts', ['b', 'bsrd'])
def test_gradients_are_those_of_finite_differences(parts):
    pool = pool_case((2, 3, 4, 5), dtype=torch.float64, parts=parts)
    mlp = mlp_case((2, 3, 4, 5), dtype=torch.float64, parts=parts)
    for operation, values in ((pool_mixer, pool), (channel_mlp, mlp)):
        names = [n for n, v in values.items() if v is not None and n != 'drop_factor']

        def function(*tensors, operation=operation, values=values, names=names):
            given = {**values, **dict(zip(names, tensors, strict=True))}
            return operation(*pack(given), fused='torch')

        assert torch.autograd.gradcheck(function, [values[n].requires_grad_() for n in names])


def test_a_large_mean_costs_no_digits():
    """Variances are not differences of large numbers."""
    values = pool_case((2, 20, 33, 17), mean=1000.0)
    expected = truth(pool_mixer, values)
    # What is left is the rounding of x itself: a thousandth of 1e-7 of its deviation.
    assert_close(run(pool_mixer, values, fused='torch'), expected, 5e-4)
    rows = tokens.as_rows(lay_out(values['x'], 'channels_last'))
    mean, rstd = tokens.statistics(rows, 1e-5)
    exact = rows.double().flatten(1)
    torch.testing.assert_close(mean, exact.mean(1).float())
    torch.testing.assert_close(rstd, (exact.var(1, correction=0) + 1e-5).rsqrt().float())


def test_results_repeat_bit_by_bit():
    values = mlp_case((2, 64, 40, 41))
    first, second = (run(channel_mlp, values, fused='torch') for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(('channels', 'kept'), [(20, 0), (128, 2 * 33 * 17 * 3 * 128)])
def test_only_input_statistics_and_a_wide_hidden_layer_are_saved(channels, kept):
    values = mlp_case((2, channels, 33, 17))
    inputs = {v.data_ptr() for v in values.values() if v is not None}
    new = []

    def look(tensor):
        new.extend([tensor] if tensor.data_ptr() not in inputs else [])
        return tensor

    values['x'].requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(look, lambda tensor: tensor):
        pool_mixer(values['x'], PoolParameters(values['norm_weight']), fused='torch')
        channel_mlp(*pack(values), fused='torch')
    assert [tensor.shape for tensor in new[:4]] == [(2,)] * 4
    assert sum(tensor.numel() for tensor in new[4:]) == kept


def test_a_missing_onednn_changes_nothing(monkeypatch):
    values = mlp_case((2, 20, 33, 17))
    expected = run(channel_mlp, values, fused='torch')
    monkeypatch.setattr(tokens, '_has_onednn', lambda x: False)
    assert_close(run(channel_mlp, values, fused='torch'), expected)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
def test_inplace_overwrites_the_input_where_nothing_needs_a_gradient(dtype):
    values = mlp_case((2, 8, 5, 3), dtype=dtype)
    expected = channel_mlp(*pack(values), fused='torch')
    learning = {**values, 'x': values['x'].clone().requires_grad_()}
    y = channel_mlp(*pack(learning), inplace=True, fused='torch')
    assert torch.equal(y, expected)
    assert torch.equal(learning['x'], values['x'])
    y = channel_mlp(*pack(values), inplace=True, fused='torch')
    assert torch.equal(y, expected)
    assert torch.equal(values['x'], expected)
