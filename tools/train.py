"""Train a detector, segmenter or classifier from its config."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
from pathlib import Path

from mmengine.logging import print_log

from mmpoolformer import CheckpointError, preflight
from mmpoolformer.checkpoint import (
    fetch,
    is_safetensors,
    load_weights,
    read_checkpoint,
    unwrap,
    wrapper_of,
    write_weights,
)
from mmpoolformer.engine.checkpointing import find_resumable
from mmpoolformer.engine.launch import (
    add_common_arguments,
    build_runner,
    fail,
    load_config,
    plain_errors,
    plain_model,
    refuse_problems,
    stop,
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


def was_restarted() -> bool:
    """Return whether torchrun or Slurm started this run once more after it had died."""
    names = ('TORCHELASTIC_RESTART_COUNT', 'SLURM_RESTART_COUNT')
    return any(int(os.environ.get(name) or 0) > 0 for name in names)


def apply_options(cfg, args: argparse.Namespace) -> None:
    """Write the options of this tool into ``cfg``."""
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            fail(f'--auto-scale-lr: {args.config} has no auto_scale_lr.base_batch_size')
        cfg.auto_scale_lr.enable = True
    if was_restarted():
        args.resume = args.resume or 'auto'
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume


def latest_checkpoint(work_dir: str) -> str | None:
    """Return the newest whole checkpoint of a run, and say which newer ones are damaged.

    Raises:
        CheckpointError: If there are checkpoints, but none is whole.
    """
    found, passed_over = find_resumable(work_dir)
    reasons = [f'{path}: {reason}' for path, reason in passed_over.items()]
    if found:
        for reason in reasons:
            print_log(f'Passed over {reason}', logger='current', level=logging.WARNING)
        return str(found)
    if reasons:
        listed = '\n  '.join(reasons)
        raise CheckpointError(
            f'--resume: no checkpoint in {work_dir} can be read:\n  {listed}\n'
            'To start anew, leave --resume out.'
        )
    print_log(f'{work_dir} holds no checkpoint: training starts anew.', logger='current')
    return None


def refuse_unsafe(cfg) -> str | None:
    """Read what the runner will load once with the safe reader, for its clearer messages.

    Addresses are fetched first, so that the runner gets the file that was checked. Of ``load_from``
    in a form that mmengine cannot read, the weights are written to the work dir, and loaded there.

    Returns:
        The checkpoint that training continues from, if any.

    Raises:
        CheckpointError: If it cannot be read, or holds no training state.
    """
    path = cfg.get('load_from')
    if path:
        path = cfg.load_from = str(fetch(path))
    elif cfg.get('resume'):
        path = cfg.load_from = latest_checkpoint(cfg.work_dir)
    if not path:
        return None
    checkpoint = read_checkpoint(path)
    if not cfg.get('resume'):
        # mmengine fails at the one, and would take the other for a model without weights.
        if is_safetensors(Path(path)) or wrapper_of(checkpoint) not in (None, 'state_dict'):
            cfg.load_from = f'{cfg.work_dir}/load_from.pth'
            write_weights(unwrap(checkpoint), cfg.load_from)
        return None
    if lacking := [key for key in ('meta', 'message_hub', 'optimizer') if key not in checkpoint]:
        raise CheckpointError(
            f'{path} cannot be resumed: it holds no {", ".join(lacking)}, so training did not '
            f'write it. To start from its weights, use --cfg-options load_from={path}'
        )
    return path


def how_to_continue() -> str:
    """Say how this run is continued from its latest checkpoint."""
    if '--launcher' in ' '.join(sys.argv):
        return 'Interrupted. To continue, start it again with --resume'
    argv = [*sys.argv]
    for i, argument in enumerate(sys.argv):
        if argument.split('=')[0] == '--resume':
            with_path = argument == '--resume' and not [*sys.argv, '-'][i + 1].startswith('-')
            argv = sys.argv[:i] + sys.argv[i + 1 + with_path :]
    return f'Interrupted. Continue with: {shlex.join(["python", *argv, "--resume"])}'


def main() -> None:
    args = parse_args()
    cfg = load_config(args, NEEDS)
    apply_options(cfg, args)
    refuse_problems(
        preflight.check(cfg, splits=('train', 'val'), distributed=args.launcher != 'none'),
        args.config,
    )
    with plain_errors(args.config):
        resumed = refuse_unsafe(cfg)
        runner = build_runner(cfg)
        if resumed:
            # The runner would load what fits, and train the rest from scratch without a word.
            load_weights(plain_model(runner), resumed)
        if line := preflight.batch_line(cfg, runner.world_size):
            print_log(line, logger='current')
        runner.train()


if __name__ == '__main__':
    try:
        main()
    except KeyboardInterrupt as interrupt:
        stop(how_to_continue(), interrupt)
