"""Images with a patch in one corner, and a classifier that is known to look for it there."""

from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from PIL import Image

from mmpoolformer.inference.trained_model import TrainedModel

CORNERS = {'top left': (0, 0), 'top right': (0, 1), 'bottom left': (1, 0), 'bottom right': (1, 1)}


def patch_in(corner: str, size: tuple[int, int] = (128, 128)) -> Image.Image:
    """A grey image of that height and width with a coloured patch over a ninth of it."""
    image = np.full((*size, 3), 120, np.uint8)
    rows, columns = (
        slice(-(length // 3), None) if side else slice(length // 3)
        for length, side in zip(size, CORNERS[corner], strict=True)
    )
    image[rows, columns] = (250, 40, 160)
    return Image.fromarray(image)


def save_model(cfg: Config, path: Path, meta: dict | None = None) -> Path:
    """Write a checkpoint of the config's model with random weights."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    torch.save(dict(state_dict=model.state_dict(), meta=meta or {}), path)
    return path


def save_patch_classifier(
    cfg: Config, path: Path, corner: str, meta: dict | None = None
) -> TrainedModel:
    """Write and return a classifier that predicts class 1, for what the patch makes of features.

    Its evidence for class 1 at a position is the feature there along the one direction in which the
    patch differs from the rest, and the opposite for class 2.
    """
    trained = TrainedModel(cfg, save_model(cfg, path))
    patch_in(corner).save(path.with_suffix('.png'))
    (feature,) = trained.features(trained.load(path.with_suffix('.png')))
    row, column = CORNERS[corner]
    direction = feature.values[:, -row, -column] - feature.values.mean(axis=(1, 2))
    direction = torch.from_numpy(direction / np.linalg.norm(direction))
    fc = trained.model.head.fc
    fc.weight.data.zero_()
    fc.bias.data.zero_()
    fc.weight.data[1] = direction
    fc.weight.data[2] = -direction
    fc.bias.data[1] = 10
    torch.save(dict(state_dict=trained.model.state_dict(), meta=meta or {}), path)
    return TrainedModel(cfg, path)
