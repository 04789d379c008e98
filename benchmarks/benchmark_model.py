"""Compare speed and memory of whole detectors and segmenters: our backbone against mmpretrain's.

Models of PoolFormers are measured with mmpretrain's backbone, too, with the same weights; others
with ours alone. An inference iteration is everything up to the raw outputs (mode 'tensor'), a
training iteration the losses of random annotations and the backward pass. It is checked first that
all backbones compute the same; otherwise no ratio is given, and the exit status is 1.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmengine.config import Config

from benchmarks.command import Job, measure, prepare
from benchmarks.settings import MODES, Setting, add_common_arguments, select
from benchmarks.whole_models import subject_of, test_size
from mmpoolformer.engine.launch import add_config_arguments, load_config

BATCH = {'inference': 1, 'training': 2}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='e.g. configs/detection/retinanet_poolformer_s12_1x.py')
    add_common_arguments(parser)
    parser.add_argument(
        '--out',
        type=Path,
        metavar='DIR',
        help='for benchmark.json and benchmark.png (default: work_dirs/benchmark_model/<config>)',
    )
    add_config_arguments(parser)
    return parser.parse_args()


def jobs(args: argparse.Namespace, cfg: Config) -> list[Job]:
    """Return the tables asked for."""
    subject = subject_of(cfg)
    candidates, notes = subject.candidates(args.device)
    candidates = select(candidates, args.entries)
    found = []
    for mode in (m for m in MODES if m in args.mode):
        for dtype in args.dtypes:
            for shape in args.shapes or [(BATCH[mode], *test_size(cfg))]:
                # Losses and box coding are not written for weights of half precision.
                setting = Setting(Path(args.config).stem, shape, mode, dtype, True, args.device)
                found.append((subject, candidates, setting, notes))
    return found


def main() -> None:
    args = parse_args()
    notes = prepare(args)
    cfg = load_config(args, needs=('model', 'test_dataloader', 'default_scope'))
    out = args.out or Path('work_dirs/benchmark_model') / Path(args.config).stem
    measure(jobs(args, cfg), args, out, notes)


if __name__ == '__main__':
    main()
