"""Are the weight files there, and are they weights? Their first bytes tell, nothing is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmpoolformer.checkpoint.fetching import HUB_SCHEME
from mmpoolformer.checkpoint.first_bytes import find_fault
from mmpoolformer.config_reading import as_list, is_remote
from mmpoolformer.preflight.problem import Problem


def check_weights(cfg: Mapping[str, Any], checkpoint: str | None) -> list[Problem]:
    """Return what is wrong with every local weight file that the run would read.

    Args:
        cfg: The config as plain dicts: ``load_from`` and each ``init_cfg`` of type 'Pretrained'.
        checkpoint: The file given on the command line, if any.
    """
    wanted = {} if checkpoint is None else {checkpoint: 'command line'}
    if isinstance(cfg.get('load_from'), str) and cfg['load_from']:
        wanted.setdefault(cfg['load_from'], 'load_from')
    for path, key in _pretrained(cfg.get('model'), 'model'):
        wanted.setdefault(path, key)
    local = {p: key for p, key in wanted.items() if not (is_remote(p) or p.startswith(HUB_SCHEME))}
    found = {key: fault for path, key in local.items() if (fault := find_fault(path))}
    return [Problem(f'{key}: {fault.what}', fault.cure) for key, fault in found.items()]


def _pretrained(node: object, key: str) -> Iterator[tuple[str, str]]:
    """Yield (path, config key) of each ``dict(type='Pretrained', checkpoint=...)`` in the model."""
    if isinstance(node, (list, tuple)):
        for i, item in enumerate(node):
            yield from _pretrained(item, f'{key}.{i}')
    elif isinstance(node, Mapping):
        for init in as_list(node.get('init_cfg')):
            named = isinstance(init, Mapping) and str(init.get('type')).endswith('Pretrained')
            if named and isinstance(init.get('checkpoint'), str):
                yield init['checkpoint'], f'{key}.init_cfg.checkpoint'
        for name, child in node.items():
            if name != 'init_cfg':
                yield from _pretrained(child, f'{key}.{name}')
