"""Which implementation of an operation runs."""

from __future__ import annotations

import functools
import importlib.util

import torch
from torch import Tensor

IMPLEMENTATIONS = ('auto', 'reference', 'torch', 'triton')

# Numbers in a map below which the calls of an operation take longer on a CPU than it saves.
SMALL = 2**16


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
    """
    if fused == 'reference' or is_transformed() or not x.numel():
        return 'reference'
    if fused == 'auto':
        if x.device.type == 'cuda':
            return 'triton' if _has_triton() else 'torch'
        return 'torch' if x.device.type == 'cpu' and x.numel() >= SMALL else 'reference'
    if fused == 'triton' and not (_has_triton() and (x.is_cuda or _interprets())):
        reason = 'Triton is not installed' if not _has_triton() else f'x is on {x.device}'
        raise RuntimeError(
            f"fused='triton' runs on CUDA devices only, and {reason}: take 'auto' or 'torch'"
        )
    return fused


def is_transformed() -> bool:
    """Return whether someone reads the program: a compiler, a tracer, or torch.func."""
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch._C._are_functorch_transforms_active()
    )


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec('triton') is not None


def _interprets() -> bool:
    """Return whether Triton's interpreter runs kernels on the CPU, as it does in tests."""
    from triton import knobs

    return knobs.runtime.interpret
