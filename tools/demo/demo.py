"""Train PoolFormer-S12 on the built-in data, evaluate it in a new process, and show the result."""

from __future__ import annotations

import argparse
import json
import pickle
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from transfer import compare

ROOT = Path(__file__).resolve().parents[2]
SCORE_THRESHOLD = 0.4  # Below it predictions are left out of the picture, not of the scores.


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
    command = [sys.executable, *map(str, command)]
    print(f'\n$ python {" ".join(command[1:])}', flush=True)
    start = time.perf_counter()
    status = subprocess.run(command, cwd=ROOT).returncode
    if status:
        sys.exit(status)
    return time.perf_counter() - start


def newest(work_dir: Path, pattern: str) -> Path:
    """Return the file written last among those that match."""
    return max(work_dir.glob(pattern), key=lambda path: path.stat().st_mtime)


def summarise(task: str, work_dir: Path, scalars: list[dict], seconds: dict, cfg) -> dict:
    """Collect scores, speed and versions, and write them to ``summary.json``."""
    import mmcv
    import mmdet
    import mmengine
    import mmseg
    import torch

    import mmpoolformer

    scores = json.loads(newest(work_dir / 'test', '*/*.json').read_text())
    iteration = statistics.median(record['time'] for record in scalars if 'time' in record)
    batch = cfg.train_dataloader.batch_size
    packages = (mmpoolformer, torch, mmengine, mmcv, mmdet, mmseg)
    summary = {
        'task': task,
        'config': TASKS[task].config,
        **{
            # mmseg counts in percent, mmdet in fractions.
            name: round(scores[key] / (100 if task == 'segmentation' else 1), 4)
            for key, name in TASKS[task].metrics.items()
        },
        'seconds': {name: round(value, 1) for name, value in seconds.items()},
        'training images per second': round(batch / iteration, 1),
        'versions': {package.__name__: package.__version__ for package in packages},
    }
    (work_dir / 'summary.json').write_text(json.dumps(summary, indent=2) + '\n')
    return summary


def load_detections(cfg, results: list[dict], count: int) -> tuple[list, list, list]:
    """Return images, ground truths and predictions of the first images that hold objects."""
    from mmpoolformer.vis.scene import Scene

    dataset = cfg.test_dataloader.dataset
    coco = COCO(str(ROOT / dataset.data_root / dataset.ann_file))
    category_ids = coco.getCatIds(catNms=list(dataset.metainfo.classes))
    images, truths, predictions = [], [], []
    for result in results:
        objects = coco.loadAnns(coco.getAnnIds(imgIds=result['img_id']))
        if len(images) == count or len(objects) < 2:
            continue
        found = result['pred_instances']
        keep = found['scores'].numpy() > SCORE_THRESHOLD
        with_masks = 'masks' in found
        x, y, w, h = np.array([o['bbox'] for o in objects]).T
        images.append(cv2.imread(str(ROOT / result['img_path']))[..., ::-1])
        truths.append(
            Scene(
                boxes=np.stack([x, y, x + w, y + h], axis=1),
                labels=np.array([category_ids.index(o['category_id']) for o in objects]),
                masks=np.stack([coco.annToMask(o) for o in objects]) if with_masks else None,
            )
        )
        masks = [m for m, k in zip(found['masks'], keep, strict=True) if k] if with_masks else []
        predictions.append(
            Scene(
                boxes=found['bboxes'].numpy()[keep],
                labels=found['labels'].numpy()[keep],
                scores=found['scores'].numpy()[keep],
                masks=np.stack([coco_mask.decode(m) for m in masks]) if masks else None,
            )
        )
    return images, truths, predictions


def load_segmentations(results: list[dict], count: int) -> tuple[list, list, list]:
    """Return images, true and predicted label maps of the first images that hold objects."""
    from mmpoolformer.vis.scene import Scene

    chosen = [r for r in results if len(r['gt_sem_seg']['data'].unique()) > 2][:count]
    images = [cv2.imread(str(ROOT / r['img_path']))[..., ::-1] for r in chosen]
    truths = [Scene(label_map=r['gt_sem_seg']['data'][0].numpy()) for r in chosen]
    predictions = [Scene(label_map=r['pred_sem_seg']['data'][0].numpy()) for r in chosen]
    return images, truths, predictions


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

    from mmpoolformer.vis.runs import draw_curves, draw_grid, read_scalars

    cfg = Config.fromfile(ROOT / task.config)
    results = pickle.loads((ROOT / dump).read_bytes())  # Written by the line above.
    if args.task == 'segmentation':
        pictures = load_segmentations(results, args.images)
    else:
        pictures = load_detections(cfg, results, args.images)
    metainfo = cfg.test_dataloader.dataset.metainfo
    draw_grid(output / 'predictions.png', *pictures, metainfo.classes, metainfo.palette)
    scalars = read_scalars(output)
    draw_curves(output / 'curves.png', scalars, task.metrics)
    print_table(summarise(args.task, output, scalars, seconds, cfg), args.task, work_dir)


if __name__ == '__main__':
    main()
