"""What the tools that write tables share: configs, released weights, papers, Markdown."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from mmpoolformer.zoo.archs import ARCHS, Arch, Weights
from mmpoolformer.zoo.complexity import Complexity

ROOT = Path(__file__).resolve().parents[2]
# The two papers whose models are here: number on arXiv and title.
PAPERS = {
    'PoolFormer': ('2111.11418', 'MetaFormer Is Actually What You Need for Vision'),
    'MetaFormer baselines': ('2210.13452', 'MetaFormer Baselines for Vision'),
}


class Leaf(NamedTuple):
    """A config whose model was counted.

    Args:
        path: Its file.
        start: The checkpoint that its backbone starts from, None if it trains from scratch.
        complexity: Size and cost of its model.
    """

    path: Path
    start: str | None
    complexity: Complexity

    @property
    def params(self) -> str:
        """Trainable parameters in millions."""
        return f'{self.complexity.trainable / 1e6:.1f}'

    @property
    def macs(self) -> str:
        """Multiply-accumulates in units of 1e9."""
        return f'{self.complexity.macs / 1e9:.1f}'


class Released(NamedTuple):
    """A released classifier with a published accuracy.

    Args:
        name: As in ``metaformer://NAME``.
        arch: Its row in the table of models.
        weights: Its address, image size and accuracy.
        paper: Key of :data:`PAPERS`.
        config: Name of the config that evaluates it.
        trained: Whether it was trained with the recipe of that config.
    """

    name: str
    arch: Arch
    weights: Weights
    paper: str
    config: str
    trained: bool


def released() -> list[Released]:
    """Return all released classifiers in the order of the table of models."""
    found = []
    for model, arch in ARCHS.items():
        paper = 'PoolFormer' if model.startswith('poolformer_') else 'MetaFormer baselines'
        for tag, weights in arch.weights.items():
            if weights.top1 is not None:
                config = f'{model}_384_in1k' if weights.img_size == 384 else f'{model}_in1k'
                row = Released(f'{model}.{tag}', arch, weights, paper, config, tag == 'in1k')
                found.append(row)
    return found


def leaf_paths() -> dict[str, Path]:
    """Return all configs but shared parts, by name."""
    paths = sorted(ROOT.glob('configs/*/**/*.py'))
    return {path.stem: path for path in paths if '_base_' not in path.parts}


def difference(path: Path) -> str:
    """Return what the first line of an ablation says that it changes."""
    first, _, _ = path.read_text(encoding='utf-8').partition('\n')
    return first.partition('): ')[2].removesuffix('.') or 'PoolFormer-S12'


def arxiv(number: str) -> str:
    """Return a link to a paper."""
    return f'[arXiv {number}](https://arxiv.org/abs/{number})'


def link(text: str, target: Path, document: Path) -> str:
    """Return a link from ``document`` to another file of the repository."""
    return f'[{text}]({os.path.relpath(target, document.parent)})'


def table(header: Iterable[str], rows: Iterable[Iterable[object]], texts: int = 1) -> str:
    """Return a table in Markdown: ``texts`` columns of text, then numbers, to the right."""
    header = list(header)
    alignment = ['---'] * texts + ['---:'] * (len(header) - texts)
    lines = [header, alignment, *rows]
    return ''.join(f'| {" | ".join(map(str, line))} |\n' for line in lines)
