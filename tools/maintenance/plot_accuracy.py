"""Draw accuracy against multiply-accumulates and parameters, as figure 3 of arXiv 2111.11418."""

from __future__ import annotations

import argparse
from pathlib import Path

from matplotlib.figure import Figure

from mmpoolformer.zoo.archs import ARCHS
from mmpoolformer.zoo.paper_results import PEERS, Classifier

FAMILIES = {
    'poolformer': 'PoolFormer',
    'poolformerv2': 'PoolFormerV2',
    'convformer': 'ConvFormer',
    'caformer': 'CAFormer',
}


def series() -> dict[str, list[Classifier]]:
    """Return the models of each line, all trained on ImageNet-1K alone at 224 px."""
    lines = {title: [] for title in FAMILIES.values()}
    for name, arch in ARCHS.items():
        family = name.split('_')[0]
        if family in FAMILIES:
            weights = arch.weights['in1k']
            row = Classifier(arch.params / 1e6, weights.gmacs, weights.top1)
            lines[FAMILIES[family]].append(row)
    for models in PEERS.values():
        for name, row in models.items():
            lines.setdefault(name.rpartition('-')[0], []).append(row)
    return lines


def draw(path: Path) -> None:
    """Write the picture."""
    fig = Figure(figsize=(10, 4), layout='constrained')
    axes = fig.subplots(1, 2, sharey=True)
    for i, (title, rows) in enumerate(series().items()):
        ours = title in FAMILIES.values()
        style = dict(
            color=f'C{i}' if ours else str(0.35 + 0.07 * (i - len(FAMILIES))),
            marker='o' if ours else 'sv^D*'[i - len(FAMILIES)],
            linestyle='-' if ours else ':',
            markersize=5,
            label=title,
        )
        top1 = [row.top1 for row in rows]
        axes[0].plot([row.gmacs for row in rows], top1, **style)
        axes[1].plot([row.params for row in rows], top1, **style)
    axes[0].set(xlabel='multiply-accumulates, G', ylabel='ImageNet-1K top-1, %')
    axes[1].set(xlabel='parameters, M')
    axes[1].legend(frameon=False, loc='lower right', ncols=2, fontsize=8)
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.spines[['top', 'right']].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('out', nargs='?', type=Path, default=Path('docs/accuracy.png'))
    out = parser.parse_args().out
    draw(out)
    print(out)


if __name__ == '__main__':
    main()
