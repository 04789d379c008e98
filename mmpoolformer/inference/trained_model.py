"""A trained model applied to image files: predictions, feature maps, class activation maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DATASETS, MODELS, DefaultScope
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from mmpoolformer.checkpoint import load_weights
from mmpoolformer.config_reading import datasets, heads, plain, type_name
from mmpoolformer.models import MetaFormer
from mmpoolformer.vis.images import FeatureMap
from mmpoolformer.vis.overlay import distinct_colours
from mmpoolformer.vis.scene import Scene

# Classes of grad-cam that take a model and its layers, and ask for one class.
CAM_METHODS = {
    'gradcam': 'GradCAM',
    'gradcam++': 'GradCAMPlusPlus',
    'hirescam': 'HiResCAM',
    'layercam': 'LayerCAM',
    'xgradcam': 'XGradCAM',
}


class ImageError(Exception):
    """A file that is no image, or none that the model can take; the message says why."""


class ModelError(Exception):
    """A model that does not do what is asked of it; the message says why."""


@dataclass
class Sample:
    """One image on its way through a model.

    Args:
        image: The file's content, RGB, ``(H, W, 3)``, 0 to 255; predictions are in its pixels.
        seen: The same as the network sees it, resized and cropped, ``(h, w, 3)``.
        inputs: Normalised and padded, ``(1, C, h', w')``.
        data_samples: What the library notes about the image.
    """

    image: np.ndarray
    seen: np.ndarray
    inputs: Tensor
    data_samples: list


class TrainedModel:
    """A detector, segmenter or classifier with its weights, in eval mode.

    The libraries' own inference functions load what fits of a checkpoint and leave the rest; this
    loads all of it or raises.

    Args:
        cfg: A complete config; its test pipeline prepares the images.
        checkpoint: Path, address or name, see :func:`mmpoolformer.checkpoint.fetch`.
        device: Where to run.

    Attributes:
        classes (list[str]): Names, from the checkpoint if it has them, else from the config.
        palette (list[tuple[int, int, int]]): RGB colour of each class, 0 to 255.

    Raises:
        CheckpointError: If the file cannot be read, or any key or shape differs.
        ModelError: If the config has no test pipeline.
    """

    def __init__(self, cfg: Config, checkpoint: str | Path, device: str = 'cpu') -> None:
        scope = cfg.get('default_scope') or 'mmengine'
        with DefaultScope.overwrite_default_scope(scope):
            self.model = MODELS.build(cfg.model)
        saved = load_weights(self.model, checkpoint).get('meta') or {}
        self.model.to(device).eval()

        tree = plain(cfg)
        dataset = next((d.options for d in datasets(tree, 'test') if d.options.get('pipeline')), {})
        if not dataset:
            raise ModelError('test_dataloader.dataset has no pipeline, which prepares the images')
        # There are no annotations to load.
        steps = [s for s in dataset['pipeline'] if not type_name(s).endswith('Annotations')]
        with DefaultScope.overwrite_default_scope(scope):
            self._pipeline = Compose(steps)
        info = {
            **_default_metainfo(dataset, scope),
            **(dataset.get('metainfo') or {}),
            **(saved.get('dataset_meta') or {}),
        }
        names = list(info.get('classes') or [])
        count = max(heads(tree).values(), default=0)
        self.classes = names + [f'class {i}' for i in range(len(names), count)]
        palette = list(info.get('palette') or [])
        fits = len(palette) >= len(self.classes)
        self.palette = palette if fits else distinct_colours(len(self.classes))

    def load(self, path: str | Path) -> Sample:
        """Read an image and prepare it as the config's test pipeline does.

        Raises:
            ImageError: If it cannot be read or is smaller than 4 pixels.
        """
        image = _read_image(path)
        # mmdet's pipelines ask for an id.
        batch = pseudo_collate([self._pipeline(dict(img_path=str(path), img_id=0))])
        seen = batch['inputs'][0].numpy().transpose(1, 2, 0)
        data = self.model.data_preprocessor(batch, False)
        if min(data['inputs'].shape[2:]) < 4:
            height, width = image.shape[:2]
            raise ImageError(f'{width}x{height} pixels are too few: the stem takes steps of 4')
        # OpenMMLab's images are BGR until the data preprocessor.
        seen = np.broadcast_to(seen[..., ::-1], (*seen.shape[:2], 3))
        return Sample(image, seen, data['inputs'], data['data_samples'])

    @torch.no_grad()
    def scores(self, sample: Sample) -> np.ndarray:
        """Return a classifier's scores, ``(classes,)``.

        Raises:
            ModelError: If the model gives none.
        """
        (result,) = self.model(sample.inputs, sample.data_samples, mode='predict')
        if 'pred_score' not in result:
            raise ModelError(f'{type(self.model).__name__} gives images no scores')
        return result.pred_score.cpu().numpy()

    @torch.no_grad()
    def scene(self, sample: Sample, score_thr: float = 0.3) -> Scene:
        """Return what a detector or segmenter finds, the least certain first.

        Args:
            sample: The image.
            score_thr: Boxes of lower scores are left out.

        Raises:
            ModelError: If the model finds neither boxes nor classes of pixels.
        """
        (result,) = self.model(sample.inputs, sample.data_samples, mode='predict')
        if 'pred_sem_seg' in result:
            return Scene(label_map=result.pred_sem_seg.data[0].cpu().numpy())
        if 'pred_instances' not in result:
            raise ModelError(f'{type(self.model).__name__} finds neither boxes nor segments')
        found = result.pred_instances.cpu()
        found = found[found.scores >= score_thr]
        found = found[found.scores.argsort()]  # Drawn last, the most certain stay visible.
        return Scene(
            boxes=found.bboxes.numpy(),
            labels=found.labels.numpy(),
            scores=found.scores.numpy(),
            masks=found.masks.numpy() if 'masks' in found else None,
        )

    @torch.no_grad()
    def features(self, sample: Sample) -> list[FeatureMap]:
        """Return the backbone's outputs, one for each of its ``out_indices``."""
        backbone = self.model.backbone
        outputs = backbone(sample.inputs)
        stages = getattr(backbone, 'out_indices', range(len(outputs)))
        strides = getattr(backbone, 'out_strides', [None] * len(outputs))
        size = tuple(sample.inputs.shape[2:])
        return [
            FeatureMap(stage, stride, output[0].cpu().numpy(), size)
            for stage, stride, output in zip(stages, strides, outputs, strict=True)
        ]

    def last_useful_stage(self, sample: Sample) -> int:
        """Return the last stage whose map of the image has four steps or more on each side."""
        side = min(sample.seen.shape[:2])
        return max((i for i in (1, 2, 3) if side >= 4 * 2 ** (i + 2)), default=1)

    def activation_map(
        self, sample: Sample, label: int, method: str = 'gradcam', stage: int = 3
    ) -> np.ndarray:
        """Return where a classifier sees a class, with the grad-cam library.

        The layer is the output of a stage's last block; in the authors' script that of stage 3.

        Args:
            sample: The image.
            label: Index of the class.
            method: One of :data:`CAM_METHODS`.
            stage: Index of the stage; earlier ones are finer and less specific.

        Returns:
            ``(h, w)``, 0 to 1, for ``sample.seen``.

        Raises:
            ImportError: If grad-cam is not installed.
            ModelError: If the backbone is not one of this package.
        """
        import pytorch_grad_cam
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        backbone = self.model.backbone
        if not isinstance(backbone, MetaFormer):
            raise ModelError(
                f'{type(backbone).__name__} is no backbone of mmpoolformer: which layer to look at '
                'is not known'
            )
        method = getattr(pytorch_grad_cam, CAM_METHODS[method])
        # With a frozen backbone nothing but the image asks for gradients.
        inputs = sample.inputs.detach().requires_grad_()
        with method(model=self.model, target_layers=[backbone.stages[stage]]) as cam:
            heat = cam(inputs, [ClassifierOutputTarget(label)])[0]
        height, width = sample.seen.shape[:2]
        return heat[:height, :width]


def _default_metainfo(dataset: Mapping, scope: str) -> dict:
    """Return the class names and colours that a data set's class has by default."""
    kind = dataset['type']
    return getattr(DATASETS.get(kind if '.' in kind else f'{scope}.{kind}'), 'METAINFO', {})


def _read_image(path: str | Path) -> np.ndarray:
    try:
        # OpenCV makes up what is missing of a damaged file; Pillow says so.
        with Image.open(path) as picture:
            picture.load()
        return mmcv.imread(str(path), channel_order='rgb')
    except UnidentifiedImageError:
        raise ImageError('its content is no image') from None
    except Exception as error:  # Decoding arbitrary bytes can fail in any way.
        raise ImageError((str(error) or type(error).__name__).splitlines()[0]) from None
