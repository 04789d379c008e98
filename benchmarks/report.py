"""Results for people and programs: a table, ``benchmark.json`` and ``benchmark.png``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.chart import draw
from benchmarks.machine import describe
from benchmarks.runner import Entry, Result
from benchmarks.timing import summarise

_WIDTH = 132  # Of tables in files and pipes, which have none of their own.
_MIB = 2**20
# Column, key of a row, format.
_COLUMNS = (
    ('p20 ms', 'p20', '{:.2f}'),
    ('p50 ms', 'p50', '{:.2f}'),
    ('p80 ms', 'p80', '{:.2f}'),
    ('images/s', 'images_per_second', '{:.1f}'),
    ('peak MiB', 'peak_mib', '{:.0f}'),
    ('compile s', 'compile_seconds', '{:.0f}'),
    ('× eager', 'speed_to_best_eager_peer', '{:.2f}'),
    ('× compiled', 'speed_to_best_compiled_peer', '{:.2f}'),
    ('memory ×', 'memory_to_leanest_eager_peer', '{:.2f}'),
    ('of limit', 'share_of_limit', '{:.0%}'),
    ('error', 'error', '{:.0e}'),
)
LEGEND = (
    '× eager, × compiled: how many times faster than the fastest other package, as it is and under '
    'torch.compile (p50). memory ×: peak over that of the leanest other package, not compiled. of '
    'limit: time that all multiply-accumulates take at the best rate of plain matrix products of '
    'these sizes, over p50. error: largest of maps (in training gradients, too), relative to the '
    'reference in float32.'
)


def rows(result: Result) -> list[dict]:
    """Return what the table shows, one mapping per entry; what there is no number for is None."""
    peers = [e for e in result.entries if e.candidate.is_peer]
    eager = [e for e in peers if not e.candidate.compiled]
    fastest = min((e.p50 for e in eager), default=None)
    compiled = min((e.p50 for e in peers if e.candidate.compiled), default=None)
    leanest = min((e.memory for e in eager if e.memory is not None), default=None)
    return [_row(entry, result, fastest, compiled, leanest) for entry in result.entries]


def _row(
    entry: Entry,
    result: Result,
    fastest: float | None,
    compiled: float | None,
    leanest: int | None,
) -> dict:
    memory, compile_seconds = entry.memory, entry.compile_seconds
    return {
        'entry': entry.candidate.name,
        **asdict(entry.candidate),
        **summarise(entry.times),
        'images_per_second': result.setting.shape[0] / entry.p50,
        'peak_mib': None if memory is None else memory / _MIB,
        'compile_seconds': compile_seconds,
        'speed_to_best_eager_peer': fastest and fastest / entry.p50,
        'speed_to_best_compiled_peer': compiled and compiled / entry.p50,
        'memory_to_leanest_eager_peer': memory and leanest and memory / leanest,
        'share_of_limit': result.limit.seconds / entry.p50,
        'error': entry.error,
        'iterations': len(entry.times),
    }


def print_result(result: Result, console: Console | None = None) -> None:
    """Print one table, what its limit is, and its notes."""
    console = console or Console(width=None if sys.stdout.isatty() else _WIDTH)
    lines = rows(result)
    columns = [c for c in _COLUMNS if any(line[c[1]] is not None for line in lines)]
    table = Table(title=result.setting.title, title_justify='left')
    table.add_column('entry', no_wrap=True)
    for title, *_ in columns:
        table.add_column(title, justify='right')
    for line in lines:
        cells = ['–' if line[k] is None else form.format(line[k]) for _, k, form in columns]
        table.add_row(line['entry'], *cells, style='bold' if line['source'] == 'ours' else None)
    console.print(table)
    best = result.limit.best
    shape = '{}x{} by {}x{}'.format(*best.shape[:2], *best.shape[1:])
    console.print(
        f'Limit: {result.limit.seconds * 1e3:.2f} ms for {result.limit.macs / 1e9:.2f} GMACs at '
        f'{best.rate / 1e9:.0f} GFLOP/s ({best.method}, {shape}).',
        highlight=False,
    )
    for note in result.notes:
        console.print(f'Note: {note}', highlight=False)
    console.print()


def write_report(results: Sequence[Result], folder: Path, notes: Sequence[str]) -> list[Path]:
    """Write all results, with everything needed to repeat them.

    Args:
        results: The tables.
        folder: Made if it does not exist.
        notes: About the whole run.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / name for name in ('benchmark.json', 'benchmark.png')]
    content = {
        'machine': describe(results[0].setting.device),
        'legend': LEGEND,
        'notes': list(notes),
        'tables': [_as_json(result) for result in results],
    }
    files[0].write_text(json.dumps(content, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')
    draw(files[1], [(r.setting.title, rows(r), r.limit.seconds * 1e3) for r in results])
    return files


def _as_json(result: Result) -> dict:
    times = [[round(1e3 * t, 4) for t in entry.times] for entry in result.entries]
    return {
        **asdict(result.setting),
        'title': result.setting.title,
        'limit': {
            'milliseconds': result.limit.seconds * 1e3,
            'macs': result.limit.macs,
            'best': asdict(result.limit.best),
            'rates': [asdict(rate) for rate in result.limit.rates],
        },
        'rows': [
            {**row, 'milliseconds': each} for row, each in zip(rows(result), times, strict=True)
        ],
        'notes': result.notes,
    }
