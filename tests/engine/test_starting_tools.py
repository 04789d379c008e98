"""What starts a tool waits for it, also when Ctrl-C reaches both."""

import signal

import pytest

from mmpoolformer.engine.commands import run_python

# As training does: it needs longer than the quarter of a second that subprocess.run leaves.
SAVES = """
import os, signal, sys, time
from pathlib import Path

assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
try:
    os.kill(os.getppid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(9)
except KeyboardInterrupt:
    time.sleep(0.6)
    Path('saved').touch()
    sys.exit(130)
"""


def test_ctrl_c_leaves_the_command_time_to_save(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as stopped:
        run_python(['-c', SAVES], tmp_path)
    assert stopped.value.code == 130
    assert (tmp_path / 'saved').is_file()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_command_that_fails_ends_with_its_status(tmp_path):
    run_python(['-c', 'pass'], tmp_path)
    with pytest.raises(SystemExit) as stopped:
        run_python(['-c', 'raise SystemExit(3)'], tmp_path)
    assert stopped.value.code == 3
    assert not list(tmp_path.iterdir())
