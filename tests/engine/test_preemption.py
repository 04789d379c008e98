"""Several processes: all stop after the same iteration, and a dead one brings the run back."""

import re
import signal

import pytest
from test_distributed import GLOO, launch
from test_resume import RANDOM, compare

from mmpoolformer.checkpoint import read_checkpoint

# One process gets the signal, once, at a place in training; torchrun sends it to all.
SEND = """
import os, signal
from pathlib import Path
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class Send(Hook):
    def __init__(self, where, number):
        self.where, self.number = where, number

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.epoch == 1 and batch_idx == 1:
            self.send('train')

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        if runner.epoch == 2:
            self.send('val')

    def send(self, where):
        if where == self.where and get_rank() == 1 and not Path('sent').exists():
            Path('sent').touch()
            os.kill(os.getpid(), self.number)
"""
COMMON = """
train_dataloader['batch_size'] = 1
default_hooks['checkpoint'] = dict(max_keep_ckpts=1)
train_cfg = dict(max_epochs=3, val_interval=1)
"""


def extra(where, number):
    return (
        RANDOM
        + COMMON
        + "custom_imports = dict(imports=['mmpoolformer', 'send'])\n"
        + f'custom_hooks = [dict(type="Send", where={where!r}, number={int(number)})]\n'
    )


@pytest.fixture
def straight(tiny, tmp_path):
    (tmp_path / 'send.py').write_text(SEND)
    config = tiny(extra=RANDOM + COMMON, name='straight')
    run = launch('dist_train', config, 2, '--work-dir', 'straight', *GLOO, cwd=tmp_path)
    assert run.code == 0, run.text[-3000:]
    return tmp_path / 'straight/epoch_3.pth'


@pytest.mark.faults
def test_two_processes(tiny, tmp_path, straight):
    """SIGTERM in training and in validation; one killed with and without a restart."""
    work_dirs = {}
    for where in ('train', 'val'):
        config = tiny(extra=extra(where, signal.SIGTERM), name=where)
        arguments = (config, 2, '--work-dir', where, *GLOO)
        stopped = launch('dist_train', *arguments, cwd=tmp_path)
        assert stopped.code != 0
        assert stopped.text.count('Saved ') == 1, stopped.text[-3000:]
        work_dirs[where] = tmp_path / where
        meta = read_checkpoint(tmp_path / where / 'interrupted.pth')['meta']
        # Signalled in the second of four iterations of the second epoch, agreed one later.
        assert (meta['epoch'], meta['iter']) == ((1, 7) if where == 'train' else (2, 8))
        (tmp_path / 'sent').unlink()
        (tmp_path / 'sent').touch()
        resumed = launch('dist_train', *arguments, '--resume', cwd=tmp_path)
        assert resumed.code == 0, resumed.text[-3000:]
        (tmp_path / 'sent').unlink()
    # The epoch that was cut short starts again from its first image, so only this one is equal.
    assert compare(straight, work_dirs['val'] / 'epoch_3.pth') == []

    config = tiny(extra=extra('train', signal.SIGKILL), name='killed')
    arguments = (config, 2, '--work-dir', 'killed', *GLOO)
    run = launch('dist_train', *arguments, cwd=tmp_path, MAX_RESTARTS='1')
    assert run.code == 0, run.text[-3000:]
    assert re.search('resumed epoch: 1, iter: 4', run.text)
    assert compare(straight, tmp_path / 'killed/epoch_3.pth') == []
