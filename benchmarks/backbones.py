"""Backbones with the same weights: ours, and those of timm, mmpretrain and transformers.

All return the four maps that stages end with. Nobody normalises them: the output norms of ours and
of mmpretrain are switched off, the others have none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.settings import Candidate, Setting
from benchmarks.workload import Workload, place, randomise
from mmpoolformer import MetaFormer, convert_state_dict, create_backbone

_NO_NORM = dict(type='Identity')


@dataclass(frozen=True)
class Peer:
    """Another package that has some of the models.

    Args:
        layout: Its name in :data:`mmpoolformer.checkpoint.LAYOUTS`.
        has: Whether it has the model of a name.
        make: Builds the backbone of a name like ours.
        key: A key of the layout to that of the built module.
        maps: What the module returns to the four maps.
    """

    layout: str
    has: Callable[[str], bool]
    make: Callable[[str, MetaFormer], nn.Module]
    key: Callable[[str], str] = lambda key: key
    maps: Callable[[object], Sequence[Tensor]] = lambda output: output


def _timm_has(name: str) -> bool:
    import timm

    return timm.is_model(name)


def _timm(name: str, ours: MetaFormer) -> nn.Module:
    import timm

    return timm.create_model(name, features_only=True, out_indices=(0, 1, 2, 3))


def mmpretrain_config(ours: MetaFormer) -> dict:
    """Return the config of mmpretrain's PoolFormer with the same stages and outputs."""
    arch = ours.arch
    return dict(
        type='mmpretrain.PoolFormer',
        arch=dict(
            layers=list(arch.depths),
            embed_dims=list(arch.dims),
            mlp_ratios=[4] * 4,
            layer_scale_init_value=arch.layer_scale,
        ),
        out_indices=[2 * i for i in ours.out_indices],
        frozen_stages=-1,  # 0 would freeze the stem.
    )


def _mmpretrain(name: str, ours: MetaFormer) -> nn.Module:
    from mmpretrain.models import PoolFormer

    config = mmpretrain_config(ours)
    del config['type']
    model = PoolFormer(**config)
    for index in config['out_indices']:
        setattr(model, f'norm{index}', nn.Identity())
    return model


def _transformers(name: str, ours: MetaFormer) -> nn.Module:
    from transformers import PoolFormerConfig, PoolFormerModel

    config = PoolFormerConfig(
        depths=list(ours.arch.depths),
        hidden_sizes=list(ours.arch.dims),
        output_hidden_states=True,
        layer_scale_init_value=ours.arch.layer_scale,
    )
    return PoolFormerModel(config)


def _is_poolformer(name: str) -> bool:
    return name.startswith('poolformer_')


PEERS = {
    'timm': Peer('timm', _timm_has, _timm, lambda key: key.replace('stages.', 'stages_', 1)),
    'mmpretrain': Peer('authors', _is_poolformer, _mmpretrain),
    'transformers': Peer(
        'transformers',
        _is_poolformer,
        _transformers,
        lambda key: key.removeprefix('poolformer.'),
        lambda output: output.hidden_states,
    ),
}


@dataclass(frozen=True)
class Backbone:
    """The subject of a table: a model of :data:`mmpoolformer.ARCHS`."""

    model: str

    def candidates(
        self, device: str, *, compiled: bool = False, channels_last: bool = False
    ) -> tuple[list[Candidate], list[str]]:
        """Return all entries that can run, and notes on packages that cannot be imported.

        Args:
            device: Where they run; Triton needs CUDA.
            compiled: Whether each also runs under ``torch.compile``.
            channels_last: Whether each also runs in that memory format, and not timm's alone.
        """
        ours = implementations(device)
        peers, notes = [], []
        for source, peer in PEERS.items():
            try:
                has = find_spec(source) is not None and peer.has(self.model)
            except (ImportError, RuntimeError) as error:
                notes.append(f'{source} is left out, it cannot be imported: {error}')
                continue
            peers += [Candidate(source)] if has else []
        eager = [*(Candidate('ours', fused) for fused in ours), *peers]
        for candidate in list(eager):
            if channels_last or candidate.source == 'timm':
                place = eager.index(candidate) + 1
                eager.insert(
                    place, Candidate(candidate.source, candidate.fused, channels_last=True)
                )
        if not compiled:
            return eager, notes
        # While it is compiled, ours takes the reference path whatever it is told.
        once = [c for c in eager if c.is_peer or c.fused == 'reference']
        again = [Candidate(c.source, '', c.channels_last, compiled=True) for c in once]
        return eager + again, notes

    def build(self, candidate: Candidate, setting: Setting) -> Workload:
        """Return a backbone at work; the random weights are the same for all candidates."""
        torch.manual_seed(0)
        module = self._ours(candidate.fused or 'auto')
        randomise(module)
        names, maps = {}, lambda output: output
        if candidate.is_peer:
            ours, peer = module, PEERS[candidate.source]
            module = peer.make(self.model, ours)
            weights = ours.state_dict()
            theirs = convert_state_dict(weights, peer.layout)
            module.load_state_dict({peer.key(k): t for k, t in theirs.items()}, strict=True)
            names = {k: peer.key(v) for k, v in renamed(weights, theirs).items()}
            maps = peer.maps
        images = place(module, candidate, setting)
        run = torch.compile(module) if candidate.compiled else module
        return Workload(module, images, setting, lambda x: maps(run(x)), names)

    def cost(self, setting: Setting) -> tuple[int, list[tuple[int, ...]]]:
        """Return multiply-accumulates of a forward pass, and the shapes of its maps."""
        with torch.device('meta'), torch.no_grad():
            module = self._ours('reference').eval()
            batch, height, width = setting.shape
            with FlopCounterMode(display=False) as counter:
                maps = module(torch.empty(batch, 3, height, width))
        return counter.get_total_flops() // 2, [tuple(m.shape) for m in maps]

    def _ours(self, fused: str) -> MetaFormer:
        # RandFormer's matrices are made for one size of images.
        options = dict(interpolate=True) if self.model.startswith('randformer') else {}
        return create_backbone(self.model, out_norm_cfg=_NO_NORM, fused=fused, **options)


def implementations(device: str) -> list[str]:
    """Return the values of ``fused`` to compare: on a CPU ``'auto'`` is ``'torch'``."""
    on_cuda = torch.device(device).type == 'cuda'
    return ['auto', 'reference', *(['torch'] if on_cuda else [])]


def renamed(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the names in a converted state dict by ours: conversion keeps the storage."""
    names = {tensor.data_ptr(): name for name, tensor in ours.items()}
    return {names[tensor.data_ptr()]: name for name, tensor in theirs.items()}
