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
        The train data has 2 classes (cat, dog), but the model is built for another number:
          model.bbox_head.num_classes=80
    """
    problems = _check_spelling(found)
    if get(cfg, 'model.language_model'):
        # GLIP and Grounding DINO read the class names as text: any number of them fits.
        return problems
    return [*problems, *_check_order(found), *_check_heads(cfg, found)]


def _check_spelling(found: Sequence[DataSet]) -> list[Problem]:
    """Catch ``classes=('cat')``, which Python reads as the text 'cat', letter by letter."""
    wrong: dict[str, list[str]] = {}
    for dataset in found:
        given = get(dataset.options, 'metainfo.classes')
        if isinstance(given, str) and dataset.classes is None:
            wrong.setdefault(given, []).append(f'  {dataset.key}.metainfo.classes={given!r}')
    return [
        Problem(
            'The classes are a text; they must be a tuple of names, or an existing text file:\n'
            + '\n'.join(dict.fromkeys(lines)),
            f'One class needs a comma: classes=({given!r},)',
        )
        for given, lines in wrong.items()
    ]


def _check_order(found: Sequence[DataSet]) -> list[Problem]:
    lists = {dataset.classes: dataset for dataset in reversed(found) if dataset.classes}
    if len({dataset.split for dataset in found}) < 2 or len(lists) != 2:
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
    seen: dict[tuple[int, tuple[str, ...] | None], list[str]] = {}
    for dataset in found:
        if dataset.num_classes:
            splits = seen.setdefault((dataset.num_classes, dataset.classes), [])
            splits += [dataset.split] * (dataset.split not in splits)
    problems = []
    for (number, names), splits in seen.items():
        wrong = {key: value for key, value in heads(cfg).items() if value != number}
        if not wrong:
            continue
        source = f' ({some(names)})' if names else ' (the list built into its class)'
        verb = 'has' if len(splits) == 1 else 'have'
        what = f'The {" and ".join(splits)} data {verb} {count(number, "class", "classes")}{source}'
        what += ', but the model is built for another number:'
        lines = [f'  {key}={value}' for key, value in wrong.items()]
        cure = ['Make the model fit, in the config or on the command line:']
        cure += ['  --cfg-options ' + ' '.join(f'{key}={number}' for key in wrong)]
        if names is None:
            value = next(iter(wrong.values()))
            cure += [f'or, if your data has {value}, name them in the metainfo of each data set.']
        problems.append(Problem('\n'.join([what, *lines]), '\n'.join(cure)))
    return problems
