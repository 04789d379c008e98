"""One table: build all entries, check them, then time them in turn and measure their memory."""

import ctypes
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.progress import track
from torch.nn import functional as F
from torch.utils.benchmark import Measurement, Timer
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop

from benchmarks.checks import Tensors, check, computed, tolerances
from benchmarks.workload import DTYPES, Build, Entry, Setting, Workload

# Imported once for all new processes, if this one has imported them.
_LIBRARIES = ('benchmarks.backbones', 'mmdet.models', 'mmpretrain.models', 'timm', 'transformers')
_RESET = Path('/proc/self/clear_refs')  # Linux alone can reset a high-water mark.


def measure(build: Build, entries: Sequence[Entry], setting: Setting) -> dict:
    """Return one table, as it stands in the JSON file.

    ``build`` gives all entries the same weights, and is pickled for new processes. Entries beside
    our default that do not run here are left out, one that computes something else raises.
    """
    torch.compiler.reset()
    expected, allowed, limit = _reference(build, setting)
    running, rows, notes = {}, {}, []
    for entry in entries:
        try:
            workload, start = build(entry, setting), time.perf_counter()
            found, first = computed(workload), time.perf_counter() - start
        except (RuntimeError, ImportError) as error:
            if not rows or entry.fused in ('auto', 'reference'):
                raise
            notes.append(f'{entry.name} is left out: {error}'.splitlines()[0])
        else:
            error = check(entry.name, found, expected, allowed)
            rows[entry] = {'entry': entry.name, **entry._asdict(), 'error': error, 'first_s': first}
            running[entry] = workload
    timed = interleave({e: w.iterate for e, w in running.items()}, setting.seconds, setting.rounds)
    for (entry, row), timing in zip(rows.items(), timed, strict=True):
        milliseconds = 1e3 * np.asarray(timing.times)
        p25, p50, p75 = np.percentile(milliseconds, (25, 50, 75))
        row |= dict(p25=p25, p50=p50, p75=p75, milliseconds=milliseconds.round(4))
        if timing.has_warnings:
            spread = (p75 - p25) / p50
            notes.append(f'{entry.name}: p75 - p25 is {spread:.0%} of p50; was the machine busy?')
        row['peak_mib'] = peak_mib(running.pop(entry), build) if setting.memory else None
    frame = add_ratios(pd.DataFrame(rows.values()), setting.shape[0], limit['milliseconds'])
    table = {'title': setting.title, **setting._asdict(), 'limit': limit, 'notes': notes}
    return table | {'rows': json.loads(frame.to_json(orient='records'))}


def _reference(build: Build, setting: Setting) -> tuple[Tensors, Mapping[str, float], dict]:
    """Return what the reference computes in float32, how far off others may be, and the limit."""
    entry = Entry('ours', 'reference')
    workload = build(entry, setting._replace(dtype='float32', amp=False))
    exact = computed(workload)
    plain = exact if setting.dtype == 'float32' else computed(build(entry, setting))
    # CPUs have an attention of their own, which PyTorch does not count.
    attention = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: sdpa_flop.__wrapped__}
    with FlopCounterMode(display=False, custom_mapping=attention) as counter:
        workload.forward(workload.step or workload.maps)
    # A training step has three products for each of the forward pass.
    macs = counter.get_total_flops() // 2 * (3 if workload.trains else 1)
    shapes = [tensor.shape for what, tensor in exact.items() if what.startswith('map')]
    flops, product = max(_rates(shapes, setting))
    limit = {'milliseconds': 2e3 * macs / flops, 'macs': macs, 'flops': flops, 'product': product}
    return exact, tolerances(plain, exact, setting.dtype), limit


def _rates(shapes: Sequence[torch.Size], setting: Setting) -> list[tuple[float, str]]:
    """Return operations per second of products at the sizes of MLPs on maps ``(B, C, H, W)``."""
    found = []
    for batch, c, height, width in shapes:
        for k, n in ((c, 4 * c), (4 * c, c)):
            # Random like the images: constants draw less power, and a GPU runs them faster.
            x = torch.randn(batch * height * width, k).to(setting.device, DTYPES[setting.dtype])
            product = partial(F.linear, x, torch.randn(n, k).to(x))
            rate = 2 * x.numel() * n / _time(product, setting.seconds / 50).median
            found.append((rate, f'{len(x)}x{k} by {k}x{n}'))
    return found


def interleave(functions: dict[Entry, Callable], seconds: float, rounds: int) -> list[Measurement]:
    """Time functions in turn: what disturbs the machine for a while disturbs all alike."""
    turns = {key: [] for key in functions}
    for index in track(range(rounds), 'Timing', transient=True, disable=not sys.stdout.isatty()):
        # There and back again: the neighbours of each change.
        for key in list(functions)[:: -1 if index % 2 else 1]:
            turns[key].append(_time(functions[key], seconds / rounds))
    return [Measurement.merge(measured)[0] for measured in turns.values()]


def _time(function: Callable[[], object], seconds: float) -> Measurement:
    """Time a function after a first call, which fills caches; on CUDA until its work is done."""
    timer = Timer('function()', globals={'function': function}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=seconds)


def peak_mib(workload: Workload, build: Build) -> float | None:
    """Return the most memory that an iteration needs, weights and images included, if known."""
    if workload.images.is_cuda:
        workload.module.zero_grad()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        workload.iterate()
        return (torch.cuda.max_memory_allocated() - before + workload.nbytes) / 2**20
    if not _RESET.exists():
        return None
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload([name for name in _LIBRARIES if name in sys.modules])
    entry, setting = workload.entry, workload.setting
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_high_water_mark, build, entry, setting).result()


def _high_water_mark(build: Build, entry: Entry, setting: Setting) -> float:
    import resource

    workload = build(entry, setting)
    warm = workload if entry.compiled else build(entry, setting._replace(shape=(2, 64, 64)))
    warm.iterate()  # Threads, libraries and the compiler allocate what is their own.
    warm.module.zero_grad()
    if trim := getattr(ctypes.CDLL(None), 'malloc_trim', None):
        trim(0)  # Peaks inside of memory that is free, but not given back, would not be seen.
    _RESET.write_text('5')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(2):
        workload.iterate()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return grown / 2**10 + workload.nbytes / 2**20


def add_ratios(rows: pd.DataFrame, batch: int, limit: float) -> pd.DataFrame:
    """Add speed and memory relative to other packages, and to the limit in milliseconds."""
    rows = rows.astype({'peak_mib': float})
    eager, compiled = (rows[(rows.source != 'ours') & (rows.compiled == c)] for c in (False, True))
    return rows.assign(
        images_per_s=1e3 * batch / rows.p50,
        compile_s=(rows.first_s - rows.p50 / 1e3).where(rows.compiled),
        x_eager=eager.p50.min() / rows.p50,
        x_compiled=compiled.p50.min() / rows.p50,
        x_memory=rows.peak_mib / eager.peak_mib.min(),
        of_limit=limit / rows.p50,
    )
