"""Weights of small backbones in the layouts of others, made by hand."""

import re

import torch
from torch import nn

from mmpoolformer import PoolFormer

TINY = {'depths': (1, 2, 1, 1), 'dims': (8, 16, 24, 32)}


def make(**kwargs) -> PoolFormer:
    """Build a small backbone whose every parameter differs from its initial value."""
    torch.manual_seed(0)
    model = PoolFormer(**{'arch': TINY, **kwargs})
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


def as_authors(state_dict: dict) -> dict:
    """Name a backbone's weights as sail-sg/poolformer does: written by hand, not with our rules."""
    renamed = {}
    for key, tensor in state_dict.items():
        part = key.split('.')
        if part[0] == 'stem':
            new = f'patch_embed.proj.{part[2]}'
        elif part[0].startswith('norm'):
            new = f'norm{2 * int(part[0][4:])}.{part[1]}'
        elif part[2] == 'downsample':
            new = f'network.{2 * int(part[1]) - 1}.proj.{part[4]}'
        elif part[4].startswith('layer_scale'):
            new = f'network.{2 * int(part[1])}.{part[3]}.layer_scale_{part[4][-1]}'
        else:
            new = '.'.join([f'network.{2 * int(part[1])}', *part[3:]])
        renamed[new] = tensor
    return renamed


def as_baselines(weights: dict) -> dict:
    """Name timm's weights as sail-sg/metaformer does, by hand; its linear layers have matrices."""
    renamed = {}
    for key, tensor in weights.items():
        new = re.sub(r'^stem\.', 'downsample_layers.0.', key)
        new = re.sub(r'^stages\.(\d)\.downsample\.', r'downsample_layers.\1.', new)
        new = new.replace('downsample_layers.0.norm', 'downsample_layers.0.post_norm')
        new = re.sub(r'(downsample_layers\.[123])\.norm', r'\1.pre_norm', new)
        new = re.sub(r'^head\.norm\.', 'norm.', new.replace('.blocks.', '.'))
        new = re.sub(r'^head\.fc\.', 'head.', new)
        linear = re.search(r'(mlp\.fc\d|pwconv\d)\.weight$', new)
        renamed[new] = tensor.flatten(1) if linear else tensor
    return renamed


def classifier() -> dict:
    """An ImageNet classifier in the authors' layout: a final norm, a head, no norms per output."""
    weights = as_authors(make(out_indices=3).state_dict())
    for part in ('weight', 'bias'):
        weights[f'norm.{part}'] = weights.pop(f'norm6.{part}')
    return weights | {'head.weight': torch.zeros(1000, 32), 'head.bias': torch.zeros(1000)}


def detector(**kwargs) -> dict:
    """One of the authors' detectors: backbone with output norms, neck, head."""
    weights = as_authors(make(**kwargs).state_dict())
    return {f'backbone.{key}': tensor for key, tensor in weights.items()} | {
        'neck.lateral_convs.0.conv.weight': torch.zeros(8, 16, 1, 1),
        'bbox_head.retina_cls.bias': torch.zeros(9),
    }


def expanded(name: str) -> dict:
    """Weights of a full-size model that take no room: one number, repeated."""
    with torch.device('meta'):
        shapes = PoolFormer(arch=name, out_indices=3).state_dict()
    weights = {k: torch.full((), 0.25).expand(v.shape) for k, v in shapes.items()}
    return as_authors(weights)


def randomise(model: nn.Module) -> None:
    """Make every parameter count: at 1e-5 a LayerScale would hide what its branch computes."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if '_scale' in name:
            nn.init.uniform_(parameter, 0.2, 0.8, generator=generator)
        elif 'norm' in name and name.endswith('weight'):
            nn.init.uniform_(parameter, 0.5, 1.5, generator=generator)
        elif name.endswith('bias'):
            nn.init.normal_(parameter, std=0.1, generator=generator)
