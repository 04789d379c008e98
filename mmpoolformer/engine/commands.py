"""Tools that start other tools."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def run_python(words: Sequence[str], folder: Path | None = None) -> None:
    """Run a command of this Python in a new process, and end with its status if it fails.

    Ctrl-C reaches both processes. The command decides what becomes of it: training saves first.
    ``subprocess.run`` alone would give it a quarter of a second, and kill it.

    Args:
        words: What follows ``python``.
        folder: Where to run it, by default here.

    Raises:
        SystemExit: With the command's status; the command has said why.
    """
    # A handler, because what is ignored here the command would ignore, too.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        status = subprocess.run([sys.executable, *words], cwd=folder).returncode
    finally:
        signal.signal(signal.SIGINT, before)
    if status:
        sys.exit(status)
