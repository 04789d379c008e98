"""Pictures of a training run: predictions beside ground truth, and curves of loss and score."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mmpoolformer.vis.scene import DPI, Scene, draw_scene

# mmseg and mmpretrain count in percent, mmdet in fractions.
PERCENT = ('mIoU', 'aAcc', 'accuracy/top1')


def draw_grid(
    path: str | Path,
    images: Sequence[np.ndarray],
    truths: Sequence[Scene],
    predictions: Sequence[Scene],
    classes: Sequence[str],
    palette: Sequence[tuple[int, int, int]],
) -> None:
    """Write a grid: images of ground truth above, of predictions below, one column per image.

    Args:
        path: The png to write.
        images: RGB, ``(H, W, 3)``, 0 to 255.
        truths: What is in each image.
        predictions: What was found in each image.
        classes: Names of the classes.
        palette: RGB colour of each class, 0 to 255.
    """
    colours = np.array(palette) / 255
    fig = Figure(figsize=(2.1 * len(images), 4.7), layout='constrained')
    axes = fig.subplots(2, len(images), squeeze=False)
    for column, image in enumerate(images):
        for axis, scene in zip(axes[:, column], (truths[column], predictions[column]), strict=True):
            axis.imshow(image)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            draw_scene(axis, scene, classes, colours)
    axes[0, 0].set_ylabel('ground truth', fontsize=11)
    axes[1, 0].set_ylabel('prediction', fontsize=11)
    shown = _labels_in([*truths, *predictions]) - {
        i for i, name in enumerate(classes) if name == 'background'
    }
    handles = [Patch(color=colours[i], label=classes[i]) for i in sorted(shown)]
    columns = min(len(handles), 3 * len(images))
    if handles:
        fig.legend(handles=handles, loc='outside lower center', ncols=columns, frameon=False)
    fig.savefig(path, dpi=DPI)


def _labels_in(scenes: Sequence[Scene]) -> set[int]:
    """Return the classes that occur, for the legend."""
    arrays = [a for scene in scenes for a in (scene.labels, scene.label_map) if a is not None]
    return {int(label) for array in arrays for label in np.unique(array)} - {255}


def draw_curves(path: str | Path, scalars: Sequence[dict], metrics: dict[str, str]) -> None:
    """Write the curves of one run: loss on the left, scores on the right, over iterations.

    Args:
        path: The png to write.
        scalars: Records of mmengine's ``scalars.json``, see :func:`read_scalars`.
        metrics: Keys of the scores to draw and how to call them.
    """
    training = [record for record in scalars if 'loss' in record]
    fig = Figure(figsize=(9, 3.2), layout='constrained')
    left, right = fig.subplots(1, 2)
    steps = [record['step'] for record in training]
    left.plot(steps, [record['loss'] for record in training], color='tab:blue')
    left.set(xlabel='iteration', ylabel='training loss', ylim=(0, None))
    for key, name in metrics.items():
        points = _score_points(scalars, key)
        right.plot(*zip(*points, strict=True), marker='o', markersize=3, label=name)
    right.set(xlabel='iteration', ylabel='score on validation images', ylim=(0, 1))
    right.set_xlim(left.get_xlim())
    right.legend(frameon=False, loc='lower right')
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.spines[['top', 'right']].set_visible(False)
    fig.savefig(path, dpi=DPI)


def draw_comparison(
    path: str | Path, runs: dict[str, list[Sequence[dict]]], metric: str, label: str
) -> None:
    """Write the curves of groups of runs: loss on the left, a score on the right.

    Args:
        path: The png to write.
        runs: By name of the group, the records of each run, see :func:`read_scalars`.
        metric: Key of the score.
        label: What to call it.
    """
    fig = Figure(figsize=(9, 3.2), layout='constrained')
    left, right = fig.subplots(1, 2)
    for i, (name, group) in enumerate(runs.items()):
        losses = [[record['loss'] for record in run if 'loss' in record] for run in group]
        steps = [record['step'] for record in group[0] if 'loss' in record]
        _draw_group(left, steps, losses, f'C{i}', name)
        points = [_score_points(run, metric) for run in group]
        scores = [[score for _, score in run] for run in points]
        _draw_group(right, [step for step, _ in points[0]], scores, f'C{i}', name)
    left.set(xlabel='iteration', ylabel='training loss', ylim=(0, None))
    right.set(xlabel='iteration', ylabel=label, ylim=(0, None), xlim=left.get_xlim())
    right.legend(frameon=False, loc='lower right')
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.spines[['top', 'right']].set_visible(False)
    fig.savefig(path, dpi=DPI)


def _draw_group(
    axis: Axes, steps: list[int], values: list[list[float]], colour: str, name: str
) -> None:
    """Draw the mean of several runs over the range between the lowest and the highest."""
    axis.fill_between(
        steps, np.min(values, axis=0), np.max(values, axis=0), color=colour, alpha=0.2
    )
    label = f'{name} (mean and range of {len(values)})'
    axis.plot(steps, np.mean(values, axis=0), color=colour, label=label)


def _score_points(scalars: Sequence[dict], key: str) -> list[tuple[int, float]]:
    """Return (iteration, score in 0..1); a record of an evaluation counts epochs in `step`."""
    points, iteration = [], 0
    for record in scalars:
        if 'loss' in record:
            iteration = record['iter'] if 'epoch' in record else record['step']
        elif key in record:
            score = record[key] / 100 if key in PERCENT else record[key]
            points.append((iteration, score))
    return points


def read_scalars(work_dir: str | Path) -> list[dict]:
    """Return the records of the latest run in ``work_dir``, oldest first.

    Raises:
        FileNotFoundError: If no run left any there.
    """
    files = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    if not files:
        raise FileNotFoundError(f'no training log in {work_dir}')
    return [json.loads(line) for line in files[-1].read_text().splitlines()]
