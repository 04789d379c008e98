"""Models by name, as timm has them."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

from mmpoolformer.checkpoint import load_pretrained
from mmpoolformer.models.families import FAMILIES
from mmpoolformer.models.metaformer import MetaFormer
from mmpoolformer.zoo.archs import ARCHS


def list_models(pattern: str = '*', *, pretrained: bool = False) -> list[str]:
    """List the models that :func:`create_model` knows.

    Args:
        pattern: Shell pattern that names must fit, with or without a tag.
        pretrained: Whether to list released weights, ``<model>.<tag>``, and not models.

    Example:
        >>> list_models('poolformer_s*')
        ['poolformer_s12', 'poolformer_s24', 'poolformer_s36']
        >>> list_models('caformer_s18*384', pretrained=True)
        ['caformer_s18.in1k_384', 'caformer_s18.in21k_ft_in1k_384']
    """
    names = list(ARCHS)
    if pretrained:
        names = [f'{name}.{tag}' for name in names for tag in ARCHS[name].weights]
    return [name for name in names if fnmatch(name, pattern) or fnmatch(name, f'{pattern}.*')]


def create_model(name: str, pretrained: bool | str | Path = False, **options: object) -> MetaFormer:
    """Build a backbone by name, with the authors' ImageNet weights or others if asked.

    Args:
        name: A model such as ``'poolformer_s12'``, or released weights of it such as
            ``'caformer_s18.in1k_384'``, see :func:`list_models`.
        pretrained: ``True`` for the weights that ``name`` means, which are downloaded once; or a
            file, an address or another name, see :func:`mmpoolformer.load_pretrained`.
        **options: Arguments of the backbone's class, such as ``out_indices=(1, 2, 3)``.

    Raises:
        ValueError: If there is no model or no weights of that name; the message says what there is.
        TypeError: If the backbone has no such option.
        CheckpointError: If the weights cannot be had or do not fit.

    Example:
        >>> create_model('caformer_s18', out_indices=3).out_channels
        (512,)
    """
    model, _, tag = name.partition('.')
    if model not in ARCHS:
        raise ValueError(f'{name!r} is no model: choose one of {", ".join(ARCHS)}')
    if tag and tag not in ARCHS[model].weights:
        known = ', '.join(list_models(model, pretrained=True))
        raise ValueError(f'{name!r}: there are no such weights; choose one of {known}')
    backbone = FAMILIES[model.split('_')[0]](arch=model, **options)
    if pretrained:
        load_pretrained(backbone, f'metaformer://{name}' if pretrained is True else pretrained)
    return backbone
