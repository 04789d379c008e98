"""Two ways to start a tool: as a user does, or copied from a process that has imported everything.

Importing torch and a library of OpenMMLab takes seconds, the work of a test a fraction of one.
"""

import contextlib
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_LIBRARIES = [
    'mmpoolformer.engine.launch',
    'mmpoolformer.engine.hooks',
    'mmdet.apis',
    'mmseg.apis',
    'mmpretrain',
]


@dataclass(frozen=True)
class Finished:
    """How a process ended and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


def environment(**changes) -> dict:
    """The environment of a user without a GPU who starts no more threads than cores."""
    return {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '', **changes}


def run(command, cwd, timeout=240, **env) -> Finished:
    """Run a command line in a session of its own, and end all of it after ``timeout`` seconds."""
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=cwd,
        env=environment(**env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        _end_session(process.pid)
    return Finished(process.returncode, out, err)


def run_tool(tool, *args, cwd, timeout=240, **env) -> Finished:
    """Run ``tools/<tool>.py`` in a new interpreter."""
    return run([sys.executable, ROOT / f'tools/{tool}.py', *args], cwd, timeout, **env)


def start_warm_server():
    """Return a context whose processes start with the libraries imported."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(_LIBRARIES)
    with pytest.MonkeyPatch.context() as patch:
        # OpenMP reads it once, when it is loaded; more threads than free cores wait for each other.
        patch.setenv('OMP_NUM_THREADS', '1')
        forkserver.ensure_running()
    return context


def fork_tool(context, tool, args, cwd, env, timeout) -> Finished:
    """Run ``tools/<tool>.py`` in a copy of the warm process."""
    argv = [str(part) for part in (ROOT / f'tools/{tool}.py', *args)]
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / 'out', Path(folder) / 'err'
        process = context.Process(
            target=_become, args=(argv, str(cwd), environment(**env), str(out), str(err))
        )
        process.start()
        process.join(timeout)
        if process.is_alive():
            _end_session(process.pid)
            process.join(10)
            raise TimeoutError(f'{argv} took more than {timeout} s:\n{err.read_text()[-2000:]}')
        _end_session(process.pid)
        return Finished(process.exitcode, out.read_text(), err.read_text())


def kill_tool(context, tool, args, cwd, env, after) -> int:
    """Start ``tools/<tool>.py`` as :func:`fork_tool` does; kill it after so many seconds."""
    argv = [str(part) for part in (ROOT / f'tools/{tool}.py', *args)]
    process = context.Process(
        target=_become, args=(argv, str(cwd), environment(**env), os.devnull, os.devnull)
    )
    process.start()
    process.join(after)
    process.kill()
    process.join()
    return process.exitcode


def _become(argv, cwd, env, out, err) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream, path in ((sys.stdout, out), (sys.stderr, err)):
        stream.flush()
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream.fileno())
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = argv
    sys.path[:1] = [str(Path(argv[0]).parent), *filter(None, [env.get('PYTHONPATH')])]
    runpy.run_path(argv[0], run_name='__main__')


def heed_interrupts() -> None:
    """Undo what a shell does to commands in the background, whose children ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _end_session(pid: int) -> None:
    """Kill what a process left behind in its own session, e.g. loader workers."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
