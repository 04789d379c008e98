"""What ``tools/train.py`` and ``tools/test.py`` share: options, config, checks, runner."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import pickle
import re
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import torch
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.config.utils import ConfigParsingError
from mmengine.dist import master_only
from mmengine.model import is_model_wrapper

from mmpoolformer import preflight
from mmpoolformer.checkpoint import CheckpointError, distrust_checkpoints, trust_checkpoints
from mmpoolformer.engine.checkpointing import SaveError
from mmpoolformer.mmcv_operators import MissingOperatorError, how_to_mend_operators

# Where launchers say which process this is: torchrun, Slurm, Open MPI.
_RANKS = {'pytorch': 'RANK', 'slurm': 'SLURM_PROCID', 'mpi': 'OMPI_COMM_WORLD_RANK'}
# What reading a file of Python can raise through its author's fault.
_CONFIG_ERRORS = (
    SyntaxError,
    NameError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    ImportError,
    OSError,
    AssertionError,
    ConfigParsingError,
)


class _ConfigCopy:
    """Gives the config that a runner writes into its work dir the same name in every run.

    mmengine names it after the file it was read from. mim, asked for a config by its name, searches
    all of a clone, the work dirs there too, and refuses to choose between two.
    """

    @master_only
    def dump_config(self) -> None:
        self.cfg.dump(str(Path(self.work_dir) / 'config.py'))


class _Options(DictAction):
    """``DictAction`` that names the option it cannot read, where mmengine's shows a traceback."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        for value in values:
            try:
                super().__call__(parser, namespace, [value], option_string)
            except (ValueError, AssertionError):
                raise argparse.ArgumentError(self, f'{value!r} is not KEY=VALUE') from None


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that training and testing have in common, spelt as in mmdetection."""
    parser.add_argument('--work-dir', help='folder for logs and checkpoints')
    add_config_arguments(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', *_RANKS],
        default='none',
        help='how processes are started; dist_train.sh and slurm_train.sh set it',
    )
    # torchrun sets LOCAL_RANK; older launchers pass one of these spellings instead.
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help='set by launchers'
    )


def device_problem(name: str) -> str | None:
    """Return why a device cannot be used, ``None`` if it can."""
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        return str(error).splitlines()[0]
    return None


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that every tool has which reads a config and a checkpoint.

    For tools without more options it is one process, and no work dir.
    """
    parser.set_defaults(work_dir=None, launcher='none', local_rank=0)
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=_Options,
        metavar='KEY=VALUE',
        help='override entries of the config, e.g. train_dataloader.batch_size=4 '
        "model.backbone.arch=s24 classes=\"('cat','dog')\"",
    )
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='load checkpoints that hold more than tensors and plain data: they can run any code',
    )


def load_config(args: argparse.Namespace, needs: Sequence[str]) -> Config:
    """Read the config of ``args`` and apply the common options.

    Args:
        args: The command line.
        needs: Top-level entries that the tool cannot do without.

    Raises:
        SystemExit: If the file is missing or is not a valid config, with a message.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if args.trust_checkpoint:
        trust_checkpoints()
    if not Path(args.config).is_file():
        fail(f'{args.config} does not exist. Configs are in configs/detection/ and beside it.')
    try:
        cfg = Config.fromfile(args.config)
    except _CONFIG_ERRORS as error:
        fail(f'{args.config} cannot be read: {type(error).__name__}: {error}{_line_of(error)}')
    try:
        cfg.merge_from_dict(args.cfg_options or {})
    except _CONFIG_ERRORS as error:
        fail(f'--cfg-options does not fit {args.config}: {type(error).__name__}: {error}')
    if lacking := [key for key in needs if cfg.get(key) is None]:
        fail(
            f'{args.config} is no complete config: it lacks {", ".join(lacking)}. The files in '
            'configs/_base_/ are parts; name one in configs/detection/ or beside it.'
        )
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or f'work_dirs/{Path(args.config).stem}'
    if args.launcher == 'none':
        _sync_bn_to_bn(cfg.model)
    return cfg


def refuse_problems(problems: list, config: str) -> None:
    """Exit with status 2 and a report if the pre-flight check found problems."""
    if problems:
        fail(preflight.report(problems, config), code=2)


def fail(message: str, code: int = 1) -> NoReturn:
    """Exit with a message on stderr; of several processes only the first one speaks."""
    if _is_first():
        print(message, file=sys.stderr)
    else:
        # Launchers end all processes with the first one: let that be the one that speaks.
        time.sleep(2)
    sys.exit(code)


def stop(message: str, interrupt: KeyboardInterrupt) -> NoReturn:
    """Exit with the status of a command that a signal ended, 130 after Ctrl-C."""
    if _is_first():
        print(message, flush=True)
    # Loader workers and loggers must not delay or garble the exit.
    os._exit(128 + getattr(interrupt, 'number', signal.SIGINT))


def _is_first() -> bool:
    return next((os.environ[name] for name in _RANKS.values() if name in os.environ), '0') == '0'


@contextmanager
def plain_errors(config: str) -> Iterator[None]:
    """Turn a user's mistakes into one message; any other exception keeps its traceback."""
    try:
        yield
    except (CheckpointError, MissingOperatorError, SaveError) as error:
        fail(f'{error}')
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        fail(
            f'{error.filename or "A file"} could not be written: {error.strerror}. Checkpoints '
            'that were saved are whole: make room and continue with --resume.'
        )
    except ImportError as error:
        if 'mmcv/_ext' not in str(error):
            raise
        fail(f'{error}\n{how_to_mend_operators()}')
    except pickle.UnpicklingError as error:
        refused = re.search(r'GLOBAL [^\s,]+', str(error))
        fail(
            f'A checkpoint that {config} names was not loaded: it holds more than tensors and '
            f'plain data, and loading it could run code ({refused[0] if refused else error}).'
        )
    except (KeyError, TypeError, ValueError) as error:
        if not (message := _config_mistake(error)):
            raise
        fail(f'{config} or --cfg-options: {message}')


def build_runner(cfg: Config):
    """Build the runner of ``cfg``, of the type it names if it names one.

    It writes the config to ``config.py`` in the work dir. Several processes without a GPU talk over
    gloo, if the config says so. The group is made here: mmengine would ask for CUDA.

    Raises:
        SystemExit: If the work dir cannot be made, with a message.
    """
    from mmengine.registry import RUNNERS
    from mmengine.runner import Runner

    try:
        Path(cfg.work_dir).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f'--work-dir {cfg.work_dir} cannot be made: {error.strerror}')
    distrust_checkpoints()
    logging.raiseExceptions = False  # A log that cannot be written is no reason to stop.

    backend = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('backend')
    if cfg.launcher != 'none' and backend == 'gloo' and not torch.cuda.is_available():
        if cfg.launcher != 'pytorch':
            fail(f'--launcher {cfg.launcher} needs GPUs; without them use tools/dist_train.sh.')
        torch.distributed.init_process_group('gloo')
        cfg.model_wrapper_cfg = dict(
            type='MMDistributedDataParallel',
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False),
        )
        _sync_bn_to_bn(cfg.model)  # SyncBN runs on GPUs only.
    named = cfg.get('runner_type', Runner)
    base = RUNNERS.get(named) if isinstance(named, str) else named
    if base is None:
        fail(f'runner_type {named!r} is not in the runner registry: is it spelt correctly?')
    return type(base.__name__, (_ConfigCopy, base), {}).from_cfg(cfg)


def plain_model(runner) -> torch.nn.Module:
    """Return the runner's model without the wrapper that distributes it."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def task_of(cfg: Config) -> str:
    """Return ``'mmdet'``, ``'mmseg'`` or ``'mmpretrain'``, the library that runs ``cfg``."""
    return cfg.get('default_scope', 'mmengine')


def _sync_bn_to_bn(node) -> None:
    """Replace SyncBN by BN in a nested config: it needs several processes with a GPU each."""
    if isinstance(node, (dict, ConfigDict)):
        if node.get('type') == 'SyncBN':
            node['type'] = 'BN'
        for value in node.values():
            _sync_bn_to_bn(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            _sync_bn_to_bn(value)


def _line_of(error: BaseException) -> str:
    """Name the line of the config that raised ``error``."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.name == '<module>']
    return f' (line {frames[-1].lineno})' if frames else ''


def _config_mistake(error: BaseException) -> str | None:
    """Say what is wrong with the config, if ``error`` came from building an object out of it."""
    while error.__context__:  # The original mmengine raises each error again at every level.
        error = error.__context__
    frames = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    text = str(error.args[0]) if error.args else ''
    if 'build_functions.py' not in [path.name for path in frames]:
        return None
    if isinstance(error, KeyError) and ' registry. ' in text:
        return f'{text.split(" registry. ")[0]} registry: is its `type` spelt correctly?'
    if isinstance(error, TypeError) and re.search(r'unexpected keyword|missing \d+ required', text):
        return f'{text}: is the key spelt correctly?'
    if isinstance(error, ValueError) and Path(__file__).parents[1] in frames[-1].parents:
        return text
    return None
