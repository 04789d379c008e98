"""Runs the commands of a set-up: with progress, a log, and a clear sentence when one fails."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

INSTALL_COMPILER = (
    'Install what is missing and run the same command again:\n'
    '  Debian, Ubuntu   sudo apt install build-essential python3-dev\n'
    '  Fedora           sudo dnf install gcc-c++ python3-devel\n'
    '  macOS            xcode-select --install'
)
# What the output of a failed command says, and the sentence the user needs. The first match counts.
KNOWN_FAILURES = {
    r'No space left on device|Disk quota exceeded': (
        'The disk is full. TMPDIR=/path before the command moves the temporary files to another.'
    ),
    r'Python\.h: No such file': f'The C headers of Python are missing. {INSTALL_COMPILER}',
    r'signal terminated program|Killed +\S*(c\+\+|nvcc)': (
        'The compiler ran out of memory. Run the same command with MAX_JOBS=1 before it.'
    ),
    r'lib(GL|gthread|glib)[-\w.]*: cannot open shared object': (
        'OpenCV needs a system library. Debian, Ubuntu: sudo apt install libgl1 libglib2.0-0; '
        'Fedora: sudo dnf install mesa-libGL glib2'
    ),
    r'NewConnectionError|[Nn]ame ?[Rr]esolution|Network is unreachable|ConnectTimeout|ProxyError'
    r'|Read timed out|Connection (reset|aborted|refused)': (
        'The package index cannot be reached. Check the network or the proxy, '
        'then run the same command again.'
    ),
}


class SetupError(Exception):
    """A problem the user can solve; the message is all that is shown."""


def runs(command: list[str]) -> bool:
    """Whether `command` starts and succeeds."""
    with contextlib.suppress(OSError):
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    return False


@contextlib.contextmanager
def locked(path: Path, while_waiting: str) -> Iterator[None]:
    """Holds a lock, which the system frees when this process and the commands it runs are gone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('w') as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(while_waiting, flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        # Commands inherit it: if this process is killed, pip goes on, and nobody may join in.
        os.set_inheritable(handle.fileno(), True)
        yield


def run_logged(
    command: list[str], log: Path, label: str, environ: dict[str, str] | None = None
) -> None:
    """Runs `command` with its output in `log`, showing the elapsed time and its progress.

    Raises:
        SetupError: If it fails, with the cause where it is a known one, else with the last lines.
    """
    started = time.monotonic()
    with log.open('ab') as sink:
        sink.write(f'\n$ {shlex.join(command)}\n'.encode())
        sink.flush()
        offset = sink.tell()
        # A session of its own, so that stopping it also ends the compilers it started. Run in the
        # log's folder, because Python would import what it finds in the user's.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=environ,
            close_fds=False,
            cwd=log.parent,
            start_new_session=True,
        )
        try:
            show_until_done(process, label, started, log, offset)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
    if process.returncode:
        raise SetupError(explain(read_from(log, offset), label, log))
    print(f'{label}: done in {clock(time.monotonic() - started)}', flush=True)


def show_until_done(
    process: subprocess.Popen, label: str, started: float, log: Path, offset: int
) -> None:
    """Shows how far `process` is: one changing line on a terminal, a line every 30 s elsewhere."""
    tty = sys.stdout.isatty()
    due = started + (1 if tty else 30)
    while process.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        now = time.monotonic()
        if now > due:
            due = now + (1 if tty else 30)
            line = f'{label} ... {clock(now - started)}  {progress_of(read_from(log, offset))}'
            print(f'\r\033[K{line[:79]}' if tty else line, end='' if tty else '\n', flush=True)
    if tty:
        print('\r\033[K', end='')


def clock(seconds: float) -> str:
    """Returns minutes and seconds.

    Example:
        >>> clock(83.4)
        '1:23'
    """
    return f'{int(seconds) // 60}:{int(seconds) % 60:02d}'


def progress_of(output: str) -> str:
    """Returns the latest sign of life in the output of pip or ninja.

    Example:
        >>> progress_of('  [7/78] c++ -c a.cpp')
        '7 of 78 files'
        >>> progress_of('  Downloading torch-2.11.0-cp311-cp311-linux_x86_64.whl (531 MB)')
        'Downloading torch-2.11.0'
    """
    compiled = re.findall(r'^\s*\[(\d+)/(\d+)\] ', output, re.MULTILINE)
    if compiled:
        return '{} of {} files'.format(*compiled[-1])
    pattern = r'^\s*((?:Collecting|Downloading|Building wheel for|Installing collected) \S+)'
    steps = re.findall(pattern, output, re.MULTILINE)
    # Of a wheel's file name only the package and its version are of interest.
    return re.sub(r'(-[^-]+)-.*|:$', r'\1', steps[-1]) if steps else ''


def read_from(log: Path, offset: int) -> str:
    """Returns what `log` holds from byte `offset` on."""
    with log.open('rb') as handle:
        handle.seek(offset)
        return handle.read().decode(errors='replace')


def explain(output: str, label: str, log: Path) -> str:
    """Turns the output of a failed command into what the user should read."""
    for pattern, sentence in KNOWN_FAILURES.items():
        if re.search(pattern, output):
            return f'{label} failed. {sentence}\nThe whole output: {log}'
    lines = [line[:200] for line in output.splitlines() if line.strip()]
    # pip ends with pages about itself, long after what the compiler said.
    errors = [line for line in lines[:-15] if re.search(r'\berror: ', line)]
    return '\n'.join([*errors[:5], *lines[-15:], '', f'{label} failed. The whole output: {log}'])
