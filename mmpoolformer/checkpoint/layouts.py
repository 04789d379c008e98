"""Layouts: how each project names the parameters of a MetaFormer, and the way to our names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from mmpoolformer.checkpoint.errors import CheckpointError, first_keys


@dataclass(frozen=True)
class Layout:
    """How one project names the parameters of a MetaFormer.

    Args:
        name: Shown to the user.
        marker: Matches at least one key of this layout and of no other.
        rules: Pairs of a pattern for whole keys and its replacement; the first match wins.
    """

    name: str
    marker: str
    rules: tuple[tuple[str, str], ...]

    def rename(self, key: str) -> str | None:
        """Return our name for ``key``, ``None`` if this layout has no such key."""
        for pattern, replacement in self.rules:
            if match := re.fullmatch(pattern, key):
                return match.expand(replacement)
        return None


_WB = r'(weight|bias)'
_OURS = Layout(
    'mmpoolformer',
    r'stem\.conv\.weight',
    (
        (
            r'((?:stem|stages\.[1-3]\.downsample)\.conv\.(?:weight|bias)'
            r'|stages\.[0-3]\.blocks\.\d+\.(?:norm[12]|mlp\.fc[12])\.(?:weight|bias)'
            r'|stages\.[0-3]\.blocks\.\d+\.layer_scale[12]\.scale'
            r'|(?:norm[0-3]?|head)\.(?:weight|bias))',
            r'\1',
        ),
    ),
)
# sail-sg/poolformer: blocks and down-samplings alternate in one list, `network`.
_AUTHORS = Layout(
    'authors',
    r'network\.0\.0\.mlp\.fc1\.weight',
    (
        (rf'patch_embed\.proj\.{_WB}', r'stem.conv.\1'),
        *(
            (rf'network\.{2 * i - 1}\.proj\.{_WB}', rf'stages.{i}.downsample.conv.\1')
            for i in (1, 2, 3)
        ),
        *(
            (
                rf'network\.{2 * i}\.(\d+)\.layer_scale_([12])',
                rf'stages.{i}.blocks.\1.layer_scale\2.scale',
            )
            for i in range(4)
        ),
        *(
            (
                rf'network\.{2 * i}\.(\d+)\.(norm[12]|mlp\.fc[12])\.{_WB}',
                rf'stages.{i}.blocks.\1.\2.\3',
            )
            for i in range(4)
        ),
        # Only the authors' detectors and segmenters have these, one per output.
        *((rf'norm{2 * i}\.{_WB}', rf'norm{i}.\1') for i in range(4)),
        # Only their classifiers have these.
        (rf'(norm|head)\.{_WB}', r'\1.\2'),
    ),
)
LAYOUTS = (_OURS, _AUTHORS)


def detect_layout(state_dict: Mapping[str, Tensor]) -> Layout:
    """Return the layout of a backbone's or classifier's state dict.

    Raises:
        CheckpointError: If no known layout has such keys.
    """
    for layout in LAYOUTS:
        if any(re.fullmatch(layout.marker, key) for key in state_dict):
            return layout
    raise CheckpointError(
        f'these are no weights of a known layout ({", ".join(x.name for x in LAYOUTS)}): '
        f'the first keys are {first_keys(state_dict)}'
    )


def convert_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the keys of any known layout to ours.

    Pure and idempotent. A classifier's final norm and head keep the names ``norm`` and ``head``.

    Args:
        state_dict: Weights of a backbone or classifier, keys without a common prefix.

    Returns:
        The same tensors under the names of :class:`mmpoolformer.MetaFormer`.

    Raises:
        CheckpointError: If the layout is unknown, or a key is not part of it.
    """
    layout = detect_layout(state_dict)
    renamed = {key: layout.rename(key) for key in state_dict}
    unknown = [key for key, new in renamed.items() if new is None]
    if unknown:
        raise CheckpointError(
            f'layout {layout.name}: {len(unknown)} keys do not belong to it: {first_keys(unknown)}'
        )
    return {renamed[key]: tensor for key, tensor in state_dict.items()}


def convert_own_keys(module: nn.Module, state_dict: dict, prefix: str, *_) -> None:
    """Load-state-dict pre-hook of the backbone: rename foreign keys under its own prefix.

    It makes foreign layouts load through every route, as part of a detector too.
    """
    own = {k[len(prefix) :]: k for k in state_dict if k.startswith(prefix)}
    if not any(re.fullmatch(_AUTHORS.marker, key) for key in own):
        return
    for key, full_key in own.items():
        new = _AUTHORS.rename(key)
        if new is not None and new != key:
            state_dict[f'{prefix}{new}'] = state_dict.pop(full_key)
