"""Random numbers that depend on nothing but the seed and the place in training."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmpoolformer.registry import HOOKS

# What a random state is for: part of what it is made of.
_ITEM, _MODEL = 1, 2


@HOOKS.register_module()
class SeedHook(Hook):
    """Make all randomness of training a function of seed, rank, and place in training.

    mmengine does not save the random state, so a resumed run draws other augmentations and other
    stochastic depths than an uninterrupted one. With this hook both are the same, bit for bit. The
    augmentation of an image depends on its place in the order of the images alone: on no other
    image, nor on how many workers there are or how long they live. The model's own randomness
    depends on the iteration.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        seed_items(runner.train_dataloader, runner.seed, get_rank())
        # The original mmengine has begun to load for a loop over iterations: begin again.
        batches = getattr(runner.train_loop, 'dataloader_iterator', None)
        if batches is not None and batches._iterator is not None:
            batches._iterator = iter(runner.train_dataloader)

    def before_train_iter(self, runner: Runner, batch_idx, data_batch=None) -> None:
        seed_everything(runner.seed, get_rank(), _MODEL, runner.iter)
        if torch.cuda.is_available():
            torch.cuda.manual_seed(torch.initial_seed())


def seed_everything(*entropy: int) -> None:
    """Set the states that augmentations draw from: those of Python, numpy and PyTorch's CPU."""
    seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    # Not torch.manual_seed, which keeps the stack of each call for GPUs that are not used yet.
    torch.default_generator.manual_seed(seed)


def seed_items(loader: DataLoader, seed: int, rank: int) -> None:
    """Let a loader draw the augmentation of each item from the item's own random state.

    Its sampler hands out indices that carry what the state is made of, and its data set sets that
    state before it makes an item.
    """
    # The batch sampler's: a loader that was given a batch sampler has a dummy of its own beside.
    chosen = getattr(loader.batch_sampler, 'sampler', None) or loader.sampler
    if isinstance(chosen, SeededSampler):
        return
    seeded = SeededSampler(chosen, seed, rank)
    if loader.sampler is chosen:
        # A loader refuses `loader.sampler = ...`, to protect its batch sampler, which follows here.
        loader.__dict__['sampler'] = seeded
    if loader.batch_sampler is not None:
        loader.batch_sampler.sampler = seeded
    loader.dataset.__class__ = _with_seeded_items(type(loader.dataset))


class SeededIndex(int):
    """An index that knows what the random state of its item is made of."""

    def __new__(cls, index: int, entropy: tuple[int, ...]) -> SeededIndex:
        self = super().__new__(cls, index)
        self.entropy = entropy
        return self

    def __getnewargs__(self) -> tuple[int, tuple[int, ...]]:
        return int(self), self.entropy  # On its way to a worker.


class SeededSampler:
    """A sampler whose indices carry seed, rank, epoch and their place in the epoch.

    Args:
        sampler: The sampler that chooses the indices.
        seed: The run's seed.
        rank: This process.
    """

    def __init__(self, sampler, seed: int, rank: int) -> None:
        self._sampler = sampler
        self._seed, self._rank = seed, rank
        self._epoch = self._skipped = 0
        if hasattr(sampler, 'skip'):
            self.skip = self._skip

    def __getattr__(self, name: str):
        return getattr(self.__dict__['_sampler'], name)

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[SeededIndex]:
        start = (self._seed, self._rank, _ITEM, self._epoch)
        for place, index in enumerate(self._sampler, self._skipped):
            yield SeededIndex(index, (*start, place))

    def set_epoch(self, epoch: int) -> None:
        """Note the epoch, and pass it on."""
        self._epoch = epoch
        if hasattr(self._sampler, 'set_epoch'):
            self._sampler.set_epoch(epoch)

    def _skip(self, number: int) -> None:
        self._sampler.skip(number)
        self._skipped += number


def _with_seeded_items(kind: type) -> type:
    """Return a data set's class whose items are made from their own random state."""

    def get(self, index: int):
        if isinstance(index, SeededIndex):
            seed_everything(*index.entropy)
            index = int(index)
        return kind.__getitem__(self, index)

    return type(kind.__name__, (kind,), {'__getitem__': get, '__module__': kind.__module__})
