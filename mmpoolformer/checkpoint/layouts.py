"""Layouts: how each project names the parameters of a MetaFormer, and the way to our names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn

from mmpoolformer.checkpoint.errors import CheckpointError, first_keys

# The fields of a rule's templates. Every other character stands for itself.
_FIELDS = {
    'b': r'\d+',  # block
    'n': '[12]',  # first or second of two
    'p': r'\w+',  # weight, bias, running_mean, ...
    'part': r'(?:norm[12]|token_mixer|mlp|layer_scale[12]|res_scale[12])(?:\.\w+)+',
    'head': r'\w+(?:\.\w+)*',
}


@dataclass(frozen=True)
class Layout:
    """How one project names the parameters of a MetaFormer.

    Args:
        name: Shown to the user.
        markers: Patterns that each match a key of this layout, all together of no other that comes
            later in :data:`LAYOUTS`.
        rules: Pairs of templates, their name and ours, with the fields above.
        linear: Pattern of our keys whose 1x1 convolutions they keep as matrices.
        prefix: Common prefix of their keys that some files lack.
        unless: Pattern of a key that shows another layout in spite of the markers.
    """

    name: str
    markers: tuple[str, ...]
    rules: tuple[tuple[str, str], ...]
    linear: str = '(?!)'
    prefix: str = ''
    unless: str = '(?!)'

    def matches(self, state_dict: Mapping[str, object]) -> bool:
        """Return whether the keys are unmistakably of this layout."""
        return all(_any(pattern, state_dict) for pattern in self.markers) and not _any(
            self.unless, state_dict
        )

    def rename(self, key: str) -> str | None:
        """Return our name for ``key``, ``None`` if this layout has no such key."""
        return _first_match(self._to_ours, key) or _first_match(self._to_ours, self.prefix + key)

    def rename_back(self, key: str) -> str | None:
        """Return this layout's name for our ``key``, ``None`` if it has none."""
        return _first_match(self._from_ours, key)

    @cached_property
    def _to_ours(self) -> list[tuple[re.Pattern, str]]:
        return [(_pattern(theirs), _replacement(ours)) for theirs, ours in self.rules]

    @cached_property
    def _from_ours(self) -> list[tuple[re.Pattern, str]]:
        return [(_pattern(ours), _replacement(theirs)) for theirs, ours in self.rules]


def _any(pattern: str, keys: Iterable[str]) -> bool:
    return any(re.fullmatch(pattern, key) for key in keys)


def _pattern(template: str) -> re.Pattern:
    pattern = re.escape(template)
    for name, field in _FIELDS.items():
        pattern = pattern.replace(rf'\{{{name}\}}', f'(?P<{name}>{field})')
    return re.compile(pattern)


def _replacement(template: str) -> str:
    return re.sub(r'\{(\w+)\}', r'\\g<\1>', template)


def _first_match(rules: list[tuple[re.Pattern, str]], key: str) -> str | None:
    for pattern, replacement in rules:
        if match := pattern.fullmatch(key):
            return match.expand(replacement)
    return None


def _stages(theirs: str, ours: str, first: int = 0) -> tuple[tuple[str, str], ...]:
    """Write a rule out for each stage: ``<i>`` its index, ``<2i>`` and ``<2i-1>`` twice that."""
    rules = []
    for i in range(first, 4):
        numbers = {'<i>': str(i), '<2i>': str(2 * i), '<2i-1>': str(2 * i - 1)}
        pair = [theirs, ours]
        for field, number in numbers.items():
            pair = [side.replace(field, number) for side in pair]
        rules.append(tuple(pair))
    return tuple(rules)


_BODY = (
    ('stem.conv.{p}', 'stem.conv.{p}'),
    ('stem.norm.{p}', 'stem.norm.{p}'),
    *_stages('stages.<i>.downsample.conv.{p}', 'stages.<i>.downsample.conv.{p}', first=1),
    *_stages('stages.<i>.downsample.norm.{p}', 'stages.<i>.downsample.norm.{p}', first=1),
    *_stages('stages.<i>.blocks.{b}.{part}', 'stages.<i>.blocks.{b}.{part}'),
)
_OURS = Layout(
    'mmpoolformer',
    (r'stem\.conv\.weight',),
    (
        *_BODY,
        *_stages('norm<i>.{p}', 'norm<i>.{p}'),
        ('norm.{p}', 'norm.{p}'),
        ('head.{head}', 'head.{head}'),
    ),
)
# timm names a body as we do. Where tokens mix by attention, its MLPs are matrices.
_TIMM = Layout(
    'timm',
    (r'stem\.conv\.weight', r'head\.norm\.weight'),
    (*_BODY, ('head.norm.{p}', 'norm.{p}'), ('head.fc.{head}', 'head.{head}')),
    unless=r'head\.fc1\.weight',  # The MLP head under our names has a norm, too.
)
_NETWORK = (
    ('patch_embed.proj.{p}', 'stem.conv.{p}'),
    *_stages('network.<2i-1>.proj.{p}', 'stages.<i>.downsample.conv.{p}', first=1),
    *_stages('network.<2i>.{b}.layer_scale_{n}', 'stages.<i>.blocks.{b}.layer_scale{n}.scale'),
    *_stages('network.<2i>.{b}.norm{n}.{p}', 'stages.<i>.blocks.{b}.norm{n}.{p}'),
    *_stages('network.<2i>.{b}.mlp.fc{n}.{p}', 'stages.<i>.blocks.{b}.mlp.fc{n}.{p}'),
)
# sail-sg/poolformer: blocks and down-samplings alternate in one list, `network`.
_AUTHORS = Layout(
    'authors',
    (r'network\.0\.0\.mlp\.fc1\.weight',),
    (
        *_NETWORK,
        # Only the authors' detectors and segmenters have these, one per output.
        *_stages('norm<2i>.{p}', 'norm<i>.{p}'),
        # Only their classifiers have these.
        ('norm.{p}', 'norm.{p}'),
        ('head.{p}', 'head.{p}'),
    ),
)
_BASELINES = Layout(
    'authors-baselines',
    (r'downsample_layers\.0\.conv\.weight',),
    (
        ('downsample_layers.0.conv.{p}', 'stem.conv.{p}'),
        ('downsample_layers.0.post_norm.{p}', 'stem.norm.{p}'),
        *_stages('downsample_layers.<i>.conv.{p}', 'stages.<i>.downsample.conv.{p}', first=1),
        *_stages('downsample_layers.<i>.pre_norm.{p}', 'stages.<i>.downsample.norm.{p}', first=1),
        *_stages('stages.<i>.{b}.{part}', 'stages.<i>.blocks.{b}.{part}'),
        ('norm.{p}', 'norm.{p}'),
        ('head.{head}', 'head.{head}'),
    ),
    linear=r'.*\.(mlp\.fc[12]|token_mixer\.pwconv[12])\.weight',
)
# mmpretrain's classifiers: the final norm is that of the last output of the backbone. Without a
# head, as in a detector, its backbone is named as the authors' is.
_MMPRETRAIN = Layout(
    'mmpretrain',
    (r'backbone\.network\.0\.0\.mlp\.fc1\.weight', r'head\.fc\.weight'),
    (
        *((f'backbone.{theirs}', ours) for theirs, ours in _NETWORK),
        ('backbone.norm6.{p}', 'norm.{p}'),
        ('head.fc.{p}', 'head.{p}'),
    ),
)
_TRANSFORMERS = Layout(
    'transformers',
    (r'(poolformer\.)?encoder\.block\.0\.0\.output\.conv1\.weight',),
    (
        ('poolformer.encoder.patch_embeddings.0.projection.{p}', 'stem.conv.{p}'),
        *_stages(
            'poolformer.encoder.patch_embeddings.<i>.projection.{p}',
            'stages.<i>.downsample.conv.{p}',
            first=1,
        ),
        *(
            rule
            for theirs, ours in (
                ('layer_scale_{n}', 'layer_scale{n}.scale'),
                ('before_norm.{p}', 'norm1.{p}'),
                ('after_norm.{p}', 'norm2.{p}'),
                ('output.conv{n}.{p}', 'mlp.fc{n}.{p}'),
            )
            for rule in _stages(
                f'poolformer.encoder.block.<i>.{{b}}.{theirs}', f'stages.<i>.blocks.{{b}}.{ours}'
            )
        ),
        ('norm.{p}', 'norm.{p}'),
        ('classifier.{p}', 'head.{p}'),
    ),
    prefix='poolformer.',
)
LAYOUTS = (_TIMM, _OURS, _AUTHORS, _BASELINES, _MMPRETRAIN, _TRANSFORMERS)
# Where our names are in mmpretrain's ImageClassifier with a head that is one linear layer: what
# comes before that layer in an MLP head is part of the neck.
_IN_CLASSIFIER = (
    ('head.fc1.{p}', 'neck.mlp.fc1.{p}'),
    ('head.norm.{p}', 'neck.mlp.norm.{p}'),
    ('head.fc2.{p}', 'head.fc.{p}'),
    ('head.{p}', 'head.fc.{p}'),
    *((ours, f'backbone.{ours}') for _, ours in _BODY),
    *_stages('norm<i>.{p}', 'backbone.norm<i>.{p}'),
)


def find_layout(name: str) -> Layout:
    """Return a layout by name.

    Raises:
        ValueError: If there is none of that name.
    """
    for layout in LAYOUTS:
        if layout.name == name:
            return layout
    raise ValueError(f'layout {name!r}: choose one of {[layout.name for layout in LAYOUTS]}')


def detect_layout(state_dict: Mapping[str, Tensor]) -> Layout:
    """Return the layout of a state dict, also that of the backbone in a detector.

    Raises:
        CheckpointError: If no known layout has such keys.
    """
    for part in (state_dict, backbone_part(state_dict)):
        for layout in LAYOUTS:
            if layout.matches(part):
                return layout
    raise CheckpointError(
        f'these are no weights of a known layout ({", ".join(x.name for x in LAYOUTS)}): '
        f'the first keys are {first_keys(state_dict)}'
    )


def backbone_part(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a detector's backbone, under its names within the backbone; else nothing."""
    return {
        key.removeprefix('backbone.'): tensor
        for key, tensor in state_dict.items()
        if key.startswith('backbone.')
    }


def convert_state_dict(
    state_dict: Mapping[str, Tensor], layout: str = 'mmpoolformer'
) -> dict[str, Tensor]:
    """Rename the keys of any known layout to ours, or from there to any other.

    Pure and idempotent. A classifier's final norm and head are ``norm`` and ``head`` here. Of a
    detector or segmenter only the backbone's keys change: necks and heads have kept their names
    since mmdet 2 and mmseg 0.19, with which the authors trained. Where one side has matrices and
    the other 1x1 convolutions, weights get the other's shape.

    Args:
        state_dict: Weights of a backbone, classifier, detector or segmenter.
        layout: Name of the layout wanted, one of :data:`LAYOUTS`.

    Returns:
        The same tensors under other names.

    Raises:
        CheckpointError: If the layout is unknown, a key is not part of it, or the wanted layout
            has no name for one.
        ValueError: If there is no layout of that name.
    """
    target, source = find_layout(layout), detect_layout(state_dict)
    if source is target and source is not _OURS:
        return dict(state_dict)
    own, prefix, others = state_dict, '', {}
    if source is not _MMPRETRAIN and (part := backbone_part(state_dict)):
        own, prefix = part, 'backbone.'
        others = {key: t for key, t in state_dict.items() if not key.startswith(prefix)}
    names = {key: source.rename(key) for key in own}
    unknown = [prefix + key for key, name in names.items() if name is None]
    if unknown:
        raise CheckpointError(
            f'layout {source.name}: {len(unknown)} keys do not belong to it: {first_keys(unknown)}'
        )
    ours = {names[key]: _as_ours(names[key], tensor) for key, tensor in own.items()}
    if target is not _OURS:
        ours = _rename_back(ours, target)
    return {prefix + key: tensor for key, tensor in ours.items()} | others


def _rename_back(ours: dict[str, Tensor], target: Layout) -> dict[str, Tensor]:
    names = {key: target.rename_back(key) for key in ours}
    nameless = [key for key, name in names.items() if name is None]
    if nameless:
        raise CheckpointError(
            f'layout {target.name} has no place for {len(nameless)} of these weights: '
            f'{first_keys(nameless)}'
        )
    renamed = {}
    for key, tensor in ours.items():
        block = re.match(r'stages\.\d\.blocks\.\d+\.', key)
        by_attention = block and f'{block[0]}token_mixer.qkv.weight' in ours
        matrix = re.fullmatch(target.linear, key) or (
            target is _TIMM and by_attention and re.search(r'mlp\.fc[12]\.weight', key)
        )
        renamed[names[key]] = tensor.flatten(1) if matrix else tensor
    return renamed


def _as_ours(key: str, tensor: Tensor) -> Tensor:
    """Give the weight of a 1x1 convolution or linear layer the shape it has here."""
    if tensor.ndim == 2 and re.search(r'blocks\.\d+\..*\.(fc[12]|pwconv[12])\.weight$', key):
        return tensor[:, :, None, None]
    if tensor.ndim == 4 and re.search(r'token_mixer\.(qkv|proj)\.weight$', key):
        return tensor.flatten(1)
    return tensor


def convert_own_keys(module: nn.Module, state_dict: dict, prefix: str, *_) -> None:
    """Load-state-dict pre-hook of the backbone: rename foreign keys under its own prefix.

    It makes foreign layouts load through every route, as part of a detector too.
    """
    _rename_in_place(state_dict, prefix, ())


def convert_classifier_keys(state_dict: dict, prefix: str, *, norm_before_pooling: bool) -> None:
    """Give a whole classifier's keys under ``prefix`` the names they have in an ImageClassifier.

    Files of an ImageClassifier, trained here or by mmpretrain, stay as they are: their backbone
    renames its own keys, and their heads have the same name.

    Args:
        state_dict: Weights of a classifier or backbone in any layout, changed in place.
        prefix: What the classifier's own keys start with.
        norm_before_pooling: Whether the final norm is the backbone's, and not the neck's.
    """
    norm = 'backbone.norm3' if norm_before_pooling else 'neck.norm'
    _rename_in_place(state_dict, prefix, (('norm.{p}', f'{norm}.{{p}}'), *_IN_CLASSIFIER))


def _rename_in_place(state_dict: dict, prefix: str, rules: tuple[tuple[str, str], ...]) -> None:
    """Rename foreign keys under ``prefix`` to ours, and these by the first rule that fits."""
    own = {k[len(prefix) :]: k for k in state_dict if k.startswith(prefix)}
    layout = next((x for x in LAYOUTS if x is not _MMPRETRAIN and x.matches(own)), None)
    if layout is None:
        return
    patterns = [(_pattern(ours), _replacement(place)) for ours, place in rules]
    renamed = {}
    for key, full_key in own.items():
        if new := layout.rename(key):
            place = _first_match(patterns, new) or new
            renamed[prefix + place] = _as_ours(new, state_dict.pop(full_key))
    state_dict.update(renamed)
