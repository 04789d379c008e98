"""Random annotations, for training steps."""

from __future__ import annotations

import numpy as np
import torch
from mmengine.structures import InstanceData, PixelData

from benchmarks.settings import Setting

OBJECTS = 7  # Per image, as in COCO.


def random_samples(scope: str, setting: Setting, classes: int) -> list:
    """Return what a library notes about the images of a setting, the same each time.

    Args:
        scope: ``'mmdet'``, ``'mmseg'`` or ``'mmpretrain'``.
        setting: Number and size of the images, and their device.
        classes: Labels are below.
    """
    make = {'mmdet': _detection, 'mmseg': _segmentation, 'mmpretrain': _classification}[scope]
    batch, height, width = setting.shape
    generator = torch.Generator().manual_seed(2)
    found = []
    for _ in range(batch):
        sample = make(height, width, classes, generator)
        size = (height, width)
        sample.set_metainfo(
            dict(
                img_shape=size,
                ori_shape=size,
                pad_shape=size,
                batch_input_shape=size,
                scale_factor=(1.0, 1.0),
            )
        )
        found.append(sample.to(setting.device))
    return found


def _detection(height: int, width: int, classes: int, generator: torch.Generator):
    """Return boxes of an eighth to a half of each side, with masks that fill them."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    size = torch.tensor([width, height])
    extent = (0.125 + 0.375 * torch.rand(OBJECTS, 2, generator=generator)) * size
    corner = torch.rand(OBJECTS, 2, generator=generator) * (size - extent)
    boxes = torch.cat([corner, corner + extent], dim=1)
    masks = np.zeros((OBJECTS, height, width), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = 1
    labels = torch.randint(classes, (OBJECTS,), generator=generator)
    instances = InstanceData(bboxes=boxes, labels=labels)
    instances.masks = BitmapMasks(masks, height, width)
    return DetDataSample(gt_instances=instances)


def _segmentation(height: int, width: int, classes: int, generator: torch.Generator):
    from mmseg.structures import SegDataSample

    sample = SegDataSample()
    labels = torch.randint(classes, (1, height, width), generator=generator)
    sample.gt_sem_seg = PixelData(data=labels)
    return sample


def _classification(height: int, width: int, classes: int, generator: torch.Generator):
    from mmpretrain.structures import DataSample

    return DataSample().set_gt_label(int(torch.randint(classes, (1,), generator=generator)))
