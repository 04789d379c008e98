"""Compare speed and memory of backbones: ours, timm's, mmpretrain's and transformers'.

All have the same weights, see the same images and return the maps that their four stages end with,
without further norms. They are timed in turn, several rounds, after it was checked that they
compute the same; otherwise no ratio is given, and the exit status is 1.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.backbones import Backbone
from benchmarks.command import Job, measure, prepare
from benchmarks.settings import MODES, Setting, add_common_arguments, select
from mmpoolformer import ARCHS

# Five minutes on two cores, all of them.
SHAPES = {
    'inference': [(1, 800, 1344), (1, 224, 224), (8, 224, 224)],
    'training': [(2, 512, 512)],
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--models', nargs='+', choices=ARCHS, metavar='NAME', default=['poolformer_s12']
    )
    add_common_arguments(parser)
    parser.add_argument(
        '--amp', action='store_true', help='weights stay in float32, autocast brings the others'
    )
    parser.add_argument(
        '--compile', action='store_true', help='each under torch.compile, too: takes minutes'
    )
    parser.add_argument(
        '--channels-last', action='store_true', help="in that format, too, others than timm's"
    )
    parser.add_argument(
        '--out',
        type=Path,
        metavar='DIR',
        default=Path('work_dirs/benchmark_backbone'),
        help='for benchmark.json and benchmark.png (default: %(default)s)',
    )
    return parser.parse_args()


def jobs(args: argparse.Namespace) -> list[Job]:
    """Return the tables asked for."""
    found = []
    for model in args.models:
        subject = Backbone(model)
        candidates, notes = subject.candidates(
            args.device, compiled=args.compile, channels_last=args.channels_last
        )
        candidates = select(candidates, args.entries)
        for mode in (m for m in MODES if m in args.mode):
            for dtype in args.dtypes:
                for shape in args.shapes or SHAPES[mode]:
                    setting = Setting(model, shape, mode, dtype, args.amp, args.device)
                    found.append((subject, candidates, setting, notes))
    return found


def main() -> None:
    args = parse_args()
    notes = prepare(args)
    measure(jobs(args), args, args.out, notes)


if __name__ == '__main__':
    main()
