"""Evaluate a checkpoint with the config it was trained with."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmpoolformer import preflight
from mmpoolformer.checkpoint import load_weights
from mmpoolformer.engine.launch import (
    add_common_arguments,
    build_runner,
    fail,
    load_config,
    plain_errors,
    plain_model,
    refuse_problems,
    stop,
    task_of,
)

NEEDS = ('model', 'test_dataloader', 'test_evaluator', 'test_cfg')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='e.g. configs/detection/retinanet_poolformer_s12_1x.py')
    parser.add_argument('checkpoint', help='file to evaluate, e.g. work_dirs/.../epoch_12.pth')
    parser.add_argument(
        '--out',
        metavar='PATH',
        help='save the predictions: a .pkl file; for segmentation also a folder of label maps',
    )
    parser.add_argument('--show', action='store_true', help='show predictions in a window')
    parser.add_argument('--show-dir', metavar='DIR', help='save pictures of the predictions')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds per window of --show')
    add_common_arguments(parser)
    return parser.parse_args()


def apply_options(cfg, args: argparse.Namespace) -> None:
    """Write the options of this tool into ``cfg``.

    Raises:
        SystemExit: If ``--out`` does not suit the task, with a message.
    """
    cfg.resume, cfg.load_from = False, None
    if args.out:
        evaluators = (
            cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
        )
        if args.out.endswith(('.pkl', '.pickle')):
            # mmdet's own dumper compresses masks.
            dump = 'mmdet.DumpDetResults' if task_of(cfg) == 'mmdet' else 'mmengine.DumpResults'
            evaluators = [*evaluators, dict(type=dump, out_file_path=args.out)]
        elif task_of(cfg) == 'mmseg':
            evaluators[0]['output_dir'] = args.out
        else:
            fail(f'--out {args.out}: must end in .pkl')
        cfg.test_evaluator = evaluators
    if args.show_dir:  # mmdet puts a relative path below its work dir.
        args.show_dir = str(Path(args.show_dir).absolute())
    if args.show or args.show_dir:
        cfg.default_hooks.visualization = _visualization_hook(task_of(cfg), args)
        if task_of(cfg) == 'mmseg' and args.show_dir:
            cfg.visualizer.save_dir = args.show_dir


def _visualization_hook(task: str, args: argparse.Namespace) -> dict:
    """Return the hook that draws test predictions in ``task``, a library's name."""
    if task == 'mmdet':
        return dict(
            type='DetVisualizationHook',
            draw=True,
            show=args.show,
            wait_time=args.wait_time,
            test_out_dir=args.show_dir,
        )
    if task == 'mmseg':
        return dict(
            type='SegVisualizationHook',
            draw=True,
            show=args.show,
            wait_time=args.wait_time,
            interval=1,
        )
    return dict(
        type='VisualizationHook',
        enable=True,
        show=args.show,
        wait_time=args.wait_time,
        out_dir=args.show_dir,
        interval=1,
    )


def main() -> None:
    args = parse_args()
    cfg = load_config(args, NEEDS)
    apply_options(cfg, args)
    refuse_problems(
        preflight.check(
            cfg,
            splits=('test',),
            checkpoint=args.checkpoint,
            distributed=args.launcher != 'none',
        ),
        args.config,
    )
    with plain_errors(args.config):
        runner = build_runner(cfg)
        checkpoint = load_weights(plain_model(runner), args.checkpoint)
        runner.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        runner.logger.info(f'Loaded {args.checkpoint}')
        runner.test()


if __name__ == '__main__':
    try:
        main()
    except KeyboardInterrupt as interrupt:
        stop('Interrupted.', interrupt)
