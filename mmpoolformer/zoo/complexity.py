"""Parameters and multiply-accumulates of the classifier, detector or segmenter of a config."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

# (H, W) of the images that models are compared at, by the library they belong to.
IMAGE_SIZES = {'mmpretrain': (224, 224), 'mmdet': (800, 1280), 'mmseg': (512, 512)}


@dataclass(frozen=True)
class Complexity:
    """Size and cost of one model.

    Args:
        params: Parameters, frozen ones included.
        trainable: Parameters that are trained.
        macs: Multiply-accumulates for one image in convolutions, linear layers and attention.
    """

    params: int
    trainable: int
    macs: int


def measure(cfg: Config, size: tuple[int, int] | None = None) -> Complexity:
    """Count parameters and multiply-accumulates of the model of a config.

    Nothing is computed: the model lives on the meta device, so any size takes a second. Norms,
    activations and pooling are left out, as in most of the literature; fvcore, which counts norms,
    finds up to 0.8 % more.

    Args:
        cfg: A config of mmdetection, mmsegmentation or mmpretrain.
        size: Height and width of the image, by default the entry of :data:`IMAGE_SIZES`.
    """
    model = build_on_meta(cfg).eval()
    images = torch.empty(1, 3, *(size or IMAGE_SIZES[cfg.default_scope]), device='meta')
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        _raw_outputs(model, images)
    return Complexity(
        params=sum(p.numel() for p in model.parameters()),
        trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
        macs=counter.get_total_flops() // 2,
    )


def build_on_meta(cfg: Config) -> nn.Module:
    """Build the model of a config on the meta device: all shapes, no numbers."""
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        try:
            with torch.device('meta'), _WithoutValues():
                model = MODELS.build(cfg.model)
        except RuntimeError:  # Constructors such as PVT's read numbers from tensors.
            model = MODELS.build(cfg.model).to('meta')
    return revert_sync_batchnorm(model)


class _WithoutValues(TorchFunctionMode):
    """Skips what would fill tensors on the meta device with numbers: slow there, without effect."""

    FILLING = frozenset(('uniform_', 'normal_', 'erfinv_', 'mul_', 'add_', 'clamp_', 'zero_'))

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, '__name__', '') in self.FILLING and args and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


def _raw_outputs(model: nn.Module, images: Tensor) -> object:
    """Run all layers once, without what depends on the content of images.

    Of the proposals of a two-stage detector 1000 boxes and 100 masks count, as in mmdetection 2.
    """
    features = model.extract_feat(images)
    if hasattr(model, 'roi_head'):
        roi = model.roi_head
        width = roi.bbox_roi_extractor.out_channels
        boxes = images.new_empty(1000, width, *roi.bbox_head.roi_feat_size)
        masks = images.new_empty(100, width, *roi.mask_head.roi_feat_size)
        return model.rpn_head(features), roi.bbox_head(boxes), roi.mask_head(masks)
    for name in ('bbox_head', 'decode_head', 'head'):
        if hasattr(model, name):
            return getattr(model, name)(features)
    raise ValueError(f'{type(model).__name__} has no head that is known here')
