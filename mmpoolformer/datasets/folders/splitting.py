"""Splits pictures into those to train on and those to validate on."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mmpoolformer.datasets.folders.description import Findings, Folder, FolderError, Picture
from mmpoolformer.datasets.folders.pictures import same_content

# A larger part would only make each validation longer.
_MOST_FOR_VAL = 5000


def with_splits(folder: Folder, fraction: float = 0.2, seed: int = 0) -> Folder:
    """Return the folder with a split for each picture.

    Splits that the folder has are kept, and what it lacks is taken from its training pictures.
    Copies of a picture that is in 'val' or 'test' are left out of 'train'.

    Args:
        folder: A folder as it was read.
        fraction: How much of the pictures becomes 'val' where there is none.
        seed: The same seed splits the same pictures in the same way.

    Raises:
        FolderError: If there are too few pictures.
    """
    findings = Findings()
    marks = same_content(folder.root, [picture.name for picture in folder.pictures])
    pictures = _without_copies(folder.pictures, marks, findings)
    given = {picture.split for picture in pictures} - {''}
    if given == {'val'} or given == {'test'}:  # Nothing to train on: it is one lot.
        pictures = [replace(picture, split='') for picture in pictures]
        given = set()
    pictures = [replace(p, split=p.split or 'train') for p in pictures]
    if 'val' not in given:
        training = [picture for picture in pictures if picture.split == 'train']
        if len(training) < 2:
            raise FolderError(
                f'{folder.root} has {len(training)} picture that can be used for training; two '
                'are needed, one to train on and one to validate on.'
            )
        chosen = _choose(training, marks, fraction, seed)
        pictures = [replace(p, split='val') if p.name in chosen else p for p in pictures]
    split = replace(folder, pictures=tuple(pictures))
    _note_classes(split, findings)
    return replace(split, findings=folder.findings + findings.all())


def _without_copies(
    pictures: Sequence[Picture], marks: Mapping[str, str], findings: Findings
) -> list[Picture]:
    """Leave out the training pictures that are in another split as well, and 'test' in 'val'."""
    kept = list(pictures)
    for mine, others in (('train', ('val', 'test')), ('val', ('test',))):
        held_out = {marks[p.name] for p in kept if p.split in others and p.name in marks}
        copies = {p.name for p in kept if p.split == mine and marks.get(p.name) in held_out}
        for name in sorted(copies):
            what = f'pictures of {mine} are in {" or ".join(others)}, too'
            findings.add(what, f'left out of {mine}', name)
        kept = [picture for picture in kept if picture.name not in copies]
    return kept


def _choose(
    pictures: Sequence[Picture], marks: Mapping[str, str], fraction: float, seed: int
) -> set[str]:
    """Choose pictures for 'val' so that it gets its fraction of each class, the rarest first.

    Copies go together. A class in a single picture stays in 'train'.
    """
    groups: dict[str, list[Picture]] = defaultdict(list)
    for picture in pictures:
        groups[marks.get(picture.name, picture.name)].append(picture)
    order = sorted(groups)
    random.Random(seed).shuffle(order)
    labels = {key: frozenset().union(*(p.labels for p in groups[key])) for key in order}
    total = Counter(label for found in labels.values() for label in found)
    wanted = {label: int(count * fraction + 0.5) for label, count in total.items()}
    for label, count in total.items():
        wanted[label] = min(max(wanted[label], 1), count - 1)
    size = min(max(round(len(order) * fraction), 1), len(order) - 1, _MOST_FOR_VAL)
    chosen: dict[str, None] = {}
    taken: Counter[int] = Counter()
    for label in sorted(total, key=lambda label: (total[label], label)):
        for key in order:
            if taken[label] >= wanted[label] or len(chosen) >= size:
                break
            full = any(taken[other] >= wanted[other] for other in labels[key])
            if label in labels[key] and key not in chosen and not full:
                chosen[key] = None
                taken.update(labels[key])
    for key in order:
        # The last pictures of a class are left for training.
        spare = all(taken[label] + 1 < total[label] for label in labels[key])
        if len(chosen) < size and key not in chosen and spare:
            chosen[key] = None
            taken.update(labels[key])
    return {picture.name for key in chosen or order[:1] for picture in groups[key]}


def _note_classes(folder: Folder, findings: Findings) -> None:
    counts = {split: folder.objects(folder.of(split)) for split in ('train', 'val')}
    for name, train, val in zip(folder.classes, counts['train'], counts['val'], strict=True):
        if not train and not val:
            findings.add('classes have no objects', 'kept, and cannot be learnt', name)
        elif not train:
            findings.add('classes have no objects to train on', 'cannot be learnt', name)
        elif not val:
            findings.add('classes have no objects to validate on', 'learnt, but not scored', name)
