"""Interleaved timing: what disturbs the machine for a while disturbs all entries alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch

PERCENTILES = (20, 50, 80)
_MOST_QUEUED = 1000


def summarise(seconds: Sequence[float]) -> dict[str, float]:
    """Return percentiles of times, in milliseconds: ``{'p20': ..., 'p50': ..., 'p80': ...}``."""
    values = np.percentile(np.asarray(seconds) * 1e3, PERCENTILES)
    return {f'p{p}': float(value) for p, value in zip(PERCENTILES, values, strict=True)}


def interleave(
    functions: Mapping[str, Callable[[], object]],
    seconds: float,
    rounds: int,
    *,
    on_cuda: bool = False,
    tick: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """Time functions in turn, several times over.

    Args:
        functions: What is timed, by name.
        seconds: For each function, over all rounds.
        rounds: How often it is each one's turn.
        on_cuda: Whether the functions only queue work on a GPU.
        tick: Called after every turn.

    Returns:
        Seconds of each iteration, by name; at least one per round.
    """
    turn = _turn_on_cuda if on_cuda else _turn
    times = {name: [] for name in functions}
    for index in range(rounds):
        # There and back again: each one's neighbours change.
        for name in list(functions)[:: -1 if index % 2 else 1]:
            gc.collect()
            gc.disable()
            try:
                times[name] += turn(functions[name], seconds / rounds)
            finally:
                gc.enable()
            tick()
    return times


def _turn(function: Callable[[], object], seconds: float) -> list[float]:
    end = time.perf_counter() + seconds
    function()  # Caches are full of what the one before used.
    times = []
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return times


def _turn_on_cuda(function: Callable[[], object], seconds: float) -> list[float]:
    """Time between marks in the queue of the GPU, which has no gaps as long as it is filled."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    torch.cuda.synchronize()
    once = time.perf_counter() - start
    count = min(_MOST_QUEUED, max(1, round((seconds - once) / once)))
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
    marks[0].record()
    for mark in marks[1:]:
        function()
        mark.record()
    torch.cuda.synchronize()
    return [a.elapsed_time(b) / 1e3 for a, b in pairwise(marks)]
