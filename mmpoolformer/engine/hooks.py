"""Hooks: an interrupt that loses nothing, and mmcv's operators."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import torch
from mmengine.dist import (
    barrier,
    get_comm_device,
    get_world_size,
    is_main_process,
)
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmpoolformer.engine.checkpointing import name_last_checkpoint, save_whole
from mmpoolformer.mmcv_operators import describe_operators, refuse_missing_operators
from mmpoolformer.registry import HOOKS


class Interrupted(KeyboardInterrupt):
    """A run that was asked to stop and has saved its state.

    Args:
        number: The signal that asked.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@HOOKS.register_module()
class InterruptHook(Hook):
    """On Ctrl-C, SIGTERM or SIGUSR1 finish the iteration, save ``interrupted.pth``, and stop.

    ``--resume`` then continues from it. Slurm and Kubernetes send SIGTERM before they take a
    machine back. A second Ctrl-C stops at once. An epoch that was cut short is trained again from
    its first image. Of several processes all stop after the same iteration, one after the signal.

    Raises:
        Interrupted: When the state is saved; ``tools/train.py`` exits with 128 + the signal.
    """

    priority = 'VERY_LOW'
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

    def __init__(self) -> None:
        self._number = 0
        self._previous = {}
        self._pid = os.getpid()
        self._agreed = LaggedMaximum()

    def before_train(self, runner: Runner) -> None:
        self._previous = {number: signal.signal(number, self._request) for number in self.signals}

    def after_train(self, runner: Runner) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def after_train_iter(self, runner: Runner, batch_idx, data_batch=None, outputs=None) -> None:
        if number := self._agreed(self._number):
            self._stop(runner, number, iterations=runner.iter + 1)

    def after_val_iter(self, runner: Runner, batch_idx, data_batch=None, outputs=None) -> None:
        if number := self._agreed(self._number):
            self._stop(runner, number, iterations=runner.iter)

    def _request(self, number: int, frame) -> None:
        if os.getpid() != self._pid:
            return  # A forked loader worker: the main process decides.
        if self._number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._number = max(self._number, number)
        # Not `print`: the signal may arrive in the middle of another one, which Python forbids.
        if number == signal.SIGINT:
            os.write(1, b'\nStopping after this iteration; press Ctrl-C again to stop at once.\n')
        else:
            os.write(1, f'\nStopping after this iteration (signal {number}).\n'.encode())

    def _stop(self, runner: Runner, number: int, iterations: int) -> None:
        path = Path(runner.work_dir) / 'interrupted.pth'
        meta = dict(epoch=runner.epoch, iter=iterations)
        save_whole(runner, runner.work_dir, path.name, meta=meta, by_epoch=False)
        if is_main_process():
            name_last_checkpoint(runner.work_dir, path)
            runner.logger.info(f'Saved {path}; continue with --resume')
        barrier()  # A launcher ends all processes with the first one.
        raise Interrupted(number)


class LaggedMaximum:
    """The largest of a number over all processes, one call late, so that nobody waits for it."""

    def __init__(self) -> None:
        self._pending = None

    def __call__(self, number: int) -> int:
        """Give this call's number; return the largest of the last call's, 0 the first time.

        With one process it is this call's.
        """
        if get_world_size() == 1:
            return number
        largest = 0
        if self._pending is not None:
            work, tensor = self._pending
            work.wait()
            largest = int(tensor)
        tensor = torch.tensor(number, device=get_comm_device())
        operation = torch.distributed.ReduceOp.MAX
        work = torch.distributed.all_reduce(tensor, op=operation, async_op=True)
        self._pending = work, tensor
        return largest


@HOOKS.register_module()
class OperatorsHook(Hook):
    """Say which of mmcv's operators a run uses, and stop it before it starts if one is missing.

    Raises:
        MissingOperatorError: If a layer of the model needs an operator that is not there.
    """

    def before_run(self, runner: Runner) -> None:
        runner.logger.info(describe_operators())
        refuse_missing_operators(runner.model)
