"""Whatever happens while a checkpoint is written, a whole one is left, and the run goes on."""

import os
import signal
import zipfile

import pytest
import torch
from test_resume import RANDOM, compare

from mmpoolformer.engine.checkpointing import find_resumable

# Kills the run at a given call of the system while it saves, as a power cut would.
WORST = """
import os, signal
from pathlib import Path
from mmpoolformer.engine import checkpointing

WHERE, NUMBER = {where!r}, {number}
counts = dict()

def dying(name, call):
    def wrapped(*args, **kwargs):
        counts[name] = counts.get(name, 0) + 1
        if name == WHERE and counts[name] == NUMBER and not Path('died').exists():
            Path('died').touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)
    return wrapped

checkpointing._flush = dying('flush', checkpointing._flush)
checkpointing.name_last_checkpoint = dying('pointer', checkpointing.name_last_checkpoint)
checkpointing.CheckpointHook._remove = dying('remove', checkpointing.CheckpointHook._remove)
Path.replace = dying('rename', Path.replace)
"""
KEEP_ONE = "default_hooks['checkpoint'] = dict(max_keep_ckpts=1)\n"
PLACES = [('flush', 1), ('flush', 2), ('flush', 3), ('rename', 1), ('rename', 2), ('rename', 3)]
PLACES += [('rename', 4), ('pointer', 1), ('pointer', 2), ('remove', 1), ('remove', 2)]


@pytest.fixture
def train(forked, tmp_path):
    def run(config, work_dir, *flags, epochs=3):
        options = ('--cfg-options', f'train_cfg.max_epochs={epochs}')
        env = {'PYTHONPATH': str(tmp_path)}
        return forked('train', config, '--work-dir', work_dir, *flags, *options, env=env)

    return run


@pytest.fixture
def straight(train, tiny, tmp_path):
    """The last checkpoint of a run that nothing happened to."""
    run = train(tiny(extra=RANDOM + KEEP_ONE), 'straight')
    assert run.code == 0, run.text[-2000:]
    return tmp_path / 'straight/epoch_3.pth'


def is_whole(path):
    with zipfile.ZipFile(path) as archive:
        return archive.testzip() is None


@pytest.mark.parametrize(
    'places',
    [PLACES[1:6:2], pytest.param(PLACES, marks=pytest.mark.faults)],
    ids=['some', 'all'],
)
def test_killed_at_the_worst_moments(train, tiny, tmp_path, straight, places):
    """Between any two calls of a save there is a checkpoint that the run continues from."""
    survived = 0
    for where, number in places:
        work = f'{where}_{number}'
        (tmp_path / 'worst.py').write_text(WORST.format(where=where, number=number))
        imports = "custom_imports = dict(imports=['mmpoolformer', 'worst'])\n"
        config = tiny(extra=RANDOM + KEEP_ONE + imports, name=work)
        killed = train(config, work)
        assert killed.code == -signal.SIGKILL, (work, killed.code, killed.text[-2000:])
        resumed = train(config, work, '--resume')
        (tmp_path / 'died').unlink()
        assert resumed.code == 0, (work, resumed.text[-2000:])
        assert compare(straight, tmp_path / work / 'epoch_3.pth') == [], work
        whole = [path.name for path in (tmp_path / work).glob('epoch_*.pth') if is_whole(path)]
        assert 'epoch_3.pth' in whole
        survived += 1
    assert survived == len(places)


@pytest.mark.parametrize('damage', ['cut', 'flipped', 'gone', 'pointer'])
def test_resumes_from_the_newest_whole_one(train, tiny, tmp_path, damage):
    config = tiny(extra=RANDOM)
    assert train(config, 'work').code == 0
    work = tmp_path / 'work'
    last = work / 'epoch_3.pth'
    before = last.read_bytes()
    if damage == 'cut':
        last.write_bytes(before[: len(before) // 2])
    elif damage == 'flipped':
        with zipfile.ZipFile(last) as archive:
            largest = max(archive.infolist(), key=lambda item: item.file_size)
        place = largest.header_offset + 200 + largest.file_size // 2
        last.write_bytes(before[:place] + bytes([before[place] ^ 16]) + before[place + 1 :])
    elif damage == 'gone':
        last.unlink()
    else:
        (work / 'last_checkpoint').write_text('')
    run = train(config, 'work', '--resume', epochs=4)
    assert run.code == 0, run.text[-2000:]
    resumed = 3 if damage == 'pointer' else 2
    assert f'resumed epoch: {resumed}' in run.text
    assert ('Passed over' in run.text) == (damage != 'pointer')


def test_nothing_whole_is_an_error_not_a_fresh_start(train, tiny, tmp_path):
    config = tiny(extra=RANDOM + KEEP_ONE)
    assert train(config, 'work', epochs=1).code == 0
    for path in (tmp_path / 'work').glob('*.pth'):
        path.write_bytes(path.read_bytes()[:1000])
    run = train(config, 'work', '--resume')
    assert run.code == 1
    assert 'Traceback' not in run.text
    assert 'no checkpoint in work can be read' in run.err
    assert 'epoch_1.pth: it is cut off or damaged' in run.err


FULL = '''
import resource
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class DiskBecomesFull(Hook):
    """From the second epoch on no file may grow beyond 20 kB, as on a full disk."""

    def before_train_epoch(self, runner):
        if runner.epoch == 1:
            import signal
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
'''


def test_full_disk(train, tiny, tmp_path, straight):
    (tmp_path / 'full.py').write_text(FULL)
    extra = "custom_imports = dict(imports=['mmpoolformer', 'full'])\n"
    extra += "custom_hooks = [dict(type='DiskBecomesFull')]\n"
    run = train(tiny(extra=RANDOM + KEEP_ONE + extra), 'work')
    assert run.code == 1, run.text[-2000:]
    assert 'Traceback' not in run.text
    assert 'could not be written: File too large' in run.err
    assert 'continue with --resume' in run.err
    work = tmp_path / 'work'
    assert is_whole(work / 'epoch_1.pth')
    assert not list(work.glob('*.part'))
    resumed = train(tiny(extra=RANDOM + KEEP_ONE), 'work', '--resume')
    assert resumed.code == 0, resumed.text[-2000:]
    assert compare(straight, work / 'epoch_3.pth') == []


def test_weights_that_are_not_finite_are_not_saved(train, tiny, tmp_path):
    extra = 'optim_wrapper = dict(optimizer=dict(lr=1e30), clip_grad=None)\n'
    run = train(tiny(extra=RANDOM + KEEP_ONE + extra), 'work')
    assert run.code == 1, run.text[-2000:]
    assert 'Traceback' not in run.text
    assert 'weights are not finite' in run.err
    assert 'clip_grad' in run.err
    assert not list((tmp_path / 'work').glob('*.pth'))


@pytest.mark.parametrize('max_keep', [1, 2, -1])
def test_keeps_as_many_as_asked_and_the_best(train, tiny, tmp_path, max_keep):
    keep = f"default_hooks['checkpoint'] = dict(max_keep_ckpts={max_keep})\n"
    assert train(tiny(extra=RANDOM + keep), 'work', epochs=4).code == 0
    work = tmp_path / 'work'
    kept = sorted(path.name for path in work.glob('epoch_*.pth'))
    first = 1 if max_keep < 0 else 5 - max_keep
    assert kept == [f'epoch_{i}.pth' for i in range(first, 5)]
    assert len(list(work.glob('best_*.pth'))) <= 1
    assert (work / 'last_checkpoint').read_text() == str(work / 'epoch_4.pth')


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1])
def test_asked_to_stop(train, tiny, tmp_path, number, straight):
    """What Slurm and Kubernetes send is a Ctrl-C whose exit status says which it was."""
    (tmp_path / 'ask.py').write_text(f"""
import os
from pathlib import Path
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class Ask(Hook):
    def before_val_iter(self, runner, batch_idx, data_batch=None):
        if runner.epoch == 1 and not Path('asked').exists():
            Path('asked').touch()
            os.kill(os.getpid(), {int(number)})
""")
    extra = "custom_imports = dict(imports=['mmpoolformer', 'ask'])\n"
    config = tiny(extra=RANDOM + KEEP_ONE + extra + "custom_hooks = [dict(type='Ask')]\n")
    run = train(config, 'work')
    assert run.code == 128 + number, run.text[-2000:]
    assert 'Traceback' not in run.text
    assert (tmp_path / 'work/last_checkpoint').read_text().endswith('interrupted.pth')
    assert train(config, 'work', '--resume').code == 0
    assert compare(straight, tmp_path / 'work/epoch_3.pth') == []


def test_restarted_runs_resume_by_themselves(forked, tiny, tmp_path):
    config = tiny(extra=RANDOM)
    options = ('--work-dir', 'work', '--cfg-options', 'train_cfg.max_epochs=2')
    env = {'TORCHELASTIC_RESTART_COUNT': '1'}
    first = forked('train', config, *options, env=env)
    assert first.code == 0, first.text[-2000:]
    assert 'holds no checkpoint: training starts anew' in first.text
    again = forked('train', config, *options[:-1], 'train_cfg.max_epochs=3', env=env)
    assert 'resumed epoch: 2' in again.text


def test_find_resumable_prefers_the_named_one_and_passes_over_what_holds_no_optimizer(tmp_path):
    for i, name in enumerate(
        ['epoch_1.pth', 'epoch_2.pth', 'best_mIoU_epoch_2.pth', 'load_from.pth']
    ):
        torch.save({'x': torch.zeros(3)}, tmp_path / name)
        os.utime(tmp_path / name, (i, i))
    assert find_resumable(tmp_path) == (tmp_path / 'epoch_2.pth', {})
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_1.pth'))
    assert find_resumable(tmp_path) == (tmp_path / 'epoch_1.pth', {})
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_9.pth'))
    found, passed_over = find_resumable(tmp_path)
    assert found == tmp_path / 'epoch_2.pth'
    assert list(passed_over.values()) == ['it is gone']
    assert find_resumable(tmp_path / 'nowhere') == (None, {})
