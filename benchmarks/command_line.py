"""What the two commands do alike: read options, measure, print a table, write JSON and a chart."""

import argparse
import datetime
import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import distributions
from itertools import product
from pathlib import Path

import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch.utils.collect_env import get_env_info

from benchmarks.checks import DisagreementError
from benchmarks.measure import measure
from benchmarks.workload import DTYPES, Build, Entry, Setting
from mmpoolformer.engine.launch import device_problem


def parse_shape(text: str) -> tuple[int, int, int]:
    """Read ``BxHxW``, for argparse."""
    batch, *sides = map(int, text.split('x')) if re.fullmatch(r'\d+(x\d+){2}', text) else (0, 0)
    if batch < 1 or min(sides) < 32:
        cure = 'give images x height x width, both at least 32 pixels, e.g. 8x224x224'
        raise argparse.ArgumentTypeError(f'{text} is no shape: {cure}')
    return batch, *sides


def make_parser(module: str, description: str) -> argparse.ArgumentParser:
    """Return the options that both commands have."""
    parser = argparse.ArgumentParser(f'python -m {module}', description=description)
    add, modes = parser.add_argument, ('inference', 'training')
    add('--mode', nargs='+', choices=modes, default=modes, help='default: both')
    add('--shapes', nargs='+', type=parse_shape, metavar='BxHxW', help='e.g. 1x800x1344 8x224x224')
    add('--dtypes', nargs='+', choices=DTYPES, default=['float32'])
    add('--device', default='cpu', help='e.g. cuda (default: cpu)')
    add('--tf32', action='store_true', help='let float32 products on CUDA round to TF32, for all')
    add('--entries', nargs='+', metavar='TEXT', help='only entries whose name has one of these')
    add('--seconds', type=float, default=7.0, help='per entry and table (default: %(default)g)')
    add('--rounds', type=int, default=5, help='the seconds are spread over (default: %(default)d)')
    add('--no-memory', dest='memory', action='store_false', help='leave peak memory out')
    add('--out', type=Path, metavar='DIR', help='default: work_dirs/benchmarks/<model or config>')
    return parser


def measure_all(
    args: argparse.Namespace,
    subjects: Sequence[tuple[str, Build, Sequence[Entry]]],
    shapes: Mapping[str, Sequence[tuple[int, int, int]]],
) -> None:
    """Measure, print and write tables; exit with a message where entries disagree.

    Args:
        args: Options of :func:`make_parser`, and ``amp``.
        subjects: Name, what builds an entry, and entries of each model.
        shapes: Of each mode, unless the options name others.
    """
    if problem := device_problem(args.device):
        sys.exit(f'--device {args.device} cannot be used: {problem}')
    if args.device.startswith('cuda'):
        torch.cuda.set_device(torch.device(args.device).index or 0)
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = args.tf32
    tables = []
    for (model, build, entries), mode, dtype in product(subjects, args.mode, args.dtypes):
        wanted = [e for e in entries if any(text in e.name for text in args.entries or [''])]
        if not wanted:
            sys.exit(f'{model}: no entry has {" or ".join(args.entries)} in its name.')
        for shape in args.shapes or shapes[mode]:
            amp = args.amp and dtype != 'float32'
            setting = Setting(model, shape, mode, dtype, amp, args.device)
            setting = setting._replace(seconds=args.seconds, rounds=args.rounds, memory=args.memory)
            try:
                tables.append(measure(build, wanted, setting))
            except DisagreementError as error:
                sys.exit(f'{setting.title}: no ratio is given, because entries disagree.\n{error}')
            print_table(tables[-1])
    write_report(tables, args.out or Path('work_dirs/benchmarks') / tables[0]['model'])


def print_table(table: dict) -> None:
    """Print one table in Markdown, what its limit is, and its notes."""
    rows, limit = pd.DataFrame(table['rows']), table['limit']
    hidden = ['source', 'fused', 'channels_last', 'compiled', 'first_s', 'milliseconds']
    rows = rows.drop(columns=hidden).dropna(axis=1, how='all').astype(object)
    rows = rows.where(rows.notna(), None)
    text = rows.to_markdown(index=False, floatfmt='.4g', missingval='–')
    print(table['title'], text, '', sep='\n\n')
    macs, flops = f'{limit["macs"] / 1e9:.2f} GMACs', f'{limit["flops"] / 1e9:.0f} GFLOP/s'
    print(f'Limit: {limit["milliseconds"]:.2f} ms for {macs} at {flops} ({limit["product"]}).')
    print(*(f'Note: {note}' for note in table['notes']), '', sep='\n')


def write_report(tables: Sequence[dict], folder: Path) -> None:
    """Write ``benchmark.json``, with what is needed to repeat it, and ``benchmark.png``."""
    packages = re.compile(r'(onedl-)?mm\w+|torch|triton|timm|transformers|numpy')
    machine = {
        'date': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
        'command': shlex.join(['python', *sys.orig_argv[1:]]),
        'threads': torch.get_num_threads(),
        'tf32': torch.backends.cuda.matmul.allow_tf32,
        'versions': {d.name: d.version for d in distributions() if packages.fullmatch(d.name)},
        **get_env_info()._asdict(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps({'machine': machine, 'tables': tables}, indent=1)
    (folder / 'benchmark.json').write_text(content + '\n', encoding='utf-8')
    figure = Figure((9, 3.5 * len(tables)), layout='constrained')
    for axis, table in zip(figure.subplots(len(tables), squeeze=False).flat, tables, strict=True):
        _draw(axis, table)
    figure.savefig(folder / 'benchmark.png', dpi=150)
    print(folder / 'benchmark.json', folder / 'benchmark.png', sep='\n')


def _draw(axis: Axes, table: dict) -> None:
    rows = pd.DataFrame(table['rows'])
    colours = ['#1f6f8b' if source == 'ours' else '#c9a26b' for source in rows.source]
    whiskers = [rows.p50 - rows.p25, rows.p75 - rows.p50]
    bars = axis.barh(rows.entry, rows.p50, xerr=whiskers, color=colours)
    ratios = rows.x_eager.map(' ({:.2f}×)'.format, na_action='ignore').fillna('')
    axis.bar_label(bars, rows.p50.map('{:.1f} ms'.format) + ratios, padding=4)
    axis.axvline(table['limit']['milliseconds'], color='black', ls='--')
    axis.invert_yaxis()
    axis.margins(x=0.3)
    quantity = 'ms: median, quartiles (× the fastest other package, eager); dashed: the limit'
    axis.set(title=table['title'], xlabel=quantity)
