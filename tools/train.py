"""Train a detector, segmenter or classifier from its config."""

from __future__ import annotations

import argparse
import os
import shlex
import sys

from mmengine.logging import print_log
from mmengine.runner.checkpoint import find_latest_checkpoint

from mmpoolformer import preflight
from mmpoolformer.checkpoint import fetch, read_checkpoint
from mmpoolformer.launch import (
    add_common_arguments,
    build_runner,
    fail,
    load_config,
    plain_errors,
    refuse_problems,
)

NEEDS = ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='e.g. configs/detection/retinanet_poolformer_s12_1x.py')
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate with the effective batch over the recipe's",
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='PATH',
        help='continue: alone or "auto" from the latest checkpoint in --work-dir, or from PATH',
    )
    add_common_arguments(parser)
    return parser.parse_args()


def apply_options(cfg, args: argparse.Namespace) -> None:
    """Write the options of this tool into ``cfg``."""
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            fail(f'--auto-scale-lr: {args.config} has no auto_scale_lr.base_batch_size')
        cfg.auto_scale_lr.enable = True
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume


def refuse_unsafe(cfg) -> None:
    """Read what the runner will load once with the safe reader, for its clearer messages.

    Addresses are fetched first, so that the runner gets the file that was checked.
    """
    if cfg.get('load_from'):
        cfg.load_from = str(fetch(cfg.load_from))
    path = cfg.get('load_from')
    if cfg.get('resume') and not path:
        path = find_latest_checkpoint(cfg.work_dir)
    if path:
        read_checkpoint(path)


def resume_command() -> str:
    """Return the command line that continues this run from its latest checkpoint."""
    argv = [*sys.argv]
    for i, argument in enumerate(sys.argv):
        if argument.split('=')[0] == '--resume':
            with_path = argument == '--resume' and not [*sys.argv, '-'][i + 1].startswith('-')
            argv = sys.argv[:i] + sys.argv[i + 1 + with_path :]
    return shlex.join(['python', *argv, '--resume'])


def main() -> None:
    args = parse_args()
    cfg = load_config(args, NEEDS)
    apply_options(cfg, args)
    refuse_problems(
        preflight.check(cfg, splits=('train', 'val'), distributed=args.launcher != 'none'),
        args.config,
    )
    with plain_errors(args.config):
        refuse_unsafe(cfg)
        runner = build_runner(cfg)
        if line := preflight.batch_line(cfg, runner.world_size):
            print_log(line, logger='current')
        runner.train()


if __name__ == '__main__':
    try:
        main()
    except KeyboardInterrupt:
        print(f'Interrupted. Continue with: {resume_command()}', flush=True)
        os._exit(130)  # Loader workers and loggers must not delay or garble the exit.
