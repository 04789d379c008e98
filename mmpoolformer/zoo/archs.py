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


_DEPTHS = {12: (2, 2, 6, 2), 24: (4, 4, 12, 4), 36: (6, 6, 18, 6), 48: (8, 8, 24, 8)}
_DIMS = {'s': (64, 128, 320, 512), 'm': (96, 192, 384, 768)}


def _poolformer(size, layer_scale, drop_path_rate, params, top1, gmacs) -> dict[str, Arch]:
    name = f'poolformer_{size}'
    release = 'https://github.com/sail-sg/poolformer/releases/download/v1.0'
    weights = {'in1k': Weights(f'{release}/{name}.pth.tar', 224, top1, gmacs)}
    shape = _DEPTHS[int(size[1:])], _DIMS[size[0]]
    return {name: Arch(*shape, layer_scale, drop_path_rate, params, weights)}


def _baseline(family, size, shape, drop_path_rate, params, gmacs, **top1) -> dict[str, Arch]:
    """Return one row; ``top1`` has an accuracy per tag, ``gmacs`` one value per image size."""
    name = f'{family}_{size}'
    folder = f'https://huggingface.co/sail/dl/resolve/main/{family}'
    endings = {
        'in1k': '',
        'in1k_384': '_384',
        'in21k_ft_in1k': '_in21ft1k',
        'in21k_ft_in1k_384': '_384_in21ft1k',
        'in21k': '_in21k',
    }
    weights = {}
    for tag, accuracy in top1.items():
        img_size = 384 if tag.endswith('384') else 224
        url = f'{folder}/{name}{endings[tag]}.pth'
        weights[tag] = Weights(url, img_size, accuracy, gmacs[img_size])
    return {name: Arch(*shape, None, drop_path_rate, params, weights)}


def _basic(family, size, drop_path_rate, params, gmacs, top1) -> dict[str, Arch]:
    shape = _DEPTHS[int(size[1:])], _DIMS[size[0]]
    return _baseline(family, size, shape, drop_path_rate, params, {224: gmacs}, in1k=top1)


def _common(family, size, shape, drop_path_rate, params, gmacs, top1) -> dict[str, Arch]:
    tags = ('in1k', 'in1k_384', 'in21k_ft_in1k', 'in21k_ft_in1k_384', 'in21k')
    scores = dict(zip(tags, (*top1, None), strict=True))
    gmacs = dict(zip((224, 384), gmacs, strict=True))
    return _baseline(family, size, shape, drop_path_rate, params, gmacs, **scores)


_S18 = (3, 3, 9, 3), (64, 128, 320, 512)
_S36 = (3, 12, 18, 3), (64, 128, 320, 512)
_M36 = (3, 12, 18, 3), (96, 192, 384, 576)
_B36 = (3, 12, 18, 3), (128, 256, 512, 768)

ARCHS: dict[str, Arch] = {
    **_poolformer('s12', 1e-5, 0.1, 11_915_176, 77.2, 1.8),
    **_poolformer('s24', 1e-5, 0.1, 21_388_968, 80.3, 3.4),
    **_poolformer('s36', 1e-6, 0.2, 30_862_760, 81.4, 5.0),
    **_poolformer('m36', 1e-6, 0.3, 56_172_520, 82.1, 8.8),
    **_poolformer('m48', 1e-6, 0.4, 73_473_448, 82.5, 11.6),
    **_basic('identityformer', 's12', 0.1, 11_891_712, 1.8, 74.6),
    **_basic('identityformer', 's24', 0.1, 21_341_464, 3.4, 78.2),
    **_basic('identityformer', 's36', 0.2, 30_791_216, 5.0, 79.3),
    **_basic('identityformer', 'm36', 0.3, 56_077_168, 8.8, 80.0),
    **_basic('identityformer', 'm48', 0.4, 73_346_056, 11.5, 80.4),
    **_basic('randformer', 's12', 0.1, 11_891_712, 1.9, 76.6),
    **_basic('randformer', 's24', 0.1, 21_341_464, 3.5, 78.2),
    **_basic('randformer', 's36', 0.2, 30_791_216, 5.2, 79.5),
    **_basic('randformer', 'm36', 0.3, 56_077_168, 9.0, 81.2),
    **_basic('randformer', 'm48', 0.3, 73_346_056, 11.9, 81.4),
    **_basic('poolformerv2', 's12', 0.1, 11_891_712, 1.8, 78.0),
    **_basic('poolformerv2', 's24', 0.1, 21_341_464, 3.4, 80.7),
    **_basic('poolformerv2', 's36', 0.2, 30_791_216, 5.0, 81.6),
    **_basic('poolformerv2', 'm36', 0.3, 56_077_168, 8.8, 82.2),
    **_basic('poolformerv2', 'm48', 0.4, 73_346_056, 11.5, 82.6),
    **_common(*('convformer', 's18', _S18, 0.2, 26_774_448, (3.9, 11.6)), (83.0, 84.4, 83.7, 85.0)),
    **_common(*('convformer', 's36', _S36, 0.3, 40_012_152, (7.6, 22.4)), (84.1, 85.4, 85.4, 86.4)),
    **_common(
        *('convformer', 'm36', _M36, 0.4, 57_051_640, (12.8, 37.7)), (84.5, 85.6, 86.1, 86.9)
    ),
    **_common(
        *('convformer', 'b36', _B36, 0.6, 99_882_616, (22.6, 66.5)), (84.8, 85.7, 87.0, 87.6)
    ),
    **_common(*('caformer', 's18', _S18, 0.15, 26_341_656, (4.1, 13.4)), (83.6, 85.0, 84.1, 85.4)),
    **_common(*('caformer', 's36', _S36, 0.3, 39_297_102, (8.0, 26.0)), (84.5, 85.7, 85.8, 86.9)),
    **_common(*('caformer', 'm36', _M36, 0.4, 56_204_878, (13.2, 42.0)), (85.2, 86.2, 86.6, 87.5)),
    **_common(*('caformer', 'b36', _B36, 0.6, 98_753_614, (23.2, 72.2)), (85.5, 86.4, 87.4, 88.1)),
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
