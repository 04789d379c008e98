"""The bar chart of a benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.patches import Patch

from mmpoolformer.vis.scene import plt

OURS, PEER = '#1f6f8b', '#c9a26b'


def draw(path: Path, panels: Sequence[tuple[str, Sequence[dict], float]]) -> None:
    """Draw median times as bars, one panel per table, with lines from p20 to p80.

    Args:
        path: PNG file.
        panels: Title, rows as :func:`benchmarks.report.rows` returns them, and the
            limit in milliseconds.
    """
    heights = [len(rows) + 2.2 for _, rows, _ in panels]
    fig, axes = plt.subplots(
        len(panels),
        figsize=(9, 0.3 * sum(heights) + 0.6),
        squeeze=False,
        height_ratios=heights,
        layout='constrained',
    )
    for axis, (title, rows, limit) in zip(axes[:, 0], panels, strict=True):
        _draw_panel(axis, title, rows, limit)
    handles = [
        Patch(color=OURS, label='ours'),
        Patch(color=PEER, label='other packages'),
        Patch(facecolor='white', edgecolor='black', hatch='///', label='torch.compile'),
        plt.Line2D([], [], color='black', ls='--', label='limit of matrix products'),
    ]
    fig.legend(handles=handles, loc='outside lower center', ncols=4, frameon=False)
    fig.savefig(path, dpi=150)
    plt.close(fig)


def _draw_panel(axis: plt.Axes, title: str, rows: Sequence[dict], limit: float) -> None:
    longest = max(row['p80'] for row in rows)
    for place, row in enumerate(rows):
        axis.barh(
            place,
            row['p50'],
            color=OURS if row['source'] == 'ours' else PEER,
            edgecolor='white' if row['compiled'] else 'none',
            hatch='///' if row['compiled'] else None,
            height=0.72,
        )
        axis.plot([row['p20'], row['p80']], [place, place], color='black', lw=1.2)
        ratio = row['speed_to_best_eager_peer']
        text = f'{row["p50"]:.1f} ms' + (f'  ({ratio:.2f}×)' if ratio else '')
        axis.text(row['p80'] + 0.012 * longest, place, text, va='center', fontsize=8)
    axis.axvline(limit, color='black', ls='--', lw=1)
    axis.set_yticks(range(len(rows)), [row['entry'] for row in rows], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(0, 1.22 * longest)
    axis.set_title(title, loc='left', fontsize=9)
    axis.set_xlabel('ms per iteration, median (× the fastest other package, eager)', fontsize=8)
    axis.tick_params(axis='x', labelsize=8)
    axis.spines[['top', 'right']].set_visible(False)
