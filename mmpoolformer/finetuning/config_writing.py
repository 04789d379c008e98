"""Writes the config of a recipe, as a person would have written it."""

from __future__ import annotations

from collections.abc import Sequence

from mmpoolformer.finetuning.classifier_config import ClassifierConfig
from mmpoolformer.finetuning.detector_config import MaskRCNNConfig, RetinaNetConfig
from mmpoolformer.finetuning.places import Places
from mmpoolformer.finetuning.recipe import Recipe
from mmpoolformer.finetuning.segmenter_config import SemanticFPNConfig

_WRITERS = {
    'retinanet': RetinaNetConfig,
    'mask_rcnn': MaskRCNNConfig,
    'fpn': SemanticFPNConfig,
    'classifier': ClassifierConfig,
}


def config_text(recipe: Recipe, classes: Sequence[str], places: Places) -> str:
    """Return the text of the config.

    Args:
        recipe: What was chosen.
        classes: Names of the classes.
        places: Where things are.
    """
    return _WRITERS[recipe.method](recipe, classes, places).text()
