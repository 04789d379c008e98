"""Token mixers and activations against independent computations of a few lines."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmpoolformer import ARCHS, create_backbone
from mmpoolformer.models import Attention, RandomMixing
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
        model = create_backbone(name, out_indices=3)
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    count += sum(p.numel() for layer in head for p in layer.parameters())
    assert count == ARCHS[name].params == CLASSIFIERS.get(name, ARCHS[name].params)


@pytest.mark.parametrize(('size', 'frozen'), [('s12', 235_298), ('m48', 941_192)])
def test_frozen_matrices_of_randformer(size, frozen):
    with torch.device('meta'):
        model = create_backbone(f'randformer_{size}')
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
        model = create_backbone(name).eval()
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
