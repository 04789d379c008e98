"""The table of models: one row per variant, standard library only.

Numbers are those of "MetaFormer Is Actually What You Need for Vision" (arXiv 2111.11418), Table 1
and 2, and of the authors' repository (sail-sg/poolformer); tests recompute the parameter counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

_RELEASE = 'https://github.com/sail-sg/poolformer/releases/download/v1.0'


@dataclass(frozen=True)
class Arch:
    """One variant of a MetaFormer.

    Args:
        depths: Blocks per stage.
        dims: Channels per stage.
        layer_scale: Initial value of LayerScale; ``None`` for a model without it.
        drop_path_rate: Stochastic depth rate of the ImageNet recipe (0 when fine-tuned on
            detection or segmentation).
        params: Parameters of the 1000-class ImageNet classifier.
        top1: Published ImageNet-1K top-1 accuracy in percent.
        gmacs: Published multiply-accumulates of one 224 x 224 image, in units of 1e9.
        weights: Address of the released ImageNet-1K checkpoint.
    """

    depths: tuple[int, ...]
    dims: tuple[int, ...]
    layer_scale: float | None = 1e-5
    drop_path_rate: float = 0.0
    params: int | None = None
    top1: float | None = None
    gmacs: float | None = None
    weights: str | None = None

    def __post_init__(self) -> None:
        if len(self.depths) != 4 or len(self.dims) != 4:
            raise ValueError(
                f'depths={self.depths} and dims={self.dims}: a MetaFormer has four stages, so give '
                'four numbers each, e.g. depths=(2, 2, 6, 2), dims=(64, 128, 320, 512)'
            )
        for name, values in (('depths', self.depths), ('dims', self.dims)):
            if not all(isinstance(value, int) and value > 0 for value in values):
                raise ValueError(f'{name}={values}: every entry must be a positive integer')


_S, _M = (64, 128, 320, 512), (96, 192, 384, 768)


def _poolformer(depths, dims, layer_scale, drop_path_rate, params, top1, gmacs, size) -> Arch:
    weights = f'{_RELEASE}/poolformer_{size}.pth.tar'
    return Arch(depths, dims, layer_scale, drop_path_rate, params, top1, gmacs, weights)


ARCHS: dict[str, Arch] = {
    'poolformer_s12': _poolformer((2, 2, 6, 2), _S, 1e-5, 0.1, 11_915_176, 77.2, 1.8, 's12'),
    'poolformer_s24': _poolformer((4, 4, 12, 4), _S, 1e-5, 0.1, 21_388_968, 80.3, 3.4, 's24'),
    'poolformer_s36': _poolformer((6, 6, 18, 6), _S, 1e-6, 0.2, 30_862_760, 81.4, 5.0, 's36'),
    'poolformer_m36': _poolformer((6, 6, 18, 6), _M, 1e-6, 0.3, 56_172_520, 82.1, 8.8, 'm36'),
    'poolformer_m48': _poolformer((8, 8, 24, 8), _M, 1e-6, 0.4, 73_473_448, 82.5, 11.6, 'm48'),
}


def get_arch(family: str, arch: str | Mapping) -> Arch:
    """Return the row of ``arch`` within ``family``.

    Args:
        family: First half of the model name, e.g. ``'poolformer'``.
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
    sizes = {name.removeprefix(f'{family}_') for name in ARCHS if name.startswith(f'{family}_')}
    size = str(arch).lower().removeprefix(f'{family}_')
    if size not in sizes:
        raise ValueError(
            f'arch={arch!r} is not a {family}: choose one of {sorted(sizes)}, '
            'or pass dict(depths=..., dims=...)'
        )
    return ARCHS[f'{family}_{size}']
