"""Do the data sets and the model agree on the number of classes?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmpoolformer.config_reading import DataSet, get, heads
from mmpoolformer.preflight.problem import Problem, count, some


def check_classes(cfg: Mapping[str, Any], found: Sequence[DataSet]) -> list[Problem]:
    """Return what is wrong with class lists and ``num_classes``, from the config alone.

    Example:
        >>> model = {'bbox_head': {'num_classes': 80}}
        >>> dataset = {'type': 'CocoDataset', 'metainfo': {'classes': ('cat', 'dog')}}
        >>> cfg = {'model': model, 'train_dataloader': {'dataset': dataset}}
        >>> from mmpoolformer.config_reading import datasets
        >>> print(check_classes(cfg, datasets(cfg, 'train'))[0].what)
        The train data have 2 classes (cat, dog), but the model is built for another number:
          model.bbox_head.num_classes=80
    """
    problems = _check_spelling(found)
    if get(cfg, 'model.language_model'):
        # GLIP and Grounding DINO read the class names as text: any number of them fits.
        return problems
    return [*problems, *_check_order(found), *_check_heads(cfg, found)]


def _check_spelling(found: Sequence[DataSet]) -> list[Problem]:
    """Catch ``classes=('cat')``, which Python reads as the text 'cat', letter by letter."""
    places, text = [], ''
    for dataset in found:
        given = get(dataset.options, 'metainfo.classes')
        if isinstance(given, str) and dataset.classes is None:
            places, text = [*places, f'{dataset.key}.metainfo.classes'], given
    if not places:
        return []
    what = f'{" and ".join(places)} is the text {text!r}; it must be a tuple of names, or an '
    return [Problem(f'{what}existing text file.', f'One class needs a comma: classes=({text!r},)')]


def _check_order(found: Sequence[DataSet]) -> list[Problem]:
    lists = {dataset.classes: dataset for dataset in reversed(found) if dataset.classes}
    if len(lists) != 2:
        return []
    first, second = reversed(lists.values())
    if first.split == second.split:  # a ConcatDataset may mix sources on purpose
        return []
    same = set(first.classes) == set(second.classes)
    how = 'the same classes in another order' if same else 'different classes'
    what = f'The {first.split} and {second.split} data have {how}: labels would get mixed up.'
    lines = [f'  {d.key}.metainfo.classes: {some(d.classes, 8)}' for d in (first, second)]
    return [Problem('\n'.join([what, *lines]), 'Use one `metainfo` for both.')]


def _check_heads(cfg: Mapping[str, Any], found: Sequence[DataSet]) -> list[Problem]:
    """Report each class list that does not fit the heads once, with every head it does not fit."""
    lists: dict[tuple[int, tuple[str, ...] | None], dict[str, None]] = {}
    for dataset in found:
        if dataset.num_classes:
            lists.setdefault((dataset.num_classes, dataset.classes), {})[dataset.split] = None
    problems = []
    for (number, names), splits in lists.items():
        wrong = {key: value for key, value in heads(cfg).items() if value != number}
        if not wrong:
            continue
        source = some(names) if names else 'the list built into its class'
        what = f'The {" and ".join(splits)} data have {count(number, "class", "classes")} '
        what += f'({source}), but the model is built for another number:'
        what = '\n'.join([what, *(f'  {key}={value}' for key, value in wrong.items())])
        cure = 'Make the model fit, in the config or on the command line:\n  --cfg-options '
        cure += ' '.join(f'{key}={number}' for key in wrong)
        if names is None:
            value = next(iter(wrong.values()))
            cure += f'\nor, if your data has {value}, name them in the metainfo of each data set.'
        problems.append(Problem(what, cure))
    return problems
