"""The compiled mmcv: where it is kept, what it depends on, how it is made.

mmcv is published as source only and its binary fits one torch alone, so it is compiled once and
kept outside the clone.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from _setup_commands import INSTALL_COMPILER, SetupError, explain, locked, run_logged, runs

PYTHON_TAG = 'cp{}{}'.format(*sys.version_info)
# Runs inside the new environment and tells what mmcv's setup.py will see there.
PROBE = """
import json, os, torch
from torch.utils.cpp_extension import CUDA_HOME
gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
print(json.dumps(dict(
    torch=torch.__version__,
    gpu_archs=sorted({'sm%d%d' % torch.cuda.get_device_capability(i) for i in gpus}),
    nvcc=bool(CUDA_HOME) and os.path.exists(os.path.join(CUDA_HOME, 'bin', 'nvcc')))))
"""


def cache_folder() -> Path:
    """Returns the folder that outlives every clone."""
    base = os.environ.get('XDG_CACHE_HOME')
    return (Path(base) if base else Path.home() / '.cache') / 'mmpoolformer'


def wheel_key(probe: dict, environ: dict[str, str]) -> str:
    """Returns what a compiled mmcv depends on besides its own version.

    Args:
        probe: What PROBE printed.
        environ: Environment variables, of which mmcv reads FORCE_CUDA and torch
            TORCH_CUDA_ARCH_LIST.

    Example:
        >>> wheel_key({'torch': '2.11.0+cu130', 'gpu_archs': [], 'nvcc': False}, {})
        'cp311-torch2.11.0+cu130-cpu'
    """
    device = 'cpu'
    if environ.get('FORCE_CUDA') == '1' or (probe['gpu_archs'] and probe['nvcc']):
        archs = environ.get('TORCH_CUDA_ARCH_LIST') or '_'.join(probe['gpu_archs']) or 'default'
        device = 'cuda-' + re.sub(r'[^\w.+]+', '_', archs)
    return f'{PYTHON_TAG}-torch{probe["torch"]}-{device}'


def find_wheel(folder: Path, pin: str) -> Path | None:
    """Returns the wheel in `folder` for this Python, this processor and `pin` (`name==version`)."""
    name, version = pin.split('==')
    for wheel in sorted(folder.glob(f'{name.replace("-", "_")}-{version}-{PYTHON_TAG}-*.whl')):
        if wheel.stem.endswith((platform.machine(), 'universal2')):
            return wheel
    return None


def find_compiler() -> str:
    """Returns the C++ compiler for torch and setuptools to use.

    Raises:
        SetupError: If none works.
    """
    wanted = os.environ.get('CXX')
    for compiler in [wanted] if wanted else ['c++', 'g++', 'clang++']:
        # Run it: on a bare macOS there is a c++ that only asks for the developer tools.
        if runs([*shlex.split(compiler), '--version']):
            return compiler
    reason = f'CXX={wanted} does not run' if wanted else 'no C++ compiler was found'
    raise SetupError(f'mmcv has to be compiled once, and {reason}. {INSTALL_COMPILER}')


def check_compilable(pin: str, torch_version: str) -> None:
    """Raises SetupError if mmcv must be compiled here and cannot be; needs no torch yet."""
    folders = (cache_folder() / 'wheels').glob(f'{PYTHON_TAG}-torch{torch_version}*')
    if any(find_wheel(folder, pin) for folder in folders):
        return
    find_compiler()
    if not Path(sysconfig.get_config_var('INCLUDEPY'), 'Python.h').exists():
        raise SetupError(
            'mmcv has to be compiled once, and the C headers of Python (Python.h) are missing. '
            f'{INSTALL_COMPILER}'
        )


def get_wheel(python: Path, pin: str, log: Path) -> Path:
    """Returns the mmcv that fits the torch of `python`, compiling it if no set-up did before."""
    result = subprocess.run([str(python), '-c', PROBE], capture_output=True, text=True, check=False)
    if result.returncode:
        raise SetupError(explain(result.stderr, 'Importing torch', log))
    probe = json.loads(result.stdout.splitlines()[-1])
    folder = cache_folder() / 'wheels' / wheel_key(probe, dict(os.environ))
    if probe['gpu_archs'] and folder.name.endswith('-cpu'):
        print(
            'There is a GPU but no nvcc, so mmcv gets its CPU operations only, and detectors need\n'
            'the others on a GPU. To have them, install the CUDA toolkit that this torch\n'
            f'({probe["torch"]}) was built with and run tools/setup_env.py with --repair.'
        )
    with locked(folder / 'build.lock', f'Another set-up is compiling {pin}; waiting for it.'):
        return find_wheel(folder, pin) or build_wheel(python, pin, folder, log)


def build_environ(python: Path, device: str) -> dict[str, str]:
    """Returns the environment variables under which mmcv compiles for `device`."""
    environ = dict(os.environ, MMCV_WITH_OPS='1', CXX=find_compiler())
    environ['PATH'] = f'{python.parent}{os.pathsep}{environ["PATH"]}'
    # One compiler takes up to 2 GB, and left alone ninja starts two more than there are cores.
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30
    jobs = max(1, min((os.cpu_count() or 1) + 1, int(memory / 2)))
    environ.setdefault('MAX_JOBS', str(jobs))
    if device == 'cpu':
        environ.update(CUDA_VISIBLE_DEVICES='', FORCE_CUDA='0')
    else:
        # cusparse.h and others come with torch's own packages, not always with the compiler.
        headers = python.parent.parent.glob('lib/python*/site-packages/nvidia/cu*/include')
        paths = [*map(str, headers), environ.get('CPATH', '')]
        environ['CPATH'] = os.pathsep.join(filter(None, paths))
    return environ


def build_wheel(python: Path, pin: str, folder: Path, log: Path) -> Path:
    """Compiles mmcv into `folder`, whose lock the caller holds."""
    for leftover in folder.glob('building-*'):
        shutil.rmtree(leftover, ignore_errors=True)
    environ = build_environ(python, 'cpu' if folder.name.endswith('-cpu') else 'cuda')
    print(f'{pin} is compiled once, in 8 minutes on two cores (22 with CUDA), and kept in')
    print(f'  {folder}', flush=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix='building-') as part:
        # pip's own cache would hand out a wheel that was compiled against another torch.
        command = [str(python), '-m', 'pip', 'wheel', '-v', '--no-cache-dir', '--no-deps']
        command += ['--no-build-isolation', '--no-binary', ':all:', '-w', part, pin]
        run_logged(command, log, f'Compiling {pin}', environ)
        wheel = find_wheel(Path(part), pin)
        if not wheel:
            raise SetupError(f'Compiling {pin} gave no wheel for this machine. The output: {log}')
        return wheel.replace(folder / wheel.name)
