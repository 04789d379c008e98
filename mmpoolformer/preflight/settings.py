"""Misspelt keys, impossible numbers, devices that are not there, and the effective batch."""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.runner import Runner

from mmpoolformer.config_reading import get, plain, type_name
from mmpoolformer.preflight.problem import Problem, count

# What mmengine's Runner and the tools read. Anything else in a config is a variable of its author,
# and so is a name with a digit at its end.
_TOP_KEYS = (
    *(key for key in inspect.signature(Runner).parameters if key != 'cfg'),
    'custom_imports',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'runner_type',
    'strategy',
)


def check_keys(cfg: Mapping[str, Any]) -> list[Problem]:
    """Return the misspelt top-level keys, which mmengine would ignore in silence."""
    problems = []
    for key in cfg:
        if not isinstance(key, str) or key in _TOP_KEYS or key[:1] == '_' or key[-1:].isdigit():
            continue
        right = next(iter(difflib.get_close_matches(key, _TOP_KEYS, 1, 0.85)), None)
        if right is None or (right in cfg and not _is_part(cfg[key], cfg[right])):
            continue
        state = 'so this value is ignored' if right in cfg else 'and it is not set'
        what = f'`{key}` is not a setting; `{right}` is, {state}.'
        cure = f'Write `{right}`. If `{key}` is a variable of your own, give it another name.'
        problems.append(Problem(what, cure))
    return problems


def _is_part(node: object, whole: object) -> bool:
    """Recognise the second dict that ``--cfg-options train_dataloder.batch_size=4`` makes."""
    both = isinstance(node, Mapping) and isinstance(whole, Mapping)
    return both and 0 < len(node) < len(whole) and set(node) <= set(whole)


def check_numbers(cfg: Mapping[str, Any], splits: tuple[str, ...]) -> list[Problem]:
    """Return batch sizes and learning rates that cannot work."""
    problems = []
    for split in splits:
        key = f'{split}_dataloader.batch_size'
        size = get(cfg, key)
        if isinstance(size, (int, float)) and (size < 1 or size != int(size)):
            problems.append(Problem(f'{key} is {size}.', 'Use a whole number, 1 or more.'))
    rate = get(cfg, 'optim_wrapper.optimizer.lr')
    is_bad = isinstance(rate, str) or (isinstance(rate, (int, float)) and not rate > 0)
    if 'train' in splits and is_bad:
        what = f'optim_wrapper.optimizer.lr is {rate!r}.'
        problems.append(Problem(what, 'Write a number above 0, e.g. 0.0001.'))
    return problems


def check_device(
    cfg: Mapping[str, Any], splits: tuple[str, ...], distributed: bool
) -> list[Problem]:
    """Return what needs a GPU that is not there."""
    gpus, problems = cuda_devices(), []
    is_built = torch.version.cuda is not None
    why = '`nvidia-smi` shows whether the driver does' if is_built else 'it was built without CUDA'
    none = f'needs a CUDA GPU, and PyTorch sees none: {why}.'
    is_amp = 'train' in splits and type_name(cfg.get('optim_wrapper')) == 'AmpOptimWrapper'
    if is_amp and not gpus and get_device() not in ('npu', 'mlu', 'musa'):
        what = f'Mixed precision (--amp, AmpOptimWrapper) {none}'
        problems.append(Problem(what, 'Drop --amp to train on the CPU.'))
    launched = distributed or cfg.get('launcher') in ('pytorch', 'slurm', 'mpi')
    backend = get(cfg, 'env_cfg.dist_cfg.backend') or 'nccl'
    dist = torch.distributed
    if not launched or backend != 'nccl' or (dist.is_available() and dist.is_initialized()):
        return problems
    local = os.environ.get('LOCAL_WORLD_SIZE', '')  # set by torchrun: processes on this machine
    if not gpus:
        cure = 'On the CPU use --cfg-options env_cfg.dist_cfg.backend=gloo.'
        problems.append(Problem(f"Distributed training with the backend 'nccl' {none}", cure))
    elif local.isdigit() and int(local) > gpus:
        what = f'{local} processes were started on a machine with {count(gpus, "GPU")}; '
        what += 'each needs its own.'
        problems.append(Problem(what, f'Start {gpus}: --nproc-per-node={gpus}'))
    return problems


def cuda_devices() -> int:
    """Return how many CUDA devices PyTorch can use."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def batch_line(cfg: object, world_size: int) -> str | None:
    """State the effective batch against the recipe's, and what becomes of the learning rate.

    Args:
        cfg: A config with ``train_dataloader.batch_size`` and ``auto_scale_lr.base_batch_size``.
        world_size: The number of processes, one per GPU.

    Returns:
        One line, or None when the config does not say enough.

    Example:
        >>> cfg = dict(train_dataloader=dict(batch_size=2), auto_scale_lr=dict(base_batch_size=2))
        >>> batch_line(cfg, world_size=1).replace('GPU', 'process')
        'effective batch 2 = 1 process x 2 images, as in the recipe'
    """
    cfg = plain(cfg)
    images = get(cfg, 'train_dataloader.batch_size')
    base = get(cfg, 'auto_scale_lr.base_batch_size')
    if not (_is_count(images) and _is_count(base) and _is_count(world_size)):
        return None
    steps = get(cfg, 'optim_wrapper.accumulative_counts')
    steps = steps if _is_count(steps) else 1
    batch = world_size * images * steps
    # Nobody has '1 GPU' on a laptop.
    unit = ('GPU',) if cuda_devices() else ('process', 'processes')
    line = f'effective batch {batch} = {count(world_size, *unit)} x {count(images, "image")}'
    line += f' x {steps} accumulated steps' if steps > 1 else ''
    recipe = f'{base} ({base // images} x {images})' if base % images == 0 else base
    line += ', as in the recipe' if batch == base else f'; the recipe uses {recipe}'
    rate = get(cfg, 'optim_wrapper.optimizer.lr')
    if not isinstance(rate, (int, float)):
        return line
    fitting, is_scaled = rate * batch / base, bool(get(cfg, 'auto_scale_lr.enable'))
    if is_scaled and steps > 1:
        return (
            f'{line}: --auto-scale-lr ignores accumulation and makes the learning rate '
            f'{fitting / steps:g}; for this batch use optim_wrapper.optimizer.lr={fitting:g} '
            'without it'
        )
    if batch == base:
        return f'{line}: learning rate {rate:g}'
    if is_scaled:
        return f'{line}: learning rate scaled from {rate:g} to {fitting:g}'
    cure = f'pass --auto-scale-lr to scale it to {fitting:g}'
    if steps > 1:
        cure = f'for this batch use --cfg-options optim_wrapper.optimizer.lr={fitting:g}'
    return f'{line}: learning rate {rate:g} fits {base}, {cure}'


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
