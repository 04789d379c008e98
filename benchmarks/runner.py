"""One table: build all entries, check them, then time them in turn and measure their memory."""

from __future__ import annotations

import contextlib
import gc
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from benchmarks.checks import check, computed, tolerances
from benchmarks.limit import Limit, measure_limit
from benchmarks.memory import peak_on_cpu, peak_on_cuda
from benchmarks.settings import Candidate, Setting
from benchmarks.timing import interleave, summarise
from benchmarks.workload import Workload

_UNTIMED = 2  # Iterations before the first round, after those of the checks.
_UNSTEADY = 1.3  # p80 over p20.


class Subject(Protocol):
    """What a table compares implementations of. It can be pickled."""

    def build(self, candidate: Candidate, setting: Setting) -> Workload:
        """Return an entry at work, with the same weights and images for all candidates."""

    def cost(self, setting: Setting) -> tuple[int, list[tuple[int, ...]]]:
        """Return multiply-accumulates of a forward pass, and the shapes of its maps."""


@dataclass(frozen=True)
class Plan:
    """How long and how to measure.

    Args:
        seconds: Per entry.
        rounds: The seconds are spread over.
        memory: Whether peak memory is measured.
    """

    seconds: float
    rounds: int
    memory: bool = True


@dataclass
class Entry:
    """One row: what was measured of a candidate.

    Args:
        candidate: What ran.
        error: Largest relative error of its maps (in training its gradients, too).
        first: Seconds of the first iteration.
        times: Seconds of the timed iterations.
        memory: Peak bytes, ``None`` if not measured.
    """

    candidate: Candidate
    error: float
    first: float
    times: list[float] = field(default_factory=list)
    memory: int | None = None

    @property
    def p50(self) -> float:
        """Median time of an iteration in seconds."""
        return summarise(self.times)['p50'] / 1e3

    @property
    def compile_seconds(self) -> float | None:
        return max(0.0, self.first - self.p50) if self.candidate.compiled else None


@dataclass
class Result:
    """One table.

    Args:
        setting: What its entries have in common.
        entries: Its rows.
        limit: The machine's limit in the same run.
        notes: What the reader should know: entries left out, a busy machine.
    """

    setting: Setting
    entries: list[Entry]
    limit: Limit
    notes: list[str]


@dataclass
class _Running:
    entry: Entry
    workload: Workload
    held: int = 0
    compiled: Path | None = None


def run(subject: Subject, candidates: Sequence[Candidate], setting: Setting, plan: Plan) -> Result:
    """Measure one table.

    A candidate of another package that cannot be built or run is left out, with a note.

    Raises:
        DisagreementError: If an entry does not compute what the reference does.
    """
    torch.compiler.reset()
    progress = Progress(
        console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
    )
    with progress, tempfile.TemporaryDirectory() as folder:
        steps = len(candidates) * (1 + plan.rounds + plan.memory)
        task = progress.add_task(setting.title, total=steps)

        def tick() -> None:
            progress.advance(task)

        # Before the entries: it also makes CUDA's libraries allocate what they share.
        limit = measure_limit(setting, *subject.cost(setting))
        expected = _expected(subject, setting)
        running, notes = [], []
        for candidate in candidates:
            try:
                running.append(_start(subject, candidate, setting, expected, Path(folder)))
            except (RuntimeError, NotImplementedError, ImportError) as error:
                if not candidate.is_peer:
                    raise
                reason = str(error).strip().splitlines() or [type(error).__name__]
                notes.append(f'{candidate.name} is left out: {reason[0]}')
            tick()
        del expected
        _time(running, setting, plan, tick)
        if plan.memory:
            _measure_memory(subject, running, setting, tick)
    entries = [r.entry for r in running]
    return Result(setting, entries, limit, notes + _unsteady(entries))


def _expected(subject: Subject, setting: Setting) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return what the reference computes in float32, and how far off others may be."""
    reference = Candidate('ours', 'reference')
    exact = computed(subject.build(reference, replace(setting, dtype='float32', amp=False)))
    plain = exact
    if setting.dtype != 'float32':
        plain = computed(subject.build(reference, setting))
    return exact, tolerances(plain, exact, setting.dtype)


def _start(
    subject: Subject,
    candidate: Candidate,
    setting: Setting,
    expected: tuple[dict[str, Tensor], dict[str, float]],
    folder: Path,
) -> _Running:
    """Build an entry, run it for the first time, and check what it computes."""
    before = torch.cuda.memory_allocated() if setting.on_cuda else 0
    workload = subject.build(candidate, setting)
    caches = folder / candidate.name.replace(' ', '_')
    with _empty_caches(caches) if candidate.compiled else contextlib.nullcontext():
        start = time.perf_counter()
        workload.compute()
        _wait(setting)
        first = time.perf_counter() - start
    error = check(candidate.name, computed(workload), *expected)
    workload.release()
    for _ in range(_UNTIMED):
        workload.iterate()
    workload.release()
    _wait(setting)
    running = _Running(Entry(candidate, error, first), workload)
    if setting.on_cuda:
        running.held = torch.cuda.memory_allocated() - before
    if candidate.compiled:
        running.compiled = next(caches.iterdir())
    return running


def _empty_caches(folder: Path) -> contextlib.AbstractContextManager:
    """Let nobody profit from what was compiled before; keep what is compiled in ``folder``."""
    from torch._inductor.utils import fresh_cache

    folder.mkdir()
    return fresh_cache(dir=str(folder), delete=False)


def _time(running: list[_Running], setting: Setting, plan: Plan, tick: Callable[[], None]) -> None:
    by_name = {r.entry.candidate.name: r for r in running}
    functions = {name: r.workload.iterate for name, r in by_name.items()}
    times = interleave(functions, plan.seconds, plan.rounds, on_cuda=setting.on_cuda, tick=tick)
    for name, r in by_name.items():
        r.entry.times = times[name]
        r.workload.release()


def _measure_memory(
    subject: Subject, running: list[_Running], setting: Setting, tick: Callable[[], None]
) -> None:
    for r in running:
        if setting.on_cuda:
            r.entry.memory = peak_on_cuda(r.workload, r.held)
        else:
            r.workload = None  # The other process needs the room.
            gc.collect()
            r.entry.memory = peak_on_cpu(subject.build, r.entry.candidate, setting, r.compiled)
        tick()


def _unsteady(entries: list[Entry]) -> list[str]:
    found = []
    for entry in entries:
        times = summarise(entry.times)
        if times['p80'] > _UNSTEADY * times['p20']:
            found.append(
                f'{entry.candidate.name}: p80 is {times["p80"] / times["p20"]:.2f} times p20; '
                'was the machine busy?'
            )
    return found


def _wait(setting: Setting) -> None:
    if setting.on_cuda:
        torch.cuda.synchronize()
