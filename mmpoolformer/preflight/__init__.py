"""Reads a config before a run and says in plain words what is missing or wrong.

It builds nothing, writes nothing and imports neither mmdet, mmseg nor mmpretrain, so that its
message appears within seconds. It never raises: what it does not understand, it leaves alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmpoolformer.config_reading import datasets, heads, is_file, plain
from mmpoolformer.preflight.channels import check_channels
from mmpoolformer.preflight.classes import check_classes
from mmpoolformer.preflight.coco import check_annotations
from mmpoolformer.preflight.files import missing_data
from mmpoolformer.preflight.folders import check_class_folders, check_masks
from mmpoolformer.preflight.problem import Problem, report
from mmpoolformer.preflight.settings import batch_line, check_device, check_keys, check_numbers
from mmpoolformer.preflight.weights import check_weights

__all__ = ['Problem', 'batch_line', 'check', 'report']


def check(
    cfg: object,
    *,
    splits: Sequence[str] = ('train', 'val'),
    checkpoint: str | None = None,
    distributed: bool = False,
) -> list[Problem]:
    """Find what would stop a run, or silently spoil it.

    Args:
        cfg: An mmengine ``Config`` (or a dict) in the style of mmdet 3, mmseg 1 or mmpretrain 1.
        splits: The data that the run reads: 'train', 'val', 'test'.
        checkpoint: The weight file given on the command line, if any.
        distributed: Whether the run was started by a launcher.

    Returns:
        The problems, those to solve first at the front; empty when the run can start.
    """
    tree, splits = plain(cfg), tuple(splits)
    found = [dataset for split in splits for dataset in datasets(tree, split)]
    problems = check_keys(tree) + missing_data(tree, found, splits)
    problems += check_classes(tree, found) + check_channels(tree)
    has_mask_head = any('mask_head' in key for key in heads(tree))
    for i, dataset in enumerate(found):
        if any(dataset.options == earlier.options for earlier in found[:i]):
            continue  # `test_dataloader = val_dataloader`: read and said once
        if is_file(dataset.ann_file):
            problems += check_annotations(dataset, has_mask_head)
        problems += check_masks(dataset) + check_class_folders(dataset, tree)
    problems += check_weights(tree, checkpoint) + check_numbers(tree, splits)
    problems += check_device(tree, splits, distributed)
    return list(dict.fromkeys(problems))
