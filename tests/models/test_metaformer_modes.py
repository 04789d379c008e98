"""The backbone's contract: training modes, gradients, and the wrappers of PyTorch."""

import copy
import itertools
import pickle

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from mmpoolformer import ARCHS, create_model
from mmpoolformer.models.metaformer import MetaFormerBlock

BN = {'type': 'BN', 'requires_grad': True}
# Every choice of outputs that includes the last stage.
ENDING_IN_LAST = [
    (*head, 3) for n in range(4) for head in itertools.combinations(range(3), n)
]  # fmt: skip


@pytest.fixture
def images():
    return torch.rand(2, 3, 33, 64, generator=torch.Generator().manual_seed(1))


def frozen_prefixes(frozen_stages: int) -> tuple[str, ...]:
    prefixes = ['stem.'] if frozen_stages >= 0 else []
    for i in range(frozen_stages):
        prefixes += [f'stages.{i}.', f'norm{i}.']
    return tuple(prefixes)


def assert_frozen(model: nn.Module, frozen_stages: int) -> None:
    prefixes = frozen_prefixes(frozen_stages)
    parameters = {k: p for k, p in model.named_parameters() if 'random_matrix' not in k}
    assert {key for key, p in parameters.items() if not p.requires_grad} == {
        key for key in parameters if key.startswith(prefixes)
    }
    # The backbone itself and the list of its stages hold both kinds.
    leaves = [(key, m) for key, m in model.named_modules() if not list(m.children())]
    assert leaves
    for key, module in leaves:
        assert module.training is not f'{key}.'.startswith(prefixes), key


@pytest.mark.smoke
@pytest.mark.parametrize('out_indices', [(0, 1, 2, 3), (1, 3)], ids=str)
@pytest.mark.parametrize('frozen_stages', range(-1, 5))
def test_frozen_stages_survive_train(small, frozen_stages, out_indices):
    model = small(
        frozen_stages=frozen_stages, out_indices=out_indices, norm_cfg=BN, drop_path_rate=0.5
    )
    assert_frozen(model.train(), frozen_stages)
    assert_frozen(model.eval().train(), frozen_stages)
    assert not any(m.training for m in model.eval().modules())


@pytest.mark.parametrize('name', ARCHS)
def test_frozen_stages_of_every_row(name):
    with torch.device('meta'):
        model = create_model(name, frozen_stages=2, drop_path_rate=ARCHS[name].drop_path_rate)
    assert_frozen(model.train(), 2)


def test_frozen_stages_drop_no_path_and_keep_their_statistics(small, images):
    model = small(frozen_stages=3, norm_cfg=BN, drop_path_rate=0.9).train()
    before = copy.deepcopy(model.state_dict())
    first, second = model(images), model(images)
    assert all(torch.equal(a, b) for a, b in zip(first[:3], second[:3], strict=True))
    changed = {
        key for key, value in model.state_dict().items() if not torch.equal(value, before[key])
    }
    assert changed
    assert not any(key.startswith(frozen_prefixes(3)) for key in changed)


def test_all_stages_frozen_needs_no_gradient(small, images):
    assert not any(f.requires_grad for f in small(frozen_stages=4)(images))


@pytest.mark.parametrize('norm_eval', [False, True])
def test_norm_eval_keeps_batch_statistics(small, images, norm_eval):
    model = small(norm_cfg=BN, norm_eval=norm_eval).eval().train()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 14
    assert {norm.training for norm in norms} == {not norm_eval}
    model(images)
    assert {bool(norm.running_mean.any()) for norm in norms} == {not norm_eval}


@pytest.mark.smoke
def test_train_and_eval_return_self(small):
    for model in (small(), small(frozen_stages=1, norm_eval=True)):
        assert model.train() is model
        assert model.training
        assert model.eval() is model
        assert not model.training


def step(model: nn.Module, images: torch.Tensor) -> tuple[list, list, torch.Tensor]:
    """One seeded forward and backward pass: features, parameter gradients, image gradient."""
    images = images.clone().requires_grad_()
    torch.manual_seed(7)
    features = model(images)
    # Not `sum`: the sum over a normalised map is constant, its gradient nothing but rounding.
    sum(f.float().pow(3).mean() for f in features).backward()
    frozen = {p for name, p in model.named_parameters() if name.endswith('random_matrix')}
    gradients = [p.grad for p in model.parameters() if p not in frozen]
    return list(features), gradients, images.grad


@pytest.mark.smoke
@pytest.mark.parametrize('drop_path_rate', [0.0, 0.6])
def test_gradient_checkpointing_changes_nothing(small, images, drop_path_rate):
    plain = small(drop_path_rate=drop_path_rate, drop_rate=drop_path_rate).train()
    recomputing = small(
        drop_path_rate=drop_path_rate, drop_rate=drop_path_rate, with_cp=True
    ).train()  # fmt: skip
    calls = []
    for stage in recomputing.stages:
        for block in stage.blocks:
            block.register_forward_pre_hook(lambda *_: calls.append(1))
    torch.testing.assert_close(step(recomputing, images), step(plain, images), rtol=0, atol=0)
    assert len(calls) == 10, 'each of the five blocks runs once forward, once to recompute'
    with torch.no_grad():
        recomputing(images)
    assert len(calls) == 15


@pytest.mark.smoke
@pytest.mark.parametrize('out_indices', ENDING_IN_LAST, ids=str)
def test_every_parameter_has_a_gradient(small, images, out_indices):
    model = small(out_indices=out_indices).train()
    _, gradients, _ = step(model, images)
    assert gradients
    assert all(grad is not None and grad.isfinite().all() for grad in gradients)


def test_every_parameter_of_every_row_has_a_gradient(row):
    _, model = row
    try:
        _, gradients, _ = step(model, torch.rand(1, 3, 32, 32))
        assert all(grad is not None and grad.isfinite().all() for grad in gradients)
    finally:
        model.zero_grad(set_to_none=True)


@pytest.mark.smoke
@pytest.mark.parametrize(
    'clone',
    [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
    ids=['copy', 'pickle'],
)
def test_copies_are_equal_and_independent(small, images, clone):
    model = small(frozen_stages=1, init_cfg={'type': 'Pretrained', 'checkpoint': 'x.pth'}).eval()
    other = clone(model)
    torch.testing.assert_close(other(images), model(images), rtol=0, atol=0)
    with torch.no_grad():
        other.norm3.weight.zero_()
    assert (model.norm3.weight == 1).all()
    assert_frozen(other.train(), 1)
    assert other.init_cfg == model.init_cfg
    # The hook that renames foreign layouts must work on the copy, and not on its original.
    authors = {
        'patch_embed.proj.bias': torch.full((8,), 3.0),
        'network.0.0.mlp.fc1.weight': torch.full((32, 8, 1, 1), 4.0),
    }
    other.load_state_dict(authors, strict=False)
    assert (other.stem.conv.bias == 3).all()
    assert (other.stages[0].blocks[0].mlp.fc1.weight == 4).all()
    assert not (model.stages[0].blocks[0].mlp.fc1.weight == 4).any()


@pytest.mark.smoke
def test_bfloat16_autocast(small, images):
    model = small().train()
    reference, _, _ = step(model, images)
    model.zero_grad()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        features, gradients, _ = step(model, images)
    for feature, expected in zip(features, reference, strict=True):
        # bfloat16 keeps 8 bits; features are normalised, so their scale is 1.
        torch.testing.assert_close(feature.float(), expected, rtol=0.05, atol=0.05)
    assert all(grad.isfinite().all() for grad in gradients)


@pytest.mark.smoke
def test_channels_last(small, images):
    model = small().train()
    expected = step(model, images)
    model = small().train().to(memory_format=torch.channels_last)
    actual = step(model, images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_export_with_any_size(small):
    model = small(out_indices=(1, 2, 3)).eval()
    sizes = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    # The example must not have a map of height or width 1: torch.export would fix it for good.
    example = torch.rand(2, 3, 64, 96)
    program = torch.export.export(model, (example,), dynamic_shapes=(sizes,)).module()
    for x in (example, torch.rand(2, 3, 65, 47)):
        torch.testing.assert_close(program(x), model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning', 'ignore::DeprecationWarning')
def test_jit_trace(small, images):
    model = small().eval()
    traced = torch.jit.trace(model, images)
    x = torch.rand(1, 3, 40, 96)
    torch.testing.assert_close(traced(x), model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning', 'ignore::DeprecationWarning')
def test_onnx_export_with_any_size(small, tmp_path):
    """Standard operators only: ``pip install onnx onnxruntime`` to run it."""
    onnx, runtime = pytest.importorskip('onnx'), pytest.importorskip('onnxruntime')
    model, path = small().eval(), str(tmp_path / 'model.onnx')
    axes = {'images': {0: 'batch', 2: 'height', 3: 'width'}}
    example = torch.rand(2, 3, 64, 96)
    torch.onnx.export(
        model, (example,), path, dynamo=False, input_names=['images'], dynamic_axes=axes
    )
    assert {node.domain for node in onnx.load(path).graph.node} == {''}
    session = runtime.InferenceSession(path)
    for x in (example, torch.rand(1, 3, 97, 65)):
        features = [torch.from_numpy(f) for f in session.run(None, {'images': x.numpy()})]
        torch.testing.assert_close(features, list(model(x)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('with_cp', [False, True])
def test_compile_without_graph_break(small, images, with_cp):
    torch.compiler.reset()
    model = small(with_cp=with_cp).train()
    expected = step(model, images)
    gradients = [grad.clone() for grad in expected[1]]
    model.zero_grad()
    # aot_eager traces forward and backward as the default does, without compiling kernels.
    actual = step(torch.compile(model, backend='aot_eager', fullgraph=True), images)
    torch.testing.assert_close(actual[0], expected[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(actual[1], gradients, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(actual[2], expected[2], rtol=1e-4, atol=1e-5)


def test_one_compilation_for_all_sizes(small):
    torch.compiler.reset()
    counter = CompileCounter()
    model = small().eval()
    compiled = torch.compile(model, backend=counter, dynamic=True, fullgraph=True)
    with torch.no_grad():
        for height, width in ((64, 96), (96, 128), (65, 47)):
            x = torch.rand(2, 3, height, width)
            torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)
    assert counter.frame_count == 1


@pytest.fixture
def one_process(tmp_path):
    """A process group of this process."""
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason='needs torch.distributed')
@pytest.mark.parametrize('units', [(), (MetaFormerBlock,), (nn.Conv2d, nn.GroupNorm)])
def test_sharded_data_parallel(small, images, one_process, units):
    """FSDP puts parameters together when the module that it wraps is called, and only then."""
    expected = step(small().train(), images)
    model = small().train()
    mesh = torch.distributed.init_device_mesh('cpu', (1,))
    for module in [m for m in model.modules() if isinstance(m, units)]:
        fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)
    features, gradients, _ = step(model, images)
    torch.testing.assert_close(features, expected[0], rtol=1e-4, atol=1e-5)
    full = [g.full_tensor() if isinstance(g, DTensor) else g for g in gradients]
    torch.testing.assert_close(full, expected[1], rtol=1e-4, atol=1e-5)


def test_moving_average(small, images):
    model = small().train()
    average = ExponentialMovingAverage(model, momentum=0.25)
    start = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    average.update_parameters(model)  # The first update copies.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.sub_(1.0)
    average.update_parameters(model)
    mean = average.module.state_dict()
    assert mean.keys() == start.keys()
    for key in dict(model.named_parameters()):
        torch.testing.assert_close(mean[key], start[key] + 0.75, rtol=0, atol=1e-5)
    assert all(feature.isfinite().all() for feature in average.module(images))
