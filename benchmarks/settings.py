"""What is measured: size, type, device and mode of a run, and the entries of its table."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass

import torch

from mmpoolformer.engine.launch import device_problem

MODES = ('inference', 'training')
DTYPES = {name: getattr(torch, name) for name in ('float32', 'bfloat16', 'float16')}
SMALLEST = 32  # Pixels per side that a backbone of stride 32 takes.


@dataclass(frozen=True)
class Setting:
    """One table: everything that its entries have in common.

    Args:
        model: Name shown, e.g. ``'poolformer_s12'``.
        shape: Images, height and width in pixels.
        mode: ``'inference'`` or ``'training'``, a step of forward and backward pass.
        dtype: One of :data:`DTYPES`.
        amp: Whether weights stay in float32 and autocast brings ``dtype``.
        device: E.g. ``'cpu'`` or ``'cuda:1'``.
    """

    model: str
    shape: tuple[int, int, int]
    mode: str = 'inference'
    dtype: str = 'float32'
    amp: bool = False
    device: str = 'cpu'

    @property
    def title(self) -> str:
        dtype = f'autocast to {self.dtype}' if self.uses_autocast else self.dtype
        shape = 'x'.join(map(str, self.shape))
        return f'{self.model}, {self.mode}, {shape}, {dtype}, {self.device}'

    @property
    def trains(self) -> bool:
        return self.mode == 'training'

    @property
    def on_cuda(self) -> bool:
        return torch.device(self.device).type == 'cuda'

    @property
    def uses_autocast(self) -> bool:
        return self.amp and self.dtype != 'float32'

    @property
    def weight_dtype(self) -> torch.dtype:
        return torch.float32 if self.amp else DTYPES[self.dtype]

    def autocast(self) -> torch.autocast:
        kind = torch.device(self.device).type
        return torch.autocast(kind, DTYPES[self.dtype], enabled=self.uses_autocast)


@dataclass(frozen=True)
class Candidate:
    """One entry of a table: which code runs the model, and how.

    Args:
        source: ``'ours'`` or the package it is from.
        fused: Implementation of our operations, empty for other packages.
        channels_last: Whether weights and images are in that memory format from the start.
        compiled: Whether ``torch.compile`` runs it.
    """

    source: str
    fused: str = ''
    channels_last: bool = False
    compiled: bool = False

    @property
    def name(self) -> str:
        parts = (
            self.source,
            self.fused,
            'channels_last' if self.channels_last else '',
            'compiled' if self.compiled else '',
        )
        return ' '.join(filter(None, parts))

    @property
    def is_peer(self) -> bool:
        return self.source != 'ours'


def parse_shape(text: str) -> tuple[int, int, int]:
    """Read ``BxHxW``, for argparse.

    Raises:
        argparse.ArgumentTypeError: If it is something else, or images are too small.
    """
    if not re.fullmatch(r'[1-9]\d*(x[1-9]\d*){2}', text):
        raise argparse.ArgumentTypeError(
            f'{text!r} is no shape: give images x height x width, e.g. 8x224x224'
        )
    batch, height, width = map(int, text.split('x'))
    if min(height, width) < SMALLEST:
        raise argparse.ArgumentTypeError(f'{text}: images have at least {SMALLEST} pixels a side')
    return batch, height, width


def parse_device(text: str) -> str:
    """Return the device named ``text`` after trying it, for argparse.

    Raises:
        argparse.ArgumentTypeError: If it cannot be used.
    """
    if reason := device_problem(text):
        raise argparse.ArgumentTypeError(f'{text} cannot be used: {reason}')
    return text


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that both benchmark tools have."""
    parser.add_argument(
        '--mode', nargs='+', choices=MODES, default=list(MODES), help='default: both'
    )
    parser.add_argument(
        '--shapes', nargs='+', type=parse_shape, metavar='BxHxW', help='e.g. 1x800x1344 8x224x224'
    )
    parser.add_argument('--dtypes', nargs='+', choices=DTYPES, default=['float32'])
    parser.add_argument('--device', type=parse_device, default='cpu', help='default: cpu')
    parser.add_argument('--threads', type=int, metavar='N', help="default: PyTorch's choice")
    parser.add_argument(
        '--tf32', action='store_true', help='let float32 products on CUDA round to TF32, for all'
    )
    parser.add_argument(
        '--entries', nargs='+', metavar='TEXT', help='only entries whose name has one of these'
    )
    parser.add_argument(
        '--seconds', type=float, default=7.0, help='per entry and table (default: %(default)g)'
    )
    parser.add_argument(
        '--rounds', type=int, default=5, help='the seconds are spread over (default: %(default)d)'
    )
    parser.add_argument('--no-memory', action='store_true', help='leave peak memory out')


def select(candidates: list[Candidate], parts: list[str] | None) -> list[Candidate]:
    """Return the candidates whose names contain one of ``parts``; all if there are none."""
    return [c for c in candidates if not parts or any(part in c.name for part in parts)]
