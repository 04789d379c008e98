"""The table of models: one row per variant, standard library only.

Numbers are those of "MetaFormer Is Actually What You Need for Vision" (arXiv 2111.11418), of
"MetaFormer Baselines for Vision" (arXiv 2210.13452) and of the authors' repositories
(sail-sg/poolformer, sail-sg/metaformer); tests recompute the parameter counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields


@dataclass(frozen=True)
class Weights:
    """One released checkpoint of an ImageNet classifier.

    Args:
        url: Address. None of the authors' releases publishes a hash.
        img_size: Side of the images it was last trained on, in pixels.
        top1: Published ImageNet-1K top-1 accuracy in percent, ``None`` for ImageNet-21K heads.
        gmacs: Published multiply-accumulates per image of that size, in units of 1e9.
    """

    url: str
    img_size: int = 224
    top1: float | None = None
    gmacs: float | None = None


@dataclass(frozen=True)
class Arch:
    """One variant of a MetaFormer.

    Args:
        depths: Blocks per stage.
        dims: Channels per stage.
        layer_scale: Initial value of LayerScale; ``None`` for a model without it.
        drop_path_rate: Stochastic depth rate of the ImageNet recipe (0 when fine-tuned on
            detection or segmentation).
        params: Parameters of the 1000-class ImageNet classifier, frozen ones left out.
        weights: Released checkpoints by tag, the one that a bare name means first.
    """

    depths: tuple[int, ...]
    dims: tuple[int, ...]
    layer_scale: float | None = 1e-5
    drop_path_rate: float = 0.0
    params: int | None = None
    weights: Mapping[str, Weights] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.depths) != 4 or len(self.dims) != 4:
            raise ValueError(
                f'depths={self.depths} and dims={self.dims}: a MetaFormer has four stages, so give '
                'four numbers each, e.g. depths=(2, 2, 6, 2), dims=(64, 128, 320, 512)'
            )
        for name, values in (('depths', self.depths), ('dims', self.dims)):
            if not all(isinstance(value, int) and value > 0 for value in values):
                raise ValueError(f'{name}={values}: every entry must be a positive integer')


# (depths, dims) by size. The first table is that of PoolFormer and of the later families with the
# same mixers throughout, the second that of ConvFormer and CAFormer.
_BASIC = {
    's12': ((2, 2, 6, 2), (64, 128, 320, 512)),
    's24': ((4, 4, 12, 4), (64, 128, 320, 512)),
    's36': ((6, 6, 18, 6), (64, 128, 320, 512)),
    'm36': ((6, 6, 18, 6), (96, 192, 384, 768)),
    'm48': ((8, 8, 24, 8), (96, 192, 384, 768)),
}
_COMMON = {
    's18': ((3, 3, 9, 3), (64, 128, 320, 512)),
    's36': ((3, 12, 18, 3), (64, 128, 320, 512)),
    'm36': ((3, 12, 18, 3), (96, 192, 384, 576)),
    'b36': ((3, 12, 18, 3), (128, 256, 512, 768)),
}
_POOLFORMERS = 'https://github.com/sail-sg/poolformer/releases/download/v1.0'
_BASELINES = 'https://huggingface.co/sail/dl/resolve/main'


def _poolformer(
    name: str, layer_scale: float, drop_path_rate: float, params: int, gmacs: float, top1: float
) -> dict[str, Arch]:
    """Return a row of the first paper, whose only weights are those of ImageNet-1K at 224 px."""
    depths, dims = _BASIC[name.removeprefix('poolformer_')]
    weights = {'in1k': Weights(f'{_POOLFORMERS}/{name}.pth.tar', top1=top1, gmacs=gmacs)}
    return {name: Arch(depths, dims, layer_scale, drop_path_rate, params, weights)}


def _basic(
    name: str, drop_path_rate: float, params: int, gmacs: float, top1: float
) -> dict[str, Arch]:
    """Return a row whose only weights are those of ImageNet-1K at 224 px."""
    family, size = name.split('_')
    depths, dims = _BASIC[size]
    weights = {'in1k': Weights(f'{_BASELINES}/{family}/{name}.pth', top1=top1, gmacs=gmacs)}
    return {name: Arch(depths, dims, None, drop_path_rate, params, weights)}


def _common(
    name: str,
    drop_path_rate: float,
    params: int,
    gmacs: tuple[float, float],
    top1: tuple[float, float, float, float],
) -> dict[str, Arch]:
    """Return a row of five checkpoints.

    Args:
        name: ``<family>_<size>``.
        drop_path_rate: Stochastic depth rate of the ImageNet recipe.
        params: Parameters of the 1000-class classifier.
        gmacs: At 224 and at 384 px.
        top1: Trained on ImageNet-1K, fine-tuned at 384 px, and both after ImageNet-21K.
    """
    family, size = name.split('_')
    depths, dims = _COMMON[size]
    prefix = f'{_BASELINES}/{family}/{name}'
    small, large = gmacs
    weights = {
        'in1k': Weights(f'{prefix}.pth', 224, top1[0], small),
        'in1k_384': Weights(f'{prefix}_384.pth', 384, top1[1], large),
        'in21k_ft_in1k': Weights(f'{prefix}_in21ft1k.pth', 224, top1[2], small),
        'in21k_ft_in1k_384': Weights(f'{prefix}_384_in21ft1k.pth', 384, top1[3], large),
        'in21k': Weights(f'{prefix}_in21k.pth', 224, None, small),
    }
    return {name: Arch(depths, dims, None, drop_path_rate, params, weights)}


ARCHS: dict[str, Arch] = {
    # name, layer_scale, drop_path_rate, params, gmacs, top1
    **_poolformer('poolformer_s12', 1e-5, 0.1, 11_915_176, 1.8, 77.2),
    **_poolformer('poolformer_s24', 1e-5, 0.1, 21_388_968, 3.4, 80.3),
    **_poolformer('poolformer_s36', 1e-6, 0.2, 30_862_760, 5.0, 81.4),
    **_poolformer('poolformer_m36', 1e-6, 0.3, 56_172_520, 8.8, 82.1),
    **_poolformer('poolformer_m48', 1e-6, 0.4, 73_473_448, 11.6, 82.5),
    # name, drop_path_rate, params, gmacs, top1
    **_basic('identityformer_s12', 0.1, 11_891_712, 1.8, 74.6),
    **_basic('identityformer_s24', 0.1, 21_341_464, 3.4, 78.2),
    **_basic('identityformer_s36', 0.2, 30_791_216, 5.0, 79.3),
    **_basic('identityformer_m36', 0.3, 56_077_168, 8.8, 80.0),
    **_basic('identityformer_m48', 0.4, 73_346_056, 11.5, 80.4),
    **_basic('randformer_s12', 0.1, 11_891_712, 1.9, 76.6),
    **_basic('randformer_s24', 0.1, 21_341_464, 3.5, 78.2),
    **_basic('randformer_s36', 0.2, 30_791_216, 5.2, 79.5),
    **_basic('randformer_m36', 0.3, 56_077_168, 9.0, 81.2),
    **_basic('randformer_m48', 0.3, 73_346_056, 11.9, 81.4),
    **_basic('poolformerv2_s12', 0.1, 11_891_712, 1.8, 78.0),
    **_basic('poolformerv2_s24', 0.1, 21_341_464, 3.4, 80.7),
    **_basic('poolformerv2_s36', 0.2, 30_791_216, 5.0, 81.6),
    **_basic('poolformerv2_m36', 0.3, 56_077_168, 8.8, 82.2),
    **_basic('poolformerv2_m48', 0.4, 73_346_056, 11.5, 82.6),
    # name, drop_path_rate, params, gmacs at 224 and 384 px, top1 by checkpoint
    **_common('convformer_s18', 0.2, 26_774_448, (3.9, 11.6), (83.0, 84.4, 83.7, 85.0)),
    **_common('convformer_s36', 0.3, 40_012_152, (7.6, 22.4), (84.1, 85.4, 85.4, 86.4)),
    **_common('convformer_m36', 0.4, 57_051_640, (12.8, 37.7), (84.5, 85.6, 86.1, 86.9)),
    **_common('convformer_b36', 0.6, 99_882_616, (22.6, 66.5), (84.8, 85.7, 87.0, 87.6)),
    **_common('caformer_s18', 0.15, 26_341_656, (4.1, 13.4), (83.6, 85.0, 84.1, 85.4)),
    **_common('caformer_s36', 0.3, 39_297_102, (8.0, 26.0), (84.5, 85.7, 85.8, 86.9)),
    **_common('caformer_m36', 0.4, 56_204_878, (13.2, 42.0), (85.2, 86.2, 86.6, 87.5)),
    **_common('caformer_b36', 0.6, 98_753_614, (23.2, 72.2), (85.5, 86.4, 87.4, 88.1)),
}


def get_arch(family: str | None, arch: str | Mapping) -> Arch:
    """Return the row of ``arch`` within ``family``.

    Args:
        family: First half of the model name, e.g. ``'poolformer'``; ``None`` for any.
        arch: Size (``'s12'``), full name (``'poolformer_s12'``), or a mapping with at least
            ``depths`` and ``dims`` for a variant of your own.

    Raises:
        ValueError: If the name is not in the table, or the mapping is incomplete.

    Example:
        >>> get_arch('poolformer', 's12').depths
        (2, 2, 6, 2)
    """
    if isinstance(arch, Mapping):
        allowed = {field.name for field in fields(Arch)}
        if not {'depths', 'dims'} <= set(arch) <= allowed:
            raise ValueError(
                f"arch={dict(arch)}: needs 'depths' and 'dims', and may hold {sorted(allowed)}"
            )
        row = {k: tuple(v) if k in ('depths', 'dims') else v for k, v in arch.items()}
        return Arch(**row)
    prefix = f'{family}_' if family else ''
    name = str(arch).lower()
    name = name if name.startswith(prefix) else prefix + name
    if name not in ARCHS:
        known = sorted(key.removeprefix(prefix) for key in ARCHS if key.startswith(prefix))
        raise ValueError(
            f'arch={arch!r} is no {family or "model of the table"}: choose one of {known}, '
            'or pass dict(depths=..., dims=...)'
        )
    return ARCHS[name]
