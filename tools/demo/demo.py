"""Train PoolFormer-S12 on the built-in data, evaluate it in a new process, and show the result."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from transfer import compare

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Task:
    """One kind of demo: its config, and the scores it reports under readable names."""

    config: str
    metrics: dict[str, str]


TASKS = {
    'detection': Task(
        'configs/detection/retinanet_poolformer_s12_shapes.py',
        {'coco/bbox_mAP': 'box AP', 'coco/bbox_mAP_50': 'box AP50'},
    ),
    'instance': Task(
        'configs/detection/mask_rcnn_poolformer_s12_shapes.py',
        {'coco/bbox_mAP': 'box AP', 'coco/segm_mAP': 'mask AP', 'coco/segm_mAP_50': 'mask AP50'},
    ),
    'segmentation': Task(
        'configs/segmentation/fpn_poolformer_s12_shapes.py',
        {'mIoU': 'mIoU', 'aAcc': 'pixel accuracy'},
    ),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--task', choices=[*TASKS, 'transfer'], default='detection')
    parser.add_argument('--work-dir', type=Path, help='default: work_dirs/demo_<task>')
    parser.add_argument('--images', type=int, default=6, help='columns of the picture')
    return parser.parse_args()


def run(*command: str | Path) -> float:
    """Run one of the tools in a new process and return its seconds.

    Raises:
        SystemExit: With the tool's status if it fails; the tool has said why.
    """
    from mmpoolformer.engine.commands import run_python

    words = [*map(str, command)]
    print(f'\n$ python {" ".join(words)}', flush=True)
    start = time.perf_counter()
    run_python(words, ROOT)
    return time.perf_counter() - start


def summarise(task: str, work_dir: Path, scalars: list[dict], seconds: dict, cfg) -> dict:
    """Collect scores, speed and versions, and write them to ``summary.json``."""
    import mmcv
    import mmdet
    import mmengine
    import mmseg
    import torch

    import mmpoolformer
    from mmpoolformer.engine.results import read_scores

    scores = read_scores(work_dir / 'test', TASKS[task].metrics)
    iteration = statistics.median(record['time'] for record in scalars if 'time' in record)
    batch = cfg.train_dataloader.batch_size
    packages = (mmpoolformer, torch, mmengine, mmcv, mmdet, mmseg)
    summary = {
        'task': task,
        'config': TASKS[task].config,
        **{name: round(score, 4) for name, score in scores.items()},
        'seconds': {name: round(value, 1) for name, value in seconds.items()},
        'training images per second': round(batch / iteration, 1),
        'versions': {package.__name__: package.__version__ for package in packages},
    }
    (work_dir / 'summary.json').write_text(json.dumps(summary, indent=2) + '\n')
    return summary


def print_table(summary: dict, task: str, work_dir: Path) -> None:
    """Print the scores and where the pictures are."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column('measure')
    table.add_column('value', justify='right')
    for name in TASKS[task].metrics.values():
        table.add_row(name, f'{summary[name]:.3f}')
    table.add_row('training', f'{summary["seconds"]["train"]:.0f} s')
    table.add_row('training images/s', f'{summary["training images per second"]}')
    table.add_row('evaluation', f'{summary["seconds"]["test"]:.0f} s')
    console = Console()
    console.print(f'\nPoolFormer-S12 on Shapes, {task}, from scratch')
    console.print(table)
    for name in ('predictions.png', 'curves.png', 'summary.json'):
        print(f'  {work_dir / name}')


def main() -> None:
    args = parse_args()
    os.chdir(ROOT)  # The configs count their paths from here.
    work_dir = args.work_dir or Path('work_dirs') / f'demo_{args.task}'
    if args.task == 'transfer':
        compare(run, ROOT, work_dir)
        return
    task = TASKS[args.task]
    output = work_dir if work_dir.is_absolute() else ROOT / work_dir
    dump = work_dir / 'test' / 'predictions.pkl'

    seconds = {'data': run('-m', 'mmpoolformer.datasets.shapes')}
    seconds['train'] = run('tools/train.py', task.config, '--work-dir', work_dir)
    checkpoint = (output / 'last_checkpoint').read_text().strip()
    checkpoint = (
        Path(checkpoint).relative_to(ROOT) if ROOT in Path(checkpoint).parents else checkpoint
    )
    options = ['--work-dir', work_dir / 'test', '--out', dump]
    seconds['test'] = run('tools/test.py', task.config, checkpoint, *options)

    from mmengine.config import Config

    from mmpoolformer.engine.results import load_pictures
    from mmpoolformer.vis.runs import draw_curves, draw_grid, read_scalars

    cfg = Config.fromfile(ROOT / task.config)
    pictures = load_pictures(cfg, ROOT / dump, args.images, least_objects=2)
    metainfo = cfg.test_dataloader.dataset.metainfo
    draw_grid(output / 'predictions.png', *pictures, metainfo.classes, metainfo.palette)
    scalars = read_scalars(output)
    draw_curves(output / 'curves.png', scalars, task.metrics)
    print_table(summarise(args.task, output, scalars, seconds, cfg), args.task, work_dir)


if __name__ == '__main__':
    main()
