"""Which implementation of an operation runs."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import warnings

import torch
from torch import Tensor

IMPLEMENTATIONS = ('auto', 'reference', 'torch', 'triton')

# Numbers in a map below which the calls of an operation take longer on a CPU than it saves.
SMALL = 2**16

# Where tests/ops/test_triton.py has passed on a GPU: pairs of its compute capability and Triton's
# version, such as ((9, 0), (3, 6)). On CUDA 'auto' takes the kernels nowhere else.
PROVEN: frozenset[tuple[tuple[int, int], tuple[int, int]]] = frozenset()


def check_name(fused: str) -> str:
    """Return ``fused``.

    Raises:
        ValueError: If it is none of :data:`IMPLEMENTATIONS`.
    """
    if fused not in IMPLEMENTATIONS:
        raise ValueError(f'fused={fused!r}: choose one of {list(IMPLEMENTATIONS)}')
    return fused


def choose(fused: str, x: Tensor) -> str:
    """Return the implementation for ``x``: ``'reference'``, ``'torch'`` or ``'triton'``.

    Programs that are compiled, traced, exported or transformed (torch.func) get the reference,
    whatever is asked for: compilers know its operators. So do empty batches.

    Raises:
        RuntimeError: If an implementation is named that cannot run on the device of ``x``.
        ValueError: If ``fused`` is none of :data:`IMPLEMENTATIONS`.
    """
    if check_name(fused) == 'reference' or is_transformed() or not x.numel():
        return 'reference'
    if fused == 'auto':
        if x.device.type == 'cuda':
            return 'triton' if _is_proven(x.device) else 'reference'
        return 'torch' if x.device.type == 'cpu' and x.numel() >= SMALL else 'reference'
    if fused == 'triton' and (problem := _triton_problem(x.device)):
        raise RuntimeError(f"fused='triton' {problem}: take 'auto' or 'torch'")
    return fused


def is_transformed() -> bool:
    """Return whether someone reads the program: a compiler, a tracer, or torch.func."""
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch._C._are_functorch_transforms_active()
    )


def _is_proven(device: torch.device) -> bool:
    """Return whether :data:`PROVEN` has this GPU with this Triton, and warn if Triton is broken."""
    capability = None if torch.version.hip else torch.cuda.get_device_capability(device)
    versions = {version for proven, version in PROVEN if proven == capability}
    if not versions:
        return False
    if problem := _triton_problem(device):
        _warn_once(f"plain modules run instead of fused operations: fused='triton' {problem}")
        return False
    return _triton_version() in versions


@functools.cache
def _triton_problem(device: torch.device) -> str | None:
    """Return why the Triton kernels cannot run on ``device``, ``None`` if they can."""
    if importlib.util.find_spec('triton') is None:
        return 'needs Triton, which is not installed'
    try:
        if _triton_version() < (3, 4):  # Older ones cannot keep what they tuned.
            return 'needs Triton 3.4 or newer, which comes with PyTorch 2.8'
        for operation in ('channel_mlp', 'pool_mixer'):
            importlib.import_module(f'mmpoolformer.ops.{operation}.triton_impl')
        statistics = importlib.import_module('mmpoolformer.ops.triton_statistics')
        if device.type != 'cuda' and not statistics.INTERPRETED:
            return f'runs on CUDA devices only, and x is on {device}'
        # One kernel shows whether Triton finds its compiler and the driver.
        statistics.part_statistics(torch.zeros(1, 1, 1, 1, device=device))
    except Exception as error:  # A broken Triton may raise anything.
        return f'cannot run here ({type(error).__name__}: {error})'
    return None


def _triton_version() -> tuple[int, int]:
    major, minor, *_ = importlib.import_module('triton').__version__.split('.')
    return int(major), int(minor)


@functools.cache
def _warn_once(message: str) -> None:
    warnings.warn(message, stacklevel=2)
