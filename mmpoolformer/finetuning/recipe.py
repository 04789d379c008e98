"""Chooses method, image scale, batch, learning rate and epochs from the data, with its reasons."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from mmpoolformer.datasets.folders import Folder, FolderError
from mmpoolformer.zoo.archs import ARCHS


@dataclass(frozen=True)
class Method:
    """A way to train, with the numbers of its published recipe.

    Args:
        title: Its name in texts.
        takes: The kinds of labels it can learn from.
        writes: The kind it is given, see ``write_annotations``.
        lr: Learning rate for ``batch`` images.
        batch: Images of a step, on all devices.
        images: Images of a step on one device, at ``short`` pixels.
        short: Short side of the images in pixels.
        epochs: How often it sees each image of a large data set.
        scratch_lr: Learning rate without weights, for ``scratch_batch`` images or more.
        scratch_batch: As in ``configs/*/*_shapes.py``, which start without weights.
        metrics: Its scores, and how to call them.
    """

    title: str
    takes: tuple[str, ...]
    writes: str
    lr: float
    batch: int
    images: int
    short: int
    epochs: int
    scratch_lr: float
    scratch_batch: int
    metrics: dict[str, str]


_BOX = {'coco/bbox_mAP': 'box AP', 'coco/bbox_mAP_50': 'box AP50'}
_MASK = {'coco/bbox_mAP': 'box AP', 'coco/segm_mAP': 'mask AP', 'coco/segm_mAP_50': 'mask AP50'}
_PIXEL = {'mIoU': 'mIoU', 'aAcc': 'pixel accuracy'}
_TOP = {'accuracy/top1': 'top-1 accuracy'}

METHODS = {
    'retinanet': Method(
        title='RetinaNet',
        takes=('boxes', 'polygons'),
        writes='boxes',
        lr=1e-4,
        batch=16,
        images=2,
        short=800,
        epochs=12,
        scratch_lr=1e-3,
        scratch_batch=4,
        metrics=_BOX,
    ),
    'mask_rcnn': Method(
        title='Mask R-CNN',
        takes=('polygons',),
        writes='polygons',
        lr=1e-4,
        batch=16,
        images=2,
        short=800,
        epochs=12,
        scratch_lr=1e-3,
        scratch_batch=4,
        metrics=_MASK,
    ),
    'fpn': Method(
        title='Semantic FPN',
        takes=('masks',),
        writes='masks',
        lr=2e-4,
        batch=32,
        images=4,
        short=512,
        epochs=64,
        scratch_lr=5e-4,
        scratch_batch=8,
        metrics=_PIXEL,
    ),
    # Of the 300 epochs on ImageNet a fine-tuning needs a tenth, and a smaller step.
    'classifier': Method(
        title='Classifier',
        takes=('classes',),
        writes='classes',
        lr=1e-4,
        batch=32,
        images=32,
        short=224,
        epochs=30,
        scratch_lr=1e-3,
        scratch_batch=32,
        metrics=_TOP,
    ),
}
_METHOD_OF = {
    'boxes': 'retinanet',
    'polygons': 'mask_rcnn',
    'masks': 'fpn',
    'classes': 'classifier',
}
_WHY_METHOD = {
    'boxes': 'the labels are boxes',
    'polygons': 'the labels are outlines of objects',
    'masks': 'the labels are masks of the whole picture',
    'classes': 'the pictures are in a folder for each class',
}
# What a fine-tuning should see, however few pictures there are: 1,500 steps of 16.
_IMAGES_SEEN = 24_000
# Without weights everything is still to be learnt.
_SCRATCH_FACTOR = 3
_MOST_EPOCHS = 300
# COCO's pictures, 480 pixels high, are shown to detectors at 800.
_ENLARGED = 800 / 480
# RetinaNet's smallest anchor is 32 pixels; it finds what is half as large.
_LEAST_OBJECT = 16


@dataclass(frozen=True)
class Wishes:
    """What the user chose; None where the data shall."""

    method: str | None = None
    model: str = 'poolformer_s12'
    epochs: int | None = None
    image_size: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    weights: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class Choice:
    """One choice, as the user reads it."""

    name: str
    value: str
    why: str


@dataclass(frozen=True)
class Recipe:
    """How a folder is learnt from.

    Args:
        method: Key of ``METHODS``.
        model: Name of the backbone.
        short: Short side of the images, in pixels.
        batch_size: Images of a step.
        lr: Learning rate.
        epochs: How often each image is seen.
        steps: Steps of an epoch.
        weights: What the backbone starts from; None for nothing.
        seed: Of everything random.
        choices: All of this, with its reasons.
    """

    method: str
    model: str
    short: int
    batch_size: int
    lr: float
    epochs: int
    steps: int
    weights: str | None
    seed: int
    choices: tuple[Choice, ...]

    def why(self, name: str) -> str:
        """Return the reason of one choice."""
        return next(choice.why for choice in self.choices if choice.name == name)


_GIVEN = 'as you say'


def choose(folder: Folder, wishes: Wishes) -> Recipe:
    """Choose what the user left open.

    Args:
        folder: A folder whose pictures all have a split.
        wishes: What the user chose.

    Raises:
        FolderError: If the method cannot learn from these labels, or the model cannot take it.
    """
    kind = folder.kind
    name = wishes.method or _METHOD_OF[kind]
    method = METHODS[name]
    if kind not in method.takes:
        fitting = ', '.join(key for key, value in METHODS.items() if kind in value.takes)
        raise FolderError(
            f'--method {name} learns from {" or ".join(method.takes)}, and {folder.root} has '
            f'{kind}. Choose --method {fitting}.'
        )
    if wishes.model.startswith('randformer') and name != 'classifier':
        raise FolderError(
            f'--model {wishes.model} takes images of 224 x 224 pixels only: {method.title} shows '
            'it others. Choose another model, such as poolformer_s12.'
        )
    training = folder.of('train')
    weights = _weights(wishes)
    short, why_short = _short(folder, name, wishes)
    batch, why_batch = _batch(method, short, len(training), wishes)
    steps = math.ceil(len(training) / batch)
    lr, why_lr = _lr(method, batch, weights, wishes)
    epochs, why_epochs = _epochs(method, len(training), weights, wishes)
    choices = (
        Choice('method', method.title, _GIVEN if wishes.method else _WHY_METHOD[kind]),
        Choice('model', wishes.model, f'{ARCHS[wishes.model].params / 1e6:.1f} M as a classifier'),
        Choice('weights', weights or 'none', _why_weights(wishes)),
        Choice('image size', f'{short} px, short side', why_short),
        Choice('batch', f'{batch} images', why_batch),
        Choice('learning rate', f'{lr:g}', why_lr),
        Choice('epochs', f'{epochs}, of {steps:,} steps', why_epochs),
    )
    return Recipe(
        name, wishes.model, short, batch, lr, epochs, steps, weights, wishes.seed, choices
    )


def _weights(wishes: Wishes) -> str | None:
    if wishes.weights == 'none':
        return None
    return wishes.weights or f'metaformer://{wishes.model}'


def _why_weights(wishes: Wishes) -> str:
    if wishes.weights == 'none':
        return 'as you say: from scratch, with more steps, larger ones, and norms in the heads'
    return _GIVEN if wishes.weights else "the authors' ImageNet classifier"


def _short(folder: Folder, name: str, wishes: Wishes) -> tuple[int, str]:
    """Return the short side of the images, a multiple of 32."""
    method = METHODS[name]
    if wishes.image_size:
        return wishes.image_size, _GIVEN
    if wishes.model.startswith('randformer'):
        return 224, 'the only one it takes'
    own = statistics.median(min(picture.size) for picture in folder.of('train'))
    if name in ('fpn', 'classifier'):
        short = _rounded(own, method.short)
        return short, f'that of the pictures is {own:g}; the recipe has {method.short}'
    short = _rounded(own * _ENLARGED, method.short)
    why = f"{short / own:.2g} of the pictures' {own:g}; 800 of 480 on COCO, and no more than 800"
    small = _small_objects(folder)
    if small and small * short < _LEAST_OBJECT:
        why += f'; a tenth of the objects is under {small * short:.0f} px then: too small to find?'
    return short, why


def _rounded(value: float, most: int) -> int:
    return min(most, max(64, round(value / 32) * 32))


def _small_objects(folder: Folder) -> float:
    """Return the side of small objects, the tenth percentile, in parts of the short side."""
    sides = [
        math.sqrt(instance.box[2] * instance.box[3]) / min(picture.size)
        for picture in folder.of('train')
        for instance in picture.instances
    ]
    return statistics.quantiles(sides, n=10)[0] if len(sides) > 1 else 0.0


def _batch(method: Method, short: int, pictures: int, wishes: Wishes) -> tuple[int, str]:
    if wishes.batch_size:
        return wishes.batch_size, _GIVEN
    fitting = method.images * (method.short / short) ** 2
    batch = 2 ** int(math.log2(min(fitting, method.batch, max(pictures / 4, 1))))
    why = f'as many pixels as the {method.images} images of {method.short} px per GPU in the recipe'
    if batch == method.batch:
        why = 'as in the recipe'
    elif pictures / 4 < min(fitting, method.batch):
        why = 'four steps an epoch'
    return batch, why


def _lr(method: Method, batch: int, weights: str | None, wishes: Wishes) -> tuple[float, str]:
    if wishes.lr:
        return wishes.lr, _GIVEN
    if weights is None:
        rate = method.scratch_lr * min(1.0, batch / method.scratch_batch)
        return rate, 'that of our configs that start from scratch'
    rate = method.lr * batch / method.batch
    return rate, f'{method.lr:g} for {method.batch} images in the recipe, in proportion'


def _epochs(method: Method, pictures: int, weights: str | None, wishes: Wishes) -> tuple[int, str]:
    if wishes.epochs:
        return wishes.epochs, _GIVEN
    seen = _IMAGES_SEEN * (1 if weights else _SCRATCH_FACTOR)
    least = math.ceil(seen / pictures)
    if least <= method.epochs:
        return method.epochs, 'as in the recipe'
    if least > _MOST_EPOCHS:
        return _MOST_EPOCHS, f'the most that makes sense, for {pictures:,} pictures'
    return least, f'{seen:,} images to see in all; the recipe has {method.epochs} epochs'
