"""Peak memory: of the allocator on CUDA, of a process of its own on the CPU."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from benchmarks.settings import Candidate, Setting
from benchmarks.workload import Workload

Build = Callable[[Candidate, Setting], Workload]
# Imported once, for all the processes.
_LIBRARIES = (
    'benchmarks.backbones',
    'benchmarks.whole_models',
    'timm',
    'mmpretrain.models',
    'transformers.models.poolformer.modeling_poolformer',
)


def peak_on_cuda(workload: Workload, held: int) -> int:
    """Return the bytes that one iteration needs at most, weights and images included.

    Args:
        workload: What runs.
        held: Bytes that it keeps allocated between iterations.
    """
    workload.release()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    allocated = torch.cuda.memory_allocated()
    workload.iterate()
    torch.cuda.synchronize()
    workload.release()
    return torch.cuda.max_memory_allocated() - allocated + held


def peak_on_cpu(
    build: Build, candidate: Candidate, setting: Setting, compiled: Path | None
) -> int | None:
    """Return the bytes that the first iterations need at most, weights and images included.

    Args:
        build: Makes what runs.
        candidate: The entry.
        setting: The table.
        compiled: Where an earlier process left the compiled code.

    Returns:
        High-water mark less what the process had before, or ``None`` where the system tells no
        such thing.
    """
    if not Path('/proc/self/clear_refs').exists():
        return None
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload([name for name in _LIBRARIES if _is_there(name)])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        threads = torch.get_num_threads()
        return pool.submit(_peak, build, candidate, setting, compiled, threads).result()


def _is_there(name: str) -> bool:
    return find_spec(name.partition('.')[0]) is not None


def _peak(
    build: Build, candidate: Candidate, setting: Setting, compiled: Path | None, threads: int
) -> int | None:
    torch.set_num_threads(threads)
    if compiled is not None:
        os.environ['TORCHINDUCTOR_CACHE_DIR'] = str(compiled)
    _start_libraries()
    workload = build(candidate, setting)
    if candidate.compiled:
        workload.iterate()  # Else the compiler's own memory would count.
        workload.release()
    gc.collect()
    _return_free_memory()
    before = _status('VmRSS')
    if not _reset_high_water_mark():
        return None
    for _ in range(2):
        workload.iterate()
    return _status('VmHWM') - before + workload.nbytes


def _start_libraries() -> None:
    """Let threads and the libraries of products and convolutions allocate what is their own."""
    images = torch.rand(2, 16, 64, 64)
    layers = nn.Sequential(nn.Conv2d(16, 32, 3), nn.Conv2d(32, 32, 1), nn.Flatten(2))
    (layers(images) @ torch.rand(62 * 62, 16)).sum().backward()


def _return_free_memory() -> None:
    """Give free memory back to the system: peaks inside of it would not be seen."""
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
    if trim is not None:
        trim(0)


def _reset_high_water_mark() -> bool:
    try:
        Path('/proc/self/clear_refs').write_text('5')
    except OSError:
        return False
    return True


def _status(field: str) -> int:
    text = Path('/proc/self/status').read_text(encoding='ascii', errors='replace')
    return 1024 * int(re.search(rf'{field}:\s+(\d+) kB', text)[1])
