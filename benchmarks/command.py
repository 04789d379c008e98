"""What the two benchmark tools do alike: prepare, measure, print, write."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.checks import DisagreementError
from benchmarks.machine import BUSY, load, processor
from benchmarks.report import LEGEND, print_result, write_report
from benchmarks.runner import Plan, Subject, run
from benchmarks.settings import Candidate, Setting

# What is measured, the entries of the table, the table's setting, and notes on it.
Job = tuple[Subject, Sequence[Candidate], Setting, Sequence[str]]


def prepare(args: argparse.Namespace) -> list[str]:
    """Set threads and flags for all entries alike; return notes on a busy machine."""
    busy = load()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = args.tf32
    if torch.device(args.device).type == 'cuda':
        torch.cuda.set_device(args.device)
    if busy is None or busy <= BUSY:
        return []
    return [f'the load average was {busy:.1f} before the start: times may be those of others, too']


def measure(jobs: Sequence[Job], args: argparse.Namespace, out: Path, notes: list[str]) -> None:
    """Measure tables one after the other, print each and write all.

    Raises:
        SystemExit: If entries disagree, or there is nothing to measure, with a message.
    """
    for note in notes:
        print(f'Note: {note}', file=sys.stderr)
    print(
        f'{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}', end='\n\n'
    )
    plan = Plan(args.seconds, args.rounds, not args.no_memory)
    results = []
    for subject, candidates, setting, remarks in jobs:
        if not candidates:
            sys.exit(f'{setting.title}: no entry has {" or ".join(args.entries)} in its name.')
        try:
            result = run(subject, candidates, setting, plan)
        except DisagreementError as error:
            sys.exit(f'{setting.title}: no ratio is given, because entries disagree.\n{error}')
        result.notes[:0] = remarks
        print_result(result)
        results.append(result)
    print(LEGEND, end='\n\n')
    for path in write_report(results, out, notes):
        print(path)
