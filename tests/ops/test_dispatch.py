"""Which implementation runs, and what happens where one cannot; a fake GPU is enough for that."""

import importlib.util
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch
from cases import mlp_case, pack, pool_case

from mmpoolformer import ops
from mmpoolformer.ops import channel_mlp, dispatch, pool_mixer

GPU = SimpleNamespace(device=torch.device('cuda', 0), numel=lambda: 2**20)
CAPABILITY = (9, 0)


@pytest.fixture(autouse=True)
def found_out_anew():
    """Let each test find out for itself what is found out once per process."""
    functions = dispatch._triton_problem, dispatch._warn_once
    for function in functions:
        function.cache_clear()
    yield
    for function in functions:
        function.cache_clear()


@pytest.fixture
def proven(monkeypatch):
    """A GPU on which the table says that the installed Triton is proven."""
    pytest.importorskip('triton')
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: CAPABILITY)
    table = frozenset({(CAPABILITY, dispatch._triton_version())})
    monkeypatch.setattr(dispatch, 'PROVEN', table)


@pytest.fixture(params=['missing', 'old', 'not imported', 'not compiled'])
def problem(request, monkeypatch):
    """Something wrong with Triton, and a part of what is said about it."""
    triton = pytest.importorskip('triton')
    if request.param == 'missing':
        monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
        return 'needs Triton, which is not installed'
    if request.param == 'old':
        monkeypatch.setattr(triton, '__version__', '3.2.0')
        return 'needs Triton 3.4 or newer'
    pytest.importorskip('triton', minversion='3.4')
    if request.param == 'not imported':
        monkeypatch.setitem(sys.modules, 'mmpoolformer.ops.pool_mixer.triton_impl', None)
        return r'cannot run here \(ModuleNotFoundError'
    # Without a GPU not even the input of the first kernel can be made.
    return r'cannot run here \(\w+Error: .*(CUDA|NVIDIA)'


@pytest.mark.smoke
@pytest.mark.parametrize('fused', ['typo', 'Triton', '', None])
def test_unknown_names_are_refused(fused):
    pool, mlp = pack(pool_case((1, 3, 4, 5))), pack(mlp_case((1, 3, 4, 5)))
    for call in (
        lambda: dispatch.choose(fused, torch.empty(1)),
        lambda: dispatch.choose(fused, torch.empty(0)),
        lambda: pool_mixer(*pool, fused=fused),
        lambda: channel_mlp(*mlp, fused=fused),
    ):
        with pytest.raises(ValueError, match=r"choose one of \['auto', 'reference', 'torch'"):
            call()
    assert ops.IMPLEMENTATIONS == ('auto', 'reference', 'torch', 'triton')


@pytest.mark.smoke
def test_what_cannot_run_is_refused():
    pytest.importorskip('triton', minversion='3.4')
    with pytest.raises(RuntimeError, match=r"fused='triton' runs on CUDA devices only, and"):
        pool_mixer(*pack(pool_case((1, 3, 4, 5))), fused='triton')


@pytest.mark.smoke
def test_empty_batches_are_for_the_reference():
    values = pool_case((1, 3, 4, 5))
    empty = {name: v[:0] if name in ('x', 'drop_factor') else v for name, v in values.items()}
    assert pool_mixer(*pack(empty)).shape == (0, 3, 4, 5)
    assert dispatch.choose('triton', empty['x']) == 'reference'


def test_auto_leaves_small_maps_to_the_modules(monkeypatch):
    monkeypatch.setattr(dispatch, 'SMALL', 2 * 8 * 5 * 3)
    assert dispatch.choose('auto', torch.empty(2, 8, 5, 3)) == 'torch'
    assert dispatch.choose('auto', torch.empty(2, 8, 5, 2)) == 'reference'
    assert dispatch.choose('torch', torch.empty(2, 8, 5, 2)) == 'torch'


def test_auto_takes_the_modules_on_other_devices():
    assert dispatch.choose('auto', torch.empty(2**20, device='meta')) == 'reference'


def test_nothing_is_proven_on_a_gpu_yet(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: CAPABILITY)
    monkeypatch.delattr(dispatch, '_triton_problem')
    assert not dispatch.PROVEN
    assert dispatch.choose('auto', GPU) == 'reference'
    assert dispatch.choose('torch', GPU) == 'torch'


def test_auto_takes_triton_only_where_it_is_proven(proven, monkeypatch):
    monkeypatch.setattr(dispatch, '_triton_problem', lambda device: None)
    assert dispatch.choose('auto', GPU) == 'triton'
    monkeypatch.setattr(dispatch, '_triton_version', lambda: (99, 0))
    assert dispatch.choose('auto', GPU) == 'reference'


def test_auto_takes_the_modules_on_another_gpu(proven, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (8, 0))
    monkeypatch.delattr(dispatch, '_triton_problem')
    assert dispatch.choose('auto', GPU) == 'reference'


@pytest.mark.skipif(torch.cuda.is_available(), reason='a GPU would compile the first kernel')
def test_a_broken_triton_ends_no_run_and_warns_once(proven, problem):
    with pytest.warns(UserWarning, match=f'plain modules run .*{problem}'):
        assert dispatch.choose('auto', GPU) == 'reference'
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert dispatch.choose('auto', GPU) == 'reference'


@pytest.mark.skipif(torch.cuda.is_available(), reason='a GPU would compile the first kernel')
def test_a_broken_triton_by_name_is_an_error(problem):
    with pytest.raises(RuntimeError, match=f"fused='triton' {problem}.*: take 'auto' or 'torch'"):
        dispatch.choose('triton', GPU)
