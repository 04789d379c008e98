"""Token mixers and activations against independent computations of a few lines."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from mmpoolformer import ARCHS, MetaFormer, create_model
from mmpoolformer.models import (
    TOKEN_MIXERS,
    Attention,
    DepthwiseConv,
    RandomMixing,
    SepConv,
    SpatialFC,
)
from mmpoolformer.models.layers import StarReLU, build_activation, build_norm
from mmpoolformer.models.token_mixers import resample_tokens

# Counted from the authors' code with its 1000-class heads, frozen matrices left out.
CLASSIFIERS = {
    'identityformer_s12': 11_891_712,
    'randformer_s12': 11_891_712,
    'poolformerv2_m48': 73_346_056,
    'convformer_s18': 26_774_448,
    'convformer_s36': 40_012_152,
    'convformer_m36': 57_051_640,
    'convformer_b36': 99_882_616,
    'caformer_s18': 26_341_656,
    'caformer_s36': 39_297_102,
    'caformer_m36': 56_204_878,
    'caformer_b36': 98_753_614,
}


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def assert_close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    assert (actual - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.smoke
@pytest.mark.parametrize('name', ARCHS)
def test_parameters_of_every_classifier(name):
    dim = ARCHS[name].dims[-1]
    head = [nn.Linear(dim, 1000)]
    if name.startswith(('convformer', 'caformer')):
        head = [nn.Linear(dim, 4 * dim), nn.LayerNorm(4 * dim), nn.Linear(4 * dim, 1000)]
    with torch.device('meta'):
        model = create_model(name, out_indices=3)
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    count += sum(p.numel() for layer in head for p in layer.parameters())
    assert count == ARCHS[name].params == CLASSIFIERS.get(name, ARCHS[name].params)


@pytest.mark.parametrize(('size', 'frozen'), [('s12', 235_298), ('m48', 941_192)])
def test_frozen_matrices_of_randformer(size, frozen):
    with torch.device('meta'):
        model = create_model(f'randformer_{size}')
    assert sum(p.numel() for p in model.parameters() if not p.requires_grad) == frozen


def test_random_mixing_is_one_matrix_for_all_channels():
    mixer = RandomMixing(dim=5, size=(4, 6))
    x = images(2, 5, 4, 6)
    tokens = x.reshape(2, 5, 24)
    expected = torch.einsum('mn,bcn->bcm', mixer.random_matrix, tokens).reshape(2, 5, 4, 6)
    assert_close(mixer(x), expected)
    torch.testing.assert_close(mixer.random_matrix.sum(dim=1), torch.ones(24))
    assert not mixer.random_matrix.requires_grad


def test_random_mixing_elsewhere_is_an_error_or_interpolated():
    mixer = RandomMixing(dim=3, size=4)
    with pytest.raises(ValueError, match=r'made for maps of \(4, 4\), this one is \(4, 6\)'):
        mixer(images(1, 3, 4, 6))
    mixer.interpolate = True
    # A constant map stays what it is, because rows sum to 1 again.
    torch.testing.assert_close(mixer(torch.ones(1, 3, 5, 7)), torch.ones(1, 3, 5, 7))


def test_resampling_sees_four_axes():
    """What is a product of functions of (h, w) and (h', w') stays one."""
    rows, columns = images(1, 1, 4, 4), images(1, 1, 4, 4)
    matrix = rows.flatten()[:, None] * columns.flatten()
    resampled = resample_tokens(matrix, (4, 4), (6, 5))
    larger = [F.interpolate(m, (6, 5), mode='bilinear').flatten() for m in (rows, columns)]
    assert_close(resampled, larger[0][:, None] * larger[1])
    assert torch.equal(resample_tokens(matrix, (4, 4), (4, 4)), matrix)


def test_attention_equals_that_of_torch():
    mixer = Attention(dim=64, head_dim=32)
    reference = nn.MultiheadAttention(64, 2, bias=False, batch_first=True)
    with torch.no_grad():
        reference.in_proj_weight.copy_(mixer.qkv.weight)
        reference.out_proj.weight.copy_(mixer.proj.weight)
        x = images(2, 64, 5, 3)
        tokens = x.flatten(2).mT
        expected = reference(tokens, tokens, tokens)[0].mT.reshape(x.shape)
        assert_close(mixer(x), expected)
    with pytest.raises(ValueError, match='dim=48, head_dim=32'):
        Attention(dim=48)


class LargestTensor(TorchDispatchMode):
    """Remembers the most numbers that one operation returned."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = result if isinstance(result, (tuple, list)) else [result]
        sizes = [value.numel() for value in tensors if isinstance(value, torch.Tensor)]
        self.numel = max([self.numel, *sizes])
        return result


def test_attention_never_holds_the_matrix_between_all_tokens():
    """At 800x1344, in stage 2, it would have 10 heads of 4200 x 4200 numbers: 700 MB."""
    mixer, x = Attention(dim=320), images(1, 320, 50, 84).requires_grad_()
    with LargestTensor() as largest:
        mixer(x).sum().backward()
    assert 3 * x.numel() <= largest.numel < 4200 * 4200
    assert x.grad.any()


def test_activations():
    x = images(3, 4)
    assert torch.equal(StarReLU(0.5, -0.25)(x), 0.5 * x.clamp(min=0) ** 2 - 0.25)
    assert torch.equal(build_activation({'type': 'SquaredReLU'})(x), x.clamp(min=0) ** 2)
    assert isinstance(build_activation({'type': 'SiLU'}), nn.SiLU)
    frozen = build_activation({'type': 'StarReLU', 'learnable': False})
    assert not any(p.requires_grad for p in frozen.parameters())


@pytest.mark.parametrize('bias', [True, False])
def test_norms(bias):
    x = images(2, 6, 4, 5)
    over_channels = build_norm({'type': 'LN2d', 'bias': bias}, 6)
    mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True, correction=0)
    assert_close(over_channels(x), (x - mean) / (variance + 1e-5).sqrt())
    assert (over_channels.bias is not None) == bias
    modified = build_norm({'type': 'GN', 'num_groups': 1, 'bias': bias}, 6)
    assert_close(modified(x), F.layer_norm(x, x.shape[1:]))
    assert (modified.bias is not None) == bias
    assert build_norm({'type': 'Identity'}, 6)(x) is x


def test_identity_and_random_former_are_their_equations():
    for name, size in (('identityformer_s12', 7), ('randformer_s12', 14)):
        model = create_model(name).eval()
        block = model.stages[2].blocks[0]
        x = images(1, 320, size, size)
        with torch.no_grad():
            normed = F.group_norm(x, 1, eps=1e-6)
            if name.startswith('rand'):
                matrix = block.token_mixer.random_matrix
                normed = (normed.reshape(320, -1) @ matrix.mT).reshape(x.shape)
            y = x + normed
            hidden = block.mlp.fc1(F.group_norm(y, 1, eps=1e-6)).clamp(min=0) ** 2
            assert_close(block(x), y + block.mlp.fc2(hidden))


def test_spatial_fc_is_one_linear_layer_over_tokens():
    mixer = SpatialFC(dim=5, size=(4, 6))
    x = images(2, 5, 4, 6)
    nn.init.normal_(mixer.fc.bias)
    expected = torch.einsum('mn,bcn->bcm', mixer.fc.weight, x.reshape(2, 5, 24)) + mixer.fc.bias
    assert_close(mixer(x), expected.reshape(x.shape))
    with pytest.raises(ValueError, match='SpatialFC was made for maps of'):
        mixer(images(2, 5, 6, 6))
    mixer.interpolate = True
    assert mixer(images(2, 5, 7, 9)).shape == (2, 5, 7, 9)
    nn.init.constant_(mixer.fc.weight, 1 / 24)
    nn.init.zeros_(mixer.fc.bias)
    # Rows of 1/n take the mean, at any size.
    x = images(1, 5, 9, 3)
    assert_close(mixer(x), x.mean((2, 3), keepdim=True).expand(x.shape))


def test_depthwise_conv_filters_each_channel_alone():
    mixer, x = DepthwiseConv(dim=4), images(1, 4, 5, 5)
    other = x.clone()
    other[:, 1:] = 0
    assert torch.equal(mixer(x)[:, 0], mixer(other)[:, 0])
    assert sum(p.numel() for p in mixer.parameters()) == 4 * 9 + 4


POOL = {'type': 'Pooling'}


def test_random_matrices_in_all_stages_add_21_million_frozen():
    with torch.device('meta'):
        mixers = [{'type': 'RandomMixing', 'size': size} for size in (56, 28, 14, 7)]
        model = MetaFormer('poolformer_s12', mixers)
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    assert round(frozen / 1e6) == 21


def test_ablations_without_residual_and_without_mlp():
    arch = {'depths': (1, 1, 1, 1), 'dims': (8, 8, 8, 8), 'layer_scale': 0.5}
    x = images(2, 8, 9, 9)
    block = MetaFormer(arch, POOL, residual=False).stages[0].blocks[0].eval()
    y = 0.5 * block.token_mixer(block.norm1(x))
    assert_close(block(x), 0.5 * block.mlp(block.norm2(y)))
    model = MetaFormer(arch, POOL, mlp_ratio=None)
    block = model.stages[0].blocks[0].eval()
    assert_close(block(x), x + 0.5 * block.token_mixer(block.norm1(x)))
    assert not any('mlp' in key or 'norm2.' in key for key, _ in block.named_parameters())
    sum(f.pow(3).mean() for f in model(images(1, 3, 64, 64))).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_every_part_of_a_block_can_differ_between_stages():
    arch = {'depths': (1, 1, 1, 1), 'dims': (8, 8, 8, 8), 'layer_scale': 0.5}
    model = MetaFormer(
        arch,
        [POOL, {'type': 'Identity'}, {'type': 'DepthwiseConv'}, POOL],
        mlp_ratio=[4, 2, None, 4],
        norm_cfg=[{'type': 'BN'}, {'type': 'LN2d'}, {'type': 'Identity'}, {'type': 'BN'}],
        act_cfg=[{'type': kind} for kind in ('GELU', 'ReLU', 'SiLU', 'StarReLU')],
        layer_scale=[1.0, None, 'arch', 0.1],
        res_scale=[None, 1.0, None, None],
        residual=[True, True, True, False],
    )
    first, second, third, last = (stage.blocks[0] for stage in model.stages)
    assert [b.norm1.__class__.__name__ for b in (first, second, third)] == [
        'BatchNorm2d', 'ChannelLayerNorm', 'Identity',
    ]  # fmt: skip
    assert [b.mlp.act.__class__.__name__ for b in (first, second, last)] == [
        'GELU', 'ReLU', 'StarReLU',
    ]  # fmt: skip
    assert second.mlp.fc1.out_channels == 16
    assert third.mlp is None
    assert first.layer_scale1.scale.unique() == 1
    assert isinstance(second.layer_scale1, nn.Identity)
    assert third.layer_scale1.scale.unique() == 0.5
    assert second.res_scale1.scale.unique() == 1
    assert (first.residual, last.residual) == (True, False)
    assert isinstance(model.norm2, nn.Identity)
    assert all(f.isfinite().all() for f in model(images(2, 3, 64, 64)))
    with pytest.raises(ValueError, match='act_cfg has 2 entries: give one for all, or four'):
        MetaFormer(arch, POOL, act_cfg=[{'type': 'GELU'}] * 2)


def test_contributing_shows_how_to_add_a_mixer():
    """Its example runs as it is printed, and is as short as it says."""
    text = (Path(__file__).parents[2] / 'docs/architecture.md').read_text(encoding='utf-8')
    section = text.partition('## Add a token mixer')[2].partition('\n## ')[0]
    (code,) = re.findall('```python\n(.*?)```', section, re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) < 15
    names: dict = {}
    try:
        exec(code, names)
        model = MODELS.build(names['backbone'])
    finally:
        TOKEN_MIXERS.pop('MaxPooling', None)
    x = images(1, 3, 64, 64)
    assert [f.shape[1] for f in model(x)] == [64, 128, 320, 512]
    mixer = model.stages[3].blocks[0].token_mixer
    y = images(1, 4, 5, 6)
    assert torch.equal(mixer(y), F.max_pool2d(y, 3, 1, 1) - y)
    assert not any('pool' in type(b.token_mixer).__name__.lower() for b in model.stages[0].blocks)


def test_unknown_mixer_lists_the_known():
    with pytest.raises(ValueError, match=r"'Pool': choose one of \['Attention', .*'SpatialFC'\]"):
        MetaFormer('poolformer_s12', {'type': 'Pool'})
    assert {'Pooling', 'RandomMixing', 'SpatialFC'} <= TOKEN_MIXERS.keys()


def test_metaformer_is_registered_with_its_mixers():
    config = {'type': 'mmpoolformer.MetaFormer', 'arch': 'poolformer_s12', 'token_mixers': POOL}
    with torch.device('meta'):
        model = MODELS.build(config)
    assert sum(p.numel() for p in model.parameters()) == sum(
        p.numel() for p in create_model('poolformer_s12').parameters()
    )


@pytest.mark.parametrize('mixer', [SepConv, DepthwiseConv])
@pytest.mark.parametrize('size', [4, 0, -3, 2.5])
def test_even_kernels_are_refused(mixer, size):
    with pytest.raises(ValueError, match=f'kernel_size={size}: must be a positive odd integer'):
        mixer(8, kernel_size=size)


def test_resampled_random_matrix_is_kept_while_it_is_the_same():
    mixer = RandomMixing(4, size=4, interpolate=True)
    x = torch.rand(1, 4, 6, 5)
    before = mixer(x)
    kept = mixer._resampled[1]
    assert torch.equal(mixer(x), before)
    assert mixer._resampled[1] is kept
    mixer(torch.rand(1, 4, 3, 3))
    assert mixer._resampled[1] is not kept
    assert torch.equal(mixer(x), before)
    other = RandomMixing(4, size=4, interpolate=True)
    mixer.load_state_dict(other.state_dict())
    assert torch.equal(mixer(x), other(x))
    assert 'resampled' not in ''.join(mixer.state_dict())
