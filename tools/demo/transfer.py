"""The demo of the paper's flow: a detector with a pretrained backbone against one from scratch."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path

CLASSIFIER = 'configs/classification/poolformer_s12_shapes.py'
DETECTOR = 'configs/detection/retinanet_poolformer_s12_shapes_transfer.py'
METRIC = 'coco/bbox_mAP'
SEEDS = (0, 1, 2)


def compare(run: Callable[..., float], root: Path, work_dir: Path) -> None:
    """Pretrain once, train both detectors with each seed, and write picture and summary.

    Args:
        run: Runs a command in ``root`` and returns its seconds.
        root: The clone.
        work_dir: Where everything goes, absolute or from ``root``.
    """
    from mmpoolformer.vis.runs import draw_comparison, read_scalars

    output = root / work_dir
    seconds = {'data': run('-m', 'mmpoolformer.datasets.shapes')}
    pretraining = work_dir / 'classifier'
    seconds['pretraining'] = run('tools/train.py', CLASSIFIER, '--work-dir', pretraining)
    classifier = (output / 'classifier' / 'last_checkpoint').read_text().strip()
    starts = {
        'pretrained': f'model.backbone.init_cfg.checkpoint={classifier}',
        'from scratch': 'model.backbone.init_cfg=None',
    }
    runs = {name: [] for name in starts}
    for seed in SEEDS:
        for name, option in starts.items():
            folder = work_dir / f'{name.replace(" ", "_")}_{seed}'
            options = ['--cfg-options', option, f'randomness.seed={seed}']
            seconds[f'{name}, seed {seed}'] = run(
                'tools/train.py', DETECTOR, '--work-dir', folder, *options
            )
            runs[name].append(read_scalars(root / folder))
    draw_comparison(output / 'curves.png', runs, METRIC, 'box AP on validation images')
    summary = summarise(runs, read_scalars(output / 'classifier'), seconds)
    (output / 'summary.json').write_text(json.dumps(summary, indent=2) + '\n')
    print_table(summary)
    for name in ('curves.png', 'summary.json'):
        print(f'  {work_dir / name}')


def summarise(runs: dict[str, list], pretraining: list[dict], seconds: dict) -> dict:
    """Return the last AP of every run, mean and spread, and how far the means lie apart."""
    aps = {
        name: [[r[METRIC] for r in scalars if METRIC in r][-1] for scalars in group]
        for name, group in runs.items()
    }
    accuracy = [r['accuracy/top1'] for r in pretraining if 'accuracy/top1' in r][-1]
    means = {name: statistics.mean(values) for name, values in aps.items()}
    return {
        'task': 'transfer',
        'classifier': {'config': CLASSIFIER, 'top-1 in percent': accuracy},
        'detector': DETECTOR,
        'seeds': SEEDS,
        'box AP': {
            name: {
                'each': values,
                'mean': round(means[name], 4),
                'spread': round(max(values) - min(values), 4),
            }
            for name, values in aps.items()
        },
        'difference of the means': round(means['pretrained'] - means['from scratch'], 4),
        'seconds': {name: round(value, 1) for name, value in seconds.items()},
    }


def print_table(summary: dict) -> None:
    """Print the APs of all seeds, their means, and whether they differ by more than the spread."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for column in ('box AP', *(f'seed {seed}' for seed in SEEDS), 'mean', 'spread'):
        table.add_column(column, justify='left' if column == 'box AP' else 'right')
    for name, row in summary['box AP'].items():
        table.add_row(name, *(f'{v:.3f}' for v in (*row['each'], row['mean'], row['spread'])))
    console = Console()
    console.print('\nRetinaNet-S12 on Shapes, 3 epochs, with and without a pretrained backbone')
    console.print(table)
    difference = summary['difference of the means']
    spread = max(row['spread'] for row in summary['box AP'].values())
    verdict = 'more' if difference > spread else 'not more'
    console.print(
        f'Pretraining gains {difference:+.3f} AP: {verdict} than the spread between seeds '
        f'({spread:.3f}).'
    )
