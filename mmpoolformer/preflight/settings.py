"""Misspelt keys, impossible numbers, devices that are not there, and the effective batch."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from typing import Any

from mmpoolformer.config_reading import get, plain, type_name
from mmpoolformer.preflight.problem import Problem, count

# What mmengine's Runner and the tools read. Anything else in a config is a variable of its author.
_TOP_KEYS = (
    *('model', 'work_dir', 'launcher', 'load_from', 'resume', 'log_level', 'log_processor'),
    *('train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg', 'val_cfg', 'test_cfg'),
    *('val_evaluator', 'test_evaluator', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr'),
    *('default_hooks', 'custom_hooks', 'custom_imports', 'data_preprocessor', 'default_scope'),
    *('env_cfg', 'visualizer', 'randomness', 'experiment_name', 'model_wrapper_cfg'),
    *('find_unused_parameters', 'runner_type', 'strategy'),
)
_MODEL_KEYS = ('backbone', 'neck')  # their absence changes a model without an error


def check_keys(cfg: Mapping[str, Any]) -> list[Problem]:
    """Return the keys that mmengine would ignore in silence.

    Example:
        >>> print(check_keys({'model': {}, 'optim_wraper': {}})[0].what)
        `optim_wraper` is not a setting; `optim_wrapper` is, and it is not set.
    """
    found = _misspelt(cfg, _TOP_KEYS, '')
    if isinstance(cfg.get('model'), Mapping):
        found += _misspelt(cfg['model'], _MODEL_KEYS, 'model.')
    return found


def _misspelt(node: Mapping[str, Any], known: tuple[str, ...], place: str) -> list[Problem]:
    problems = []
    for key in node:
        if not isinstance(key, str) or key in known or key.startswith('_'):
            continue
        close = difflib.get_close_matches(key, known, 1, 0.85)
        if not close:
            continue
        right, state = close[0], 'and it is not set'
        if right in node:
            if not _is_stray_option(key, node[key], node[right]):
                continue
            state = 'so this value is ignored'
        what = f'`{place}{key}` is not a setting; `{place}{right}` is, {state}.'
        cure = f'Write `{place}{right}`.'
        if not place:
            cure += f' If `{key}` is a variable of your own, give it another name.'
        problems.append(Problem(what, cure))
    return problems


def _is_stray_option(key: str, value: object, known: object) -> bool:
    """Recognise ``--cfg-options train_dataloder.batch_size=4``, which makes a second, unread dict.

    Its keys all exist in the real one. A trailing digit (``model2``) is somebody's variable.
    """
    if not (isinstance(value, Mapping) and isinstance(known, Mapping)) or key[-1].isdigit():
        return False
    return 0 < len(value) < len(known) and set(value) <= set(known)


def check_numbers(cfg: Mapping[str, Any], splits: tuple[str, ...]) -> list[Problem]:
    """Return batch sizes and learning rates that cannot work."""
    problems = []
    for split in splits:
        key = f'{split}_dataloader.batch_size'
        size = get(cfg, key)
        if isinstance(size, (int, float)) and (size < 1 or size != int(size)):
            problems.append(Problem(f'{key} is {size}.', 'Use a whole number, 1 or more.'))
    key = 'optim_wrapper.optimizer.lr'
    rate = get(cfg, key)
    if 'train' in splits and isinstance(rate, str):
        problems.append(Problem(f'{key} is the text {rate!r}.', 'Write a number, e.g. 0.0001.'))
    elif 'train' in splits and isinstance(rate, (int, float)) and not rate > 0:
        problems.append(Problem(f'{key} is {rate}.', 'Use a number above 0, e.g. 0.0001.'))
    return problems


def check_device(
    cfg: Mapping[str, Any], splits: tuple[str, ...], distributed: bool
) -> list[Problem]:
    """Return what needs a GPU that is not there. Imports torch only if something asks for one."""
    wants = []
    if str(cfg.get('device', '')).startswith('cuda'):
        wants.append((f'device={cfg["device"]!r}', 'Leave `device` out to run on the CPU.'))
    amp = type_name(cfg.get('optim_wrapper')) == 'AmpOptimWrapper'
    if amp and 'train' in splits:
        wants.append(
            ('Mixed precision (--amp, AmpOptimWrapper)', 'Drop --amp to train on the CPU.')
        )
    backend = get(cfg, 'env_cfg.dist_cfg.backend') or 'nccl'
    launched = distributed or cfg.get('launcher') in ('pytorch', 'slurm', 'mpi')
    nccl = launched and backend == 'nccl' and not _group_exists()
    if nccl:
        cure = 'On the CPU use --cfg-options env_cfg.dist_cfg.backend=gloo.'
        wants.append(("Distributed training with the backend 'nccl'", cure))
    if not wants:
        return []
    gpus = cuda_devices()
    if gpus == 0:
        # Ascend, Cambricon and Moore Threads run mixed precision as well.
        if amp and len(wants) == 1 and _other_accelerator():
            return []
        why = _why_no_cuda()
        return [
            Problem(f'{what} needs a CUDA GPU, and PyTorch sees none: {why}', cure)
            for what, cure in wants
        ]
    local = os.environ.get('LOCAL_WORLD_SIZE', '')  # set by torchrun: processes on this machine
    if nccl and local.isdigit() and int(local) > gpus:
        what = f'{local} processes were started on a machine with {count(gpus, "GPU")}; '
        return [Problem(f'{what}each needs its own.', f'Start {gpus}: --nproc-per-node={gpus}')]
    return []


def cuda_devices() -> int:
    """Return how many CUDA devices PyTorch can use."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _group_exists() -> bool:
    import torch.distributed as dist

    return dist.is_available() and dist.is_initialized()


def _other_accelerator() -> bool:
    from mmengine.device import get_device

    return get_device() in ('npu', 'mlu', 'musa')


def _why_no_cuda() -> str:
    import torch

    if torch.version.cuda is None:
        return 'this PyTorch was built without CUDA.'
    if os.environ.get('CUDA_VISIBLE_DEVICES', '0') in ('', '-1'):
        return 'CUDA_VISIBLE_DEVICES hides them all.'
    return '`nvidia-smi` shows whether the driver does.'


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
    rate = get(cfg, 'optim_wrapper.optimizer.lr')
    per_step = world_size * images
    line = (
        f'effective batch {per_step * steps} = {_processes(world_size)} x {count(images, "image")}'
    )
    line += f' x {steps} accumulated steps' if steps > 1 else ''
    same = per_step * steps == base
    recipe = f'{base} ({base // images} x {images})' if base % images == 0 else str(base)
    line += ', as in the recipe' if same else f'; the recipe uses {recipe}'
    if not isinstance(rate, (int, float)):
        return line
    return line + _rate_words(
        rate, base, per_step, steps, bool(get(cfg, 'auto_scale_lr.enable')), same
    )


def _rate_words(rate: float, base: int, per_step: int, steps: int, scaled: bool, same: bool) -> str:
    """Say what happens to the learning rate; mmengine's scaling does not see accumulation."""
    automatic, fitting = rate * per_step / base, rate * per_step * steps / base
    if scaled and steps > 1:
        return (
            f': --auto-scale-lr ignores accumulation and makes the learning rate {automatic:g}; '
            f'for this batch use optim_wrapper.optimizer.lr={fitting:g} without it'
        )
    if same:
        return f': learning rate {rate:g}'
    if scaled:
        return f': learning rate scaled from {rate:g} to {automatic:g}'
    if steps > 1:
        return (
            f': learning rate {rate:g} fits {base}, for this batch use '
            f'--cfg-options optim_wrapper.optimizer.lr={fitting:g}'
        )
    return f': learning rate {rate:g} fits {base}, pass --auto-scale-lr to scale it to {fitting:g}'


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _processes(number: int) -> str:
    """Name the processes by what they run on: nobody has '1 GPU' on a laptop."""
    gpu = cuda_devices() > 0
    return count(number, 'GPU' if gpu else 'process', 'GPUs' if gpu else 'processes')
