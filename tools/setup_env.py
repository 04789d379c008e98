#!/usr/bin/env python3
"""Makes, continues or repairs the virtual environment in which everything here runs.

The order is torch, mmcv, the other pinned packages, this package, a verifying import, and only
then a stamp. Without a matching stamp an environment counts as half-built and every step runs
again; pip skips what is there already.

Only the standard library is used: this runs before anything is installed.

Example:
    $ python3 tools/setup_env.py --stack onedl
    The environment .venv (stack onedl) is ready.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import importlib.util
import json
import re
import shutil
import signal
import sys
from pathlib import Path

from _mmcv_wheel import PYTHON_TAG, cache_folder, check_compilable, get_wheel
from _setup_commands import SetupError, locked, run_logged, runs

ROOT = Path(__file__).resolve().parent.parent
STAMP = '.mmpoolformer-ready'
# Every environment made here has it from its first moment: what carries it may be made again.
LOG = 'mmpoolformer-setup.log'
VENV = {'onedl': '.venv', 'openmmlab': '.venv-openmmlab'}
MMCV = {'onedl': 'onedl-mmcv', 'openmmlab': 'mmcv'}
MIM = {'onedl': 'onedl-mim', 'openmmlab': 'openmim'}
# torch 2.11 has builds up to Python 3.14. The setup.py of mmcv 2.1 reads locals() after exec(),
# which Python 3.13 no longer allows.
NEWEST_PYTHON = {'onedl': (3, 14), 'openmmlab': (3, 12)}
PYTHON = '{}.{}'.format(*sys.version_info)
# torch with its CUDA libraries takes 4.7 GB; the rest and what is unpacked meanwhile about 3 GB.
NEEDED_BYTES = 8_000_000_000
VERIFY = 'import torch, mmcv.ops, mmengine, mmdet, mmseg, mmpretrain, mmpoolformer'


class Environment:
    """One virtual environment of one stack, and where its parts lie."""

    def __init__(self, stack: str, venv: Path) -> None:
        self.stack = stack
        self.folder = venv.expanduser().resolve()
        self.python = self.folder / 'bin' / 'python'
        self.site_packages = self.folder / 'lib' / f'python{PYTHON}' / 'site-packages'
        self.stamp = self.folder / STAMP
        self.log = self.folder / LOG
        pins = ROOT / 'requirements'
        self.torch, self.packages, self.dev, self.mim = (
            pins / f'{name}.txt' for name in ('torch', stack, 'dev', 'mim')
        )
        self.constraints = pins / 'constraints.txt'

    def __str__(self) -> str:
        inside = self.folder.is_relative_to(ROOT)
        return str(self.folder.relative_to(ROOT) if inside else self.folder)

    def digest(self) -> str:
        """Returns what a stamp must hold: pins, stack, Python, and that nothing was moved."""
        parts = [self.stack, PYTHON_TAG, str(ROOT), str(self.folder)]
        for path in (self.torch, self.packages, self.dev, self.mim, self.constraints):
            parts.append(path.read_text())
        return hashlib.sha256('\0'.join(parts).encode()).hexdigest()

    def installed(self) -> set[str]:
        """Returns the names of the packages' metadata folders, which hold their versions."""
        return {path.name for path in self.site_packages.glob('*.dist-info')}

    def is_ready(self) -> bool:
        """Whether a set-up finished here and nothing that it installed is gone since."""
        try:
            stamp = json.loads(self.stamp.read_text())
            fits = stamp['digest'] == self.digest() and set(stamp['packages']) <= self.installed()
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
            return False
        return fits and runs([str(self.python), '-c', 'pass'])

    def write_stamp(self) -> None:
        """Declares the environment finished."""
        part = self.stamp.with_suffix('.part')
        content = {'digest': self.digest(), 'packages': sorted(self.installed())}
        part.write_text(json.dumps(content, indent=0))
        part.replace(self.stamp)


def pinned(path: Path, name: str) -> str:
    """Returns the line of the file `path` that pins the package `name`, e.g. `mmcv==2.1.0`."""
    found = re.search(rf'^{re.escape(name)}==\S+', path.read_text(), re.MULTILINE)
    if not found:
        raise SetupError(f'{path} does not pin {name}.')
    return found[0]


def check_host(env: Environment, mmcv: str) -> None:
    """Raises SetupError for what would make the set-up fail, before anything is downloaded."""
    newest = NEWEST_PYTHON[env.stack]
    if not (3, 10) <= sys.version_info[:2] <= newest:
        raise SetupError(
            f'The stack {env.stack} needs Python 3.10 to 3.{newest[1]}, and {sys.executable} is '
            f'{PYTHON}. Name another one: make install STACK={env.stack} PYTHON=python3.12'
        )
    if not all(importlib.util.find_spec(name) for name in ('venv', 'ensurepip')):
        raise SetupError(
            'This Python cannot make virtual environments. '
            'On Debian or Ubuntu: sudo apt install python3-venv'
        )
    check_compilable(mmcv, pinned(env.torch, 'torch').split('==')[1])
    free = shutil.disk_usage(next(p for p in env.folder.parents if p.exists())).free
    if free < NEEDED_BYTES and not (env.site_packages / 'torch').exists():
        raise SetupError(f'{env} needs 8 GB of free disk space, and there is {free / 1e9:.1f} GB.')


def venv_problem(env: Environment) -> str | None:
    """Returns why what is in the environment's folder cannot be continued, or None if it can."""
    if not env.python.exists():
        gone = env.python.is_symlink()
        return 'the Python it was made with is gone' if gone else 'there is no Python in it'
    same = f'import sys; assert sys.version_info[:2] == {sys.version_info[:2]}'
    if not runs([str(env.python), '-c', same]):
        return f'its Python does not run or is not {PYTHON}'
    pip = env.folder / 'bin' / 'pip'
    if not pip.exists() or not runs([str(env.python), '-m', 'pip', '--version']):
        return 'it has no working pip'
    # Scripts name their interpreter by its full path, which fits no other folder.
    interpreter = re.search(r'/.*?/bin/python[\d.]*', pip.read_text())
    if not interpreter or Path(interpreter[0]).parent.parent.resolve() != env.folder:
        return 'it was made in another folder and moved'
    return None


def make_venv(env: Environment) -> None:
    """Makes the environment, or makes it again if what is there cannot be continued."""
    entries = list(env.folder.iterdir()) if env.folder.exists() else []
    problem = venv_problem(env) if entries else None
    if entries and not problem:
        env.log.touch()
        return
    if problem and not env.log.exists():
        raise SetupError(
            f'{env} cannot be used: {problem}. It was not made by this tool, so it is left as it '
            'is: remove it and run the same command again.'
        )
    if problem:
        print(f'{env} cannot be continued: {problem}. It is made again.', flush=True)
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry != env.log:
            entry.unlink()
    env.folder.mkdir(parents=True, exist_ok=True)
    env.log.touch()
    # In an activated environment sys.executable may be the one that was just deleted.
    base = getattr(sys, '_base_executable', None) or sys.executable
    run_logged([base, '-m', 'venv', str(env.folder)], env.log, f'Making {env}')


def remove_half_installed(env: Environment) -> None:
    """Removes what an interrupted pip left and the next one would take for complete packages.

    pip writes the file INSTALLER after a package's own files, and keeps what it is replacing
    under a name that starts with `~`.
    """
    half = [p for p in env.site_packages.glob('*.dist-info') if not (p / 'INSTALLER').exists()]
    for folder in [*half, *env.site_packages.glob('~*')]:
        print(f'Removing {folder.name}, which was half installed.', flush=True)
        shutil.rmtree(folder)


def install(env: Environment, mmcv: str) -> None:
    """Runs every step of a set-up; on a continued environment most find nothing to do."""
    env.stamp.unlink(missing_ok=True)
    make_venv(env)
    remove_half_installed(env)

    def pip(label: str, *arguments: str | Path) -> None:
        command = [str(env.python), '-m', 'pip', 'install', '--disable-pip-version-check']
        run_logged([*command, *map(str, arguments)], env.log, label)

    pip('Installing torch', '-r', env.torch)
    wheel = get_wheel(env.python, mmcv, env.log)
    # Forced, because the same version may be there, compiled against an earlier torch.
    pip(f'Installing {mmcv}', '--no-deps', '--force-reinstall', wheel)
    pip(f'Installing the {env.stack} stack', '-r', env.packages, '-r', env.dev)
    pip('Installing mim', '--no-deps', pinned(env.mim, MIM[env.stack]))
    pip('Installing mmpoolformer', '--no-deps', '--no-build-isolation', '-e', ROOT)
    run_logged([str(env.python), '-c', VERIFY], env.log, 'Verifying')
    env.write_stamp()


def set_up(env: Environment, repair: bool) -> None:
    """Brings `env` into the state that its stamp stands for.

    Args:
        env: The environment to make, continue or repair.
        repair: Run every step even if the stamp says that there is nothing to do.
    """
    if env.is_ready() and not repair:
        return
    mmcv = pinned(env.packages, MMCV[env.stack])
    check_host(env, mmcv)
    lock = cache_folder() / 'locks' / hashlib.sha256(str(env.folder).encode()).hexdigest()[:16]
    with locked(lock, f'Another set-up is at work on {env}; waiting for it.'):
        if repair or not env.is_ready():
            install(env, mmcv)


def stop(*_: object) -> None:
    """Treats a request to end like Ctrl-C, so that nothing started here stays behind."""
    raise KeyboardInterrupt


def main() -> int:
    """Runs the command line and returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
    parser.add_argument('--stack', choices=sorted(VENV), default='onedl', help='default: onedl')
    parser.add_argument('--venv', type=Path, help='folder to use instead of .venv[-openmmlab]')
    parser.add_argument('--repair', action='store_true', help='run every step even if ready')
    args = parser.parse_args()
    env = Environment(args.stack, args.venv or ROOT / VENV[args.stack])
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        set_up(env, args.repair)
    except KeyboardInterrupt:
        print('\nStopped. Run the same command again to continue.', file=sys.stderr)
        return 130
    except SetupError as error:
        print(f'\n{error}', file=sys.stderr)
        return 1
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        print('\nThe disk is full.' if full else f'\nThe set-up failed: {error}', file=sys.stderr)
        return 1
    print(f'The environment {env} (stack {env.stack}) is ready.')
    return 0


if __name__ == '__main__':
    sys.exit(main())
