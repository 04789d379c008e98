#!/usr/bin/env python3
"""Make the virtual environment of this clone, unless it is there. Needs nothing but Python."""

import argparse
import fcntl
import hashlib
import shlex
import subprocess
import sys
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STACKS = {'onedl': ('.venv', 'onedl-mim'), 'openmmlab': ('.venv-openmmlab', 'openmim')}
PYTHON = 'python{}.{}'.format(*sys.version_info)
# mmpoolformer comes before mmdet, because it brings the operators that mmcv lacks.
IMPORTS = 'import torch, mmengine, mmcv, mmpoolformer, mmdet.apis, mmseg.apis, mmpretrain'
run = partial(subprocess.run, cwd=ROOT, check=True, text=True)


def install(python: Path, stack: str, mim: str) -> None:
    """Install what is pinned for ``stack`` and then this clone, and try to import it all."""
    pip = [python, '-I', '-m', 'pip', '--disable-pip-version-check', 'install']
    print('[2/4] Installing the packages (3 GB of downloads the first time) ...')
    run([*pip, '-r', f'requirements/{stack}.txt', '-r', 'requirements/dev.txt'])
    print('[3/4] Installing mim and mmpoolformer ...')
    run([*pip, '-q', '--no-deps', '-c', 'requirements/mim.txt', mim])
    run([*pip, '-q', '--no-deps', '--no-build-isolation', '-e', '.'])
    print('[4/4] Importing everything once ...')
    run([python, '-I', '-c', IMPORTS], capture_output=True)


def make_environment(stack: str) -> None:
    """Bring the environment of ``stack`` up to date, whatever is there."""
    started, (name, mim) = time.monotonic(), STACKS[stack]
    folder, state, python = (ROOT / name / at for at in ('', 'mmpoolformer-state', 'bin/python'))
    # Scripts and the editable install hold the clone's path: a moved one needs a new environment.
    place = f'made for {stack}, {PYTHON}, {ROOT}'
    files = sorted(f for at in ('requirements/*.txt', '*.toml', 'setup.py') for f in ROOT.glob(at))
    pins = hashlib.sha256(b'\0'.join(file.read_bytes() for file in files)).hexdigest()
    if folder.exists() and any(folder.iterdir()) and not state.exists():
        sys.exit(f'{name} was not made by this tool: remove it and run the same command again.')
    folder.mkdir(exist_ok=True)
    with state.open('a') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f'{name} is being made by another process: waiting for it ...')
            fcntl.flock(lock, fcntl.LOCK_EX)
        found, _, found_pins = state.read_text().partition('\n')
        if found == place and subprocess.getstatusoutput(f'{shlex.quote(str(python))} -I -c ""')[0]:
            found = 'broken'
        if (found, found_pins) == (place, pins):
            return print(f'{name} is ready.')
        # In place, not by renaming, because the file is also the lock.
        state.write_text('unfinished')
        if found == place:
            print(f'[1/4] {name} is there, but what it needs has changed.')
        else:
            print(f'[1/4] Making {name}{found and f" anew: the one there is {found}"} ...')
            if not (find_spec('venv') and find_spec('ensurepip')):
                sys.exit('Python cannot make environments. Debian: sudo apt install python3-venv')
            run(['rm', '-rf', *(path for path in folder.iterdir() if path != state)])
            # Not sys.executable: in an activated environment that may be what was just removed.
            run([f'{sys.base_prefix}/bin/{PYTHON}', '-m', 'venv', folder], capture_output=True)
        install(python, stack, mim)
        state.write_text(f'{place}\n{pins}')
    return print(f'{name} is ready, after {time.monotonic() - started:.0f} seconds.')


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--stack', choices=STACKS, default='onedl')
    try:
        make_environment(parser.parse_args().stack)
    except KeyboardInterrupt:
        print('\nStopped. Run the same command again to continue.')
        return 130
    except subprocess.CalledProcessError as error:
        said = f'{error.stdout or ""}{error.stderr or ""}'  # Nothing of pip: it was not captured.
        if 'cannot open shared object' in said:
            said += 'What OpenCV needs, on Debian: sudo apt install libgl1 libglib2.0-0\n'
        print(f'{said}Set-up failed. Solve what is named above and run the same command again.')
        return error.returncode
    return 0


if __name__ == '__main__':
    sys.exit(main())
