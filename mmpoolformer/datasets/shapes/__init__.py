"""Shapes: a small synthetic data set for detection, segmentation and classification.

The scenes are drawn by :mod:`~mmpoolformer.datasets.shapes.scenes` and written as standard COCO,
ADE20K and ImageNet trees, so the stock data set classes of mmdet, mmseg and mmpretrain read them.
The layout on disk is described in :mod:`~mmpoolformer.datasets.shapes.formats`.

Example:
    >>> from mmpoolformer.datasets.shapes import CLASSES, generate
    >>> CLASSES
    ('circle', 'cross', 'heart', 'square', 'star', 'triangle')
    >>> info = generate('data/shapes', num_train=512, num_val=64)
    >>> info['statistics']['val']['images']
    64
"""

from mmpoolformer.datasets.shapes.classes import CLASSES, PALETTE, SEG_CLASSES, SEG_PALETTE
from mmpoolformer.datasets.shapes.preview import draw_preview
from mmpoolformer.datasets.shapes.store import generate

__all__ = ['CLASSES', 'PALETTE', 'SEG_CLASSES', 'SEG_PALETTE', 'draw_preview', 'generate']
