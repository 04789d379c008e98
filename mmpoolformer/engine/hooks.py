"""Hooks: exact resuming, an interrupt that loses nothing, and mmcv's operators."""

from __future__ import annotations

import os
import random
import signal
from functools import partial
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import get_rank, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmpoolformer.mmcv_operators import describe_operators, refuse_missing_operators
from mmpoolformer.registry import HOOKS


def _seed_everything(*entropy: int) -> None:
    seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _seed_worker(worker_id: int, seed: int, rank: int, epoch: int) -> None:
    _seed_everything(seed, rank, epoch, 1 + worker_id)


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Make the random state a function of seed, rank and epoch alone.

    mmengine does not save the random state, so a resumed run draws other augmentations and other
    stochastic depths than an uninterrupted one. With this hook both are the same, bit for bit, when
    training stopped at the end of an epoch. It also gives the workers of a loader without
    ``persistent_workers`` new augmentations in each epoch, where mmengine repeats the first's.

    Training by iterations has no epochs: there the model's own randomness is seeded in every
    iteration. A resumed run continues with the same images in the same order, but, since mmengine
    skips those that were seen without loading them, with other random augmentations.
    """

    priority = 'VERY_HIGH'

    def before_train_epoch(self, runner: Runner) -> None:
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            return
        rank, epoch = get_rank(), runner.epoch
        _seed_everything(runner.seed, rank, epoch, 0)
        loader = runner.train_dataloader
        if loader.num_workers:
            loader.worker_init_fn = partial(_seed_worker, seed=runner.seed, rank=rank, epoch=epoch)
            # Persistent workers carry the state of earlier epochs: start new ones.
            loader._iterator = None

    def before_train_iter(self, runner: Runner, batch_idx, data_batch=None) -> None:
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            _seed_everything(runner.seed, get_rank(), runner.iter, 0)


@HOOKS.register_module()
class InterruptHook(Hook):
    """On Ctrl-C finish the iteration, save ``interrupted.pth``, and stop.

    ``--resume`` then continues from it. A second Ctrl-C stops at once. An epoch that was cut short
    is trained again from its first image.
    """

    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self._requested = False
        self._previous = None
        self._pid = os.getpid()

    def before_train(self, runner: Runner) -> None:
        self._previous = signal.signal(signal.SIGINT, self._request)

    def after_train(self, runner: Runner) -> None:
        signal.signal(signal.SIGINT, self._previous)

    def after_train_iter(self, runner: Runner, batch_idx, data_batch=None, outputs=None) -> None:
        if self._requested:
            self._stop(runner, iterations=runner.iter + 1)

    def after_val_iter(self, runner: Runner, batch_idx, data_batch=None, outputs=None) -> None:
        if self._requested:
            self._stop(runner, iterations=runner.iter)

    def _request(self, signum, frame) -> None:
        if os.getpid() != self._pid:
            return  # A forked loader worker: the main process decides.
        if self._requested:
            raise KeyboardInterrupt
        self._requested = True
        # Not `print`: the signal may arrive in the middle of another one, which Python forbids.
        os.write(1, b'\nStopping after this iteration; press Ctrl-C again to stop at once.\n')

    def _stop(self, runner: Runner, iterations: int) -> None:
        path = Path(runner.work_dir) / 'interrupted.pth'
        # Written beside and renamed: a kill during the write spoils no earlier checkpoint.
        runner.save_checkpoint(
            runner.work_dir,
            'interrupted.pth.part',
            meta=dict(epoch=runner.epoch, iter=iterations),
            by_epoch=False,
        )
        if is_main_process():
            path.with_name('interrupted.pth.part').replace(path)
            path.with_name('last_checkpoint').write_text(str(path))
            runner.logger.info(f'Saved {path}; continue with --resume')
        raise KeyboardInterrupt


@HOOKS.register_module()
class OperatorsHook(Hook):
    """Say which of mmcv's operators a run uses, and stop it before it starts if one is missing.

    Raises:
        MissingOperatorError: If a layer of the model needs an operator that is not there.
    """

    def before_run(self, runner: Runner) -> None:
        runner.logger.info(describe_operators())
        refuse_missing_operators(runner.model)
