"""Do the neck and the heads take as many channels as the backbone gives?"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from mmpoolformer.config_reading import as_list, get, type_name
from mmpoolformer.preflight.problem import Problem, some
from mmpoolformer.zoo.archs import get_arch

# Necks of mmdet and mmseg whose `in_channels` name every map of the backbone, in its order.
_PYRAMIDS = ('FPN', 'PAFPN', 'FPN_CARAFE', 'YOLOXPAFPN', 'CSPNeXtPAFPN', 'ChannelMapper')


def check_channels(cfg: Mapping[str, Any]) -> list[Problem]:
    """Return the settings that do not fit the maps of a backbone of this package.

    PyTorch would say so in the first iteration, as sizes of tensors that do not match. Only what
    is certain is reported: other backbones, necks and heads are left alone.

    Example:
        >>> backbone = {'type': 'mmpoolformer.PoolFormer', 'arch': 'm36', 'out_indices': (2, 3)}
        >>> neck = {'type': 'FPN', 'in_channels': [320, 512]}
        >>> print(check_channels({'model': {'backbone': backbone, 'neck': neck}})[0].what)
        model.backbone (PoolFormer) gives maps of 384, 768 channels, but the model expects others:
          model.neck.in_channels=[320, 512]
    """
    model = cfg.get('model')
    dims, maps = _widths(get(model, 'backbone'))
    wrong = {}
    for key, expected in _expected(model, maps) if maps else ():
        given = get(model, key)
        given = list(given) if isinstance(given, tuple) else given
        if given is not None and given != expected:
            wrong[key] = given, expected
    if not wrong:
        return []
    what = f'model.backbone ({type_name(model["backbone"])}) gives maps of {some(maps)} channels, '
    lines = [f'  model.{key}={given}' for key, (given, _) in wrong.items()]
    cures = {key: expected for key, (_, expected) in wrong.items()}
    given = as_list(get(model, 'neck.in_channels'))
    stages = [i for i, dim in enumerate(dims) if dim in given]
    if 'neck.in_channels' in cures and [dims[i] for i in stages] == given:
        # The widths are this backbone's: it only gives the maps of other stages.
        cures = {'backbone.out_indices': stages, **cures}
        del cures['neck.in_channels']
    options = [shlex.quote(f'model.{key}={value}'.replace(' ', '')) for key, value in cures.items()]
    return [
        Problem(
            '\n'.join([f'{what}but the model expects others:', *lines]),
            'Make them fit, in the config or on the command line:\n'
            f'  --cfg-options {" ".join(options)}',
        )
    ]


def _widths(node: object) -> tuple[tuple[int, ...], list[int]]:
    """Return the channels of all four stages and of the maps that a backbone gives, if known."""
    family = type_name(node).lower()
    if not str(get(node, 'type')).startswith('mmpoolformer.'):
        return (), []
    try:
        dims = get_arch(None if family == 'metaformer' else family, get(node, 'arch')).dims
        return dims, [dims[i] for i in as_list(node.get('out_indices', (0, 1, 2, 3)))]
    except (IndexError, TypeError, ValueError):  # Building it will say what is wrong.
        return (), []


def _expected(model: Mapping[str, Any], maps: list[int]) -> Iterator[tuple[str, Any]]:
    """Yield each setting of the model that must fit, and the value that would."""
    neck, kind = model.get('neck'), type_name(model.get('neck'))
    pooled = maps[-1] if kind == 'GlobalAveragePooling' else None
    if kind in _PYRAMIDS:
        yield 'neck.in_channels', maps
    elif kind == 'ClassifierNeck':
        yield 'neck.dim', maps[-1]
        ratio = neck.get('mlp_ratio')
        pooled = int(maps[-1] * ratio) if isinstance(ratio, (int, float)) else maps[-1]
    if pooled and type_name(model.get('head')) == 'LinearClsHead':
        yield 'head.in_channels', pooled
    # mmseg's heads name the maps that they take: the backbone's, or the neck's.
    levels = maps if not neck else []
    if kind == 'FPN' and get(neck, 'out_channels'):
        levels = [neck['out_channels']] * 4
    index = get(model, 'decode_head.in_index')
    taken = [levels[i] for i in as_list(index) if isinstance(i, int) and 0 <= i < len(levels)]
    if taken and len(taken) == len(as_list(index)):
        yield 'decode_head.in_channels', taken if isinstance(index, (list, tuple)) else taken[0]
