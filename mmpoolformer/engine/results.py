"""What ``tools/test.py`` left behind, as scores and as scenes to draw."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.config import Config
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mmpoolformer.vis.runs import PERCENT
from mmpoolformer.vis.scene import Scene

# Below it predictions are left out of pictures, not of scores.
SCORE_THRESHOLD = 0.4
Pictures = tuple[list[np.ndarray], list[Scene], list[Scene]]


def read_scores(work_dir: Path, metrics: dict[str, str]) -> dict[str, float]:
    """Return the scores of the last test in ``work_dir`` under readable names, in fractions.

    Args:
        work_dir: The ``--work-dir`` of ``tools/test.py``.
        metrics: Keys of the scores and how to call them.
    """
    newest = max(work_dir.glob('*/*.json'), key=lambda path: path.stat().st_mtime)
    scores = json.loads(newest.read_text())
    return {name: scores[key] / (100 if key in PERCENT else 1) for key, name in metrics.items()}


def load_pictures(cfg: Config, dump: Path, count: int, least_objects: int = 1) -> Pictures:
    """Return images, what is in them, and what was found, for the first that hold objects.

    Args:
        cfg: The config that was tested.
        dump: What ``tools/test.py --out`` wrote.
        count: How many images at most.
        least_objects: How many objects an image must hold.
    """
    results = pickle.loads(dump.read_bytes())  # Written by the tool, not downloaded.
    load = {'mmdet': _detections, 'mmseg': _segmentations, 'mmpretrain': _classifications}
    return load[cfg.default_scope](cfg, results, count, least_objects)


def _read_image(result: dict[str, Any]) -> np.ndarray:
    return cv2.imread(result['img_path'])[..., ::-1]


def _detections(cfg: Config, results: list[dict], count: int, least_objects: int) -> Pictures:
    dataset = cfg.test_dataloader.dataset
    coco = COCO(str(Path(dataset.data_root) / dataset.ann_file))
    category_ids = coco.getCatIds(catNms=list(dataset.metainfo.classes))
    images, truths, predictions = [], [], []
    for result in results:
        objects = coco.loadAnns(coco.getAnnIds(imgIds=result['img_id']))
        if len(images) == count or len(objects) < least_objects:
            continue
        found = result['pred_instances']
        keep = found['scores'].numpy() > SCORE_THRESHOLD
        with_masks = 'masks' in found
        x, y, w, h = np.array([o['bbox'] for o in objects]).T
        images.append(_read_image(result))
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


def _segmentations(cfg: Config, results: list[dict], count: int, least_objects: int) -> Pictures:
    # One of the labels is the background.
    chosen = [r for r in results if len(r['gt_sem_seg']['data'].unique()) > least_objects][:count]
    chosen = chosen or results[:count]
    truths = [Scene(label_map=r['gt_sem_seg']['data'][0].numpy()) for r in chosen]
    predictions = [Scene(label_map=r['pred_sem_seg']['data'][0].numpy()) for r in chosen]
    return [_read_image(r) for r in chosen], truths, predictions


def _classifications(cfg: Config, results: list[dict], count: int, least_objects: int) -> Pictures:
    classes = cfg.test_dataloader.dataset.metainfo.classes
    # Spread over the list, which is sorted by class.
    chosen = results[:: max(1, len(results) // count)][:count]
    truths = [Scene(caption=classes[int(r['gt_label'])]) for r in chosen]
    predictions = [
        Scene(caption=f'{classes[int(r["pred_label"])]} {float(r["pred_score"].max()):.2f}')
        for r in chosen
    ]
    return [_read_image(r) for r in chosen], truths, predictions
