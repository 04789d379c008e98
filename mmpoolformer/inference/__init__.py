"""Trained models on pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mmengine.config import Config

if TYPE_CHECKING:
    from mmpoolformer.inference.trained_model import TrainedModel


def load_model(
    config: str | Path | Config, checkpoint: str | Path, device: str = 'cpu'
) -> TrainedModel:
    """Load a trained detector, segmenter or classifier, all of its weights or none.

    Args:
        config: A complete config, or its file.
        checkpoint: Path, address or name such as ``metaformer://poolformer_s12``.
        device: Where it shall run, e.g. ``'cuda:0'``.

    Raises:
        CheckpointError: If the checkpoint cannot be read, or any key or shape differs.
        ModelError: If the config has no test pipeline.
    """
    # Not before it is needed: drawing and grad-cam take a second to import.
    from mmpoolformer.inference.trained_model import TrainedModel

    if not isinstance(config, Config):
        config = Config.fromfile(config)
    return TrainedModel(config, checkpoint, device)
