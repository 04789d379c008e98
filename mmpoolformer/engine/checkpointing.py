"""Checkpoints that survive: whenever a run dies, a whole one is there to go on from."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import torch
from mmengine.dist import barrier, is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook as _CheckpointHook
from mmengine.runner import Runner

from mmpoolformer.registry import HOOKS


class SaveError(Exception):
    """A checkpoint that could not be written, or should not be; the message says why."""


@HOOKS.register_module()
class CheckpointHook(_CheckpointHook):
    """mmengine's hook, which here never leaves a run without a whole checkpoint.

    mmengine deletes the oldest checkpoint before it writes the next one, in place: a kill or a full
    disk in between loses both. Here a checkpoint is written beside its place, flushed to the disk
    and renamed; then ``last_checkpoint`` names it; and only then an old one is deleted. So the
    disk must hold one checkpoint more than ``max_keep_ckpts``.

    Weights that are not finite are not saved over good ones: the run stops.

    Raises:
        SaveError: If a checkpoint cannot be written, or its weights are not finite.
    """

    def _save_checkpoint(self, runner: Runner) -> None:
        super()._save_checkpoint(_WholeSaves(runner))

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        if not isinstance(self.file_backend, LocalBackend):
            # An object store holds a whole object or none.
            super()._save_checkpoint_with_step(runner, step, meta)
            return
        surplus = self._count(runner, step)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            **self.args,
        )
        if is_main_process():
            name_last_checkpoint(runner.work_dir, self.last_ckpt)
            for path in surplus:
                self._remove(path)

    def _count(self, runner: Runner, step: int) -> list[str]:
        """Note that there is a checkpoint of ``step``, and return those that are one too many."""
        kept = getattr(self, 'keep_ckpt_ids', ())
        if self.max_keep_ckpts <= 0 or (kept and kept[-1] == step):
            return []
        surplus = [kept.popleft()] if len(kept) == self.max_keep_ckpts else []
        kept.append(step)
        runner.message_hub.update_info('keep_ckpt_ids', list(kept))
        names = [self.filename_tmpl.format(old) for old in surplus]
        return [self.file_backend.join_path(self.out_dir, name) for name in names]

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not self.save_best or not isinstance(self.file_backend, LocalBackend):
            super()._save_best_checkpoint(runner, metrics)
            return
        # mmengine deletes the best one so far before it writes a better one: it must not know it.
        before = self._swap_best({})
        try:
            super()._save_best_checkpoint(_WholeSaves(runner), metrics)
        finally:
            after = self._swap_best({})
            self._swap_best({key: after.get(key) or path for key, path in before.items()})
        for key, path in before.items():
            if path and after.get(key) not in (None, path) and is_main_process():
                self._remove(path)
                runner.logger.info(f'The previous best checkpoint {path} is removed')

    def _swap_best(self, paths: dict) -> dict:
        """Replace what the hook takes for the best checkpoints, and return what it took before."""
        if len(self.key_indicators) == 1:
            old = {'': self.best_ckpt_path}
            self.best_ckpt_path = paths.get('')
        else:
            old = dict(self.best_ckpt_path_dict)
            self.best_ckpt_path_dict = {key: paths.get(key) for key in self.key_indicators}
        return old

    def _remove(self, path: str) -> None:
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):  # As DeepSpeed writes them.
            self.file_backend.rmtree(path)


class _WholeSaves:
    """A runner that writes whole checkpoints or none."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def __getattr__(self, name: str):
        return getattr(self._runner, name)

    def save_checkpoint(self, out_dir: str, filename: str, **options) -> None:
        save_whole(self._runner, out_dir, filename, **options)


def save_whole(runner: Runner, folder: str | Path, name: str, **options) -> None:
    """Write a checkpoint beside its place, flush it to the disk, and rename it.

    All processes call it together, and none returns before it is done.

    Args:
        runner: The run to save.
        folder: Where to put the checkpoint.
        name: Its name.
        **options: What ``Runner.save_checkpoint`` takes beside these.

    Raises:
        SaveError: If it cannot be written, or a weight is not finite.
    """
    broken = [key for key, value in runner.model.state_dict().items() if not _is_finite(value)]
    if broken:
        raise SaveError(
            f'Training broke down: {len(broken)} weights are not finite, {broken[0]} is the first. '
            'They were not saved, and the checkpoints before are untouched. Lower the learning '
            'rate, or clip gradients: --cfg-options optim_wrapper.clip_grad.max_norm=1'
        )
    path, part = Path(folder) / name, Path(folder) / f'{name}.part'
    try:
        runner.save_checkpoint(str(folder), part.name, **options)
        barrier()  # Each process may have written a share of its own.
        if is_main_process():
            _flush(part)
            part.replace(path)
            _flush(path.parent)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise SaveError(
            f'{path} could not be written: {error.strerror or error}. The checkpoints before are '
            'untouched. Make room (one checkpoint more than are kept must fit on the disk), or '
            'choose another --work-dir, and continue with --resume.'
        ) from error
    barrier()


def _is_finite(value: torch.Tensor) -> bool:
    return not value.is_floating_point() or bool(value.isfinite().all())


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def name_last_checkpoint(work_dir: str | Path, path: str | Path) -> None:
    """Let ``last_checkpoint`` in the work dir name ``path``: the old one or the new, never half."""
    pointer = Path(work_dir) / 'last_checkpoint'
    part = pointer.with_suffix('.part')
    part.write_text(str(path))
    _flush(part)
    part.replace(pointer)


def find_resumable(work_dir: str | Path) -> tuple[Path | None, dict[Path, str]]:
    """Find the checkpoint from which a run can go on.

    Args:
        work_dir: The run's folder.

    Returns:
        The newest checkpoint that is whole, ``None`` if there is none; and the newer ones that were
        passed over, with the reason.
    """
    folder = Path(work_dir)
    written = sorted(folder.glob('*.pth'), key=lambda path: path.stat().st_mtime, reverse=True)
    # The best ones, and the weights that a run started from, hold no optimizer.
    candidates = [path for path in written if not path.name.startswith(('best_', 'load_from'))]
    pointer = folder / 'last_checkpoint'
    if pointer.is_file() and (named := pointer.read_text().strip()):
        candidates.insert(0, Path(named))
    passed_over = {}
    for path in dict.fromkeys(candidates):
        reason = _damage(path)
        if reason is None:
            return path, passed_over
        passed_over[path] = reason
    return None, passed_over


def _damage(path: Path) -> str | None:
    """Return what is wrong with a checkpoint; PyTorch itself does not look at the checksums."""
    if path.is_dir():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except FileNotFoundError:
        return 'it is gone'
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        return f'it is cut off or damaged ({error})'
    return f'it is damaged ({damaged} has another checksum)' if damaged else None
