"""What a model finds in one image, whatever ran the model: numpy arrays, and what to do with them.

This file needs numpy alone. What a method needs beside it is imported when it is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import supervision


@dataclass
class Prediction:
    """What was found in one image; without scores also what there is in it, its ground truth.

    A detector fills ``boxes``, ``scores``, ``labels``, an instance segmenter ``masks``, too; a
    semantic segmenter fills ``label_map`` and a classifier ``class_scores``. The rest is ``None``.
    Pixels are those of the original image, upright as its EXIF data says.

    Args:
        classes: Names of all classes; labels are indices of them.
        size: Height and width of the image, in pixels.
        boxes: ``(N, 4)`` corners x1, y1, x2, y2 in pixels, the most certain first.
        scores: ``(N,)`` confidences, 0 to 1; ``None`` for ground truth.
        labels: ``(N,)`` indices of classes.
        masks: ``(N, H, W)`` booleans.
        label_map: ``(H, W)`` indices of classes; higher ones than there are belong to none.
        class_scores: ``(classes,)``, 0 to 1, one for each class.
        palette: RGB colour of each class, 0 to 255; ``None`` for colours around the colour circle.
        path: Where the image is from, ``None`` if it was given as an array.
        image: RGB, ``(H, W, 3)``, 0 to 255. Who keeps many predictions may set it to ``None``.
        data_sample: What mmdet, mmseg or mmpretrain gave, with all that it notes.

    Example:
        >>> found = Prediction(
        ...     classes=['cat', 'dog'],
        ...     size=(40, 60),
        ...     boxes=np.array([[1.0, 2.0, 11.0, 22.0], [5.0, 5.0, 9.0, 9.0]]),
        ...     scores=np.array([0.9, 0.2]),
        ...     labels=np.array([1, 0]),
        ... )
        >>> len(found), found.names
        (2, ['dog', 'cat'])
    """

    classes: Sequence[str]
    size: tuple[int, int]
    boxes: np.ndarray | None = None
    scores: np.ndarray | None = None
    labels: np.ndarray | None = None
    masks: np.ndarray | None = None
    label_map: np.ndarray | None = None
    class_scores: np.ndarray | None = None
    palette: Sequence[tuple[int, int, int]] | None = None
    path: str | None = None
    image: np.ndarray | None = None
    data_sample: Any = None

    def __len__(self) -> int:
        """Return the number of objects."""
        return 0 if self.boxes is None else len(self.boxes)

    def __bool__(self) -> bool:
        """Return true: a prediction without objects is one, too."""
        return True

    @property
    def names(self) -> list[str]:
        """The name of each object's class, in the order of ``labels``."""
        return [] if self.labels is None else [self.classes[label] for label in self.labels]

    def above(self, score_thr: float) -> Prediction:
        """Return the prediction with only the objects of a score or more.

        Ground truth and predictions without objects stay as they are. ``data_sample`` keeps all.

        Example:
            >>> found = Prediction(
            ...     classes=['cat'],
            ...     size=(40, 60),
            ...     boxes=np.zeros((2, 4)),
            ...     scores=np.array([0.9, 0.2]),
            ...     labels=np.array([0, 0]),
            ... )
            >>> len(found.above(0.5))
            1
        """
        if self.scores is None:
            return self
        keep = self.scores >= score_thr
        return replace(
            self,
            boxes=self.boxes[keep],
            scores=self.scores[keep],
            labels=self.labels[keep],
            masks=None if self.masks is None else self.masks[keep],
        )

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """Return names and scores of a classifier's most likely classes, the likeliest first.

        Raises:
            ValueError: If there are no scores of classes.

        Example:
            >>> scores = np.array([0.25, 0.75])
            >>> Prediction(classes=['cat', 'dog'], size=(40, 60), class_scores=scores).top(1)
            [('dog', 0.75)]
        """
        if self.class_scores is None:
            raise ValueError('only a classifier gives a score to each class: see names and scores')
        best = np.argsort(-self.class_scores, kind='stable')[:count]
        return [(self.classes[i], float(self.class_scores[i])) for i in best]

    def to_coco(
        self, image_id: int | str = 1, category_ids: Sequence[int] | None = None
    ) -> list[dict]:
        """Return the objects in COCO's format of results, which pycocotools' ``loadRes`` takes.

        Masks become run lengths, which needs pycocotools.

        Args:
            image_id: The image's id in the annotation file.
            category_ids: Id of each class in the annotation file; by default 1, 2, 3 and so on.

        Raises:
            ValueError: If there are no boxes with scores.

        Example:
            >>> Prediction(
            ...     classes=['cat', 'dog'],
            ...     size=(40, 60),
            ...     boxes=np.array([[1.0, 2.0, 11.0, 22.0]]),
            ...     scores=np.array([0.5]),
            ...     labels=np.array([1]),
            ... ).to_coco(image_id=7)
            [{'image_id': 7, 'category_id': 2, 'bbox': [1.0, 2.0, 10.0, 20.0], 'score': 0.5}]
        """
        if self.boxes is None or self.scores is None:
            raise ValueError('results in the format of COCO are boxes with scores: there are none')
        ids = category_ids or range(1, len(self.classes) + 1)
        # Differences in double precision, as mmdet's evaluation takes them.
        rows = zip(self.boxes.tolist(), self.scores.tolist(), self.labels.tolist(), strict=True)
        results = [
            dict(
                image_id=image_id,
                category_id=ids[label],
                bbox=[x1, y1, x2 - x1, y2 - y1],
                score=score,
            )
            for (x1, y1, x2, y2), score, label in rows
        ]
        if self.masks is not None:
            from pycocotools import mask as coco_mask

            for result, mask in zip(results, self.masks, strict=True):
                lengths = coco_mask.encode(np.asfortranarray(mask, np.uint8))
                lengths['counts'] = lengths['counts'].decode('ascii')
                result['segmentation'] = lengths
        return results

    def to_supervision(self) -> supervision.Detections:
        """Return the objects for the library supervision: its annotators, trackers, zones.

        Raises:
            ImportError: If supervision is not installed.
            ValueError: If there are no boxes.

        Example:
            >>> Prediction(
            ...     classes=['cat', 'dog'],
            ...     size=(40, 60),
            ...     boxes=np.array([[1.0, 2.0, 11.0, 22.0]]),
            ...     scores=np.array([0.5]),
            ...     labels=np.array([1]),
            ... ).to_supervision()['class_name']
            array(['dog'], dtype='<U3')
        """
        if self.boxes is None:
            raise ValueError('supervision takes boxes: there are none')
        from supervision import Detections

        return Detections(
            xyxy=self.boxes,
            confidence=self.scores,
            class_id=self.labels,
            mask=self.masks,
            data={'class_name': np.array(self.names, dtype=str)},
        )

    def draw(
        self, image: np.ndarray | None = None, score_thr: float = 0.3, scale: int = 1
    ) -> np.ndarray:
        """Return the image with what was found in it, RGB, ``(H, W, 3)``, 0 to 255.

        Letters and lines grow with the image.

        Args:
            image: What to draw on, RGB, ``(H, W, 3)``, 0 to 255; by default the image itself.
            score_thr: Objects of lower scores are left out.
            scale: How many times larger the result is, for images too small to be read.

        Raises:
            ValueError: If neither ``image`` is given nor the prediction has one, or its size is
                another.

        Example:
            >>> found = Prediction(
            ...     classes=['cat'],
            ...     size=(40, 60),
            ...     boxes=np.array([[10.0, 20.0, 30.0, 35.0]]),
            ...     scores=np.array([0.9]),
            ...     labels=np.array([0]),
            ... )
            >>> picture = found.draw(np.zeros((40, 60, 3), np.uint8))
            >>> picture.shape, picture[30, 10].tolist()
            ((40, 60, 3), [242, 48, 48])
        """
        from mmpoolformer.vis import overlay

        image = self.image if image is None else image
        if image is None:
            raise ValueError('the prediction does not hold its image: give it, draw(image)')
        if image.shape[:2] != tuple(self.size):
            raise ValueError(
                f'the image is {image.shape[0]}x{image.shape[1]}, height x width, and the '
                f'prediction belongs to one of {self.size[0]}x{self.size[1]}'
            )
        image = _enlarge(image, scale)
        colours = self.palette or overlay.distinct_colours(len(self.classes))
        if self.label_map is not None:
            label_map = _enlarge(self.label_map, scale)
            return overlay.paint_label_map(image, label_map, self.classes, colours)
        if self.class_scores is not None:
            best = self.top()
            grounds = [colours[list(self.classes).index(name)] for name, _ in best]
            return overlay.paint_lines(image, [f'{name} {s:.2f}' for name, s in best], grounds)
        shown = self.above(score_thr)
        scores = [''] * len(shown) if self.scores is None else [f' {s:.2f}' for s in shown.scores]
        masks = shown.masks
        return overlay.paint_objects(
            image,
            shown.boxes * scale,
            [name + score for name, score in zip(shown.names, scores, strict=True)],
            [colours[label] for label in shown.labels],
            None if masks is None else [_enlarge(mask, scale) for mask in masks],
        )


def _enlarge(pixels: np.ndarray, scale: int) -> np.ndarray:
    """Return an image or a map in which each pixel is a square of ``scale`` pixels."""
    return pixels.repeat(scale, axis=0).repeat(scale, axis=1) if scale > 1 else pixels
