"""Resumed training equals uninterrupted training bit for bit, and Ctrl-C loses nothing."""

import pytest
import torch

from mmpoolformer.checkpoint import read_checkpoint

# Every source of randomness there is: flips and colours in the pipeline (in the main process or in
# loader workers), the order of the images, and stochastic depth in the model.
RANDOM = """
train_dataloader['batch_size'] = 2
train_dataloader['dataset']['pipeline'] = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackDetInputs'),
]
"""
BY_ITERATIONS = """
train_dataloader['dataset']['pipeline'] = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
default_hooks['checkpoint'] = dict(interval=2)
train_cfg = dict(max_iters=4, val_interval=2)
"""
WORKERS = 'train_dataloader.update(num_workers=2, persistent_workers=True)\n'
# As for COCO: the batch sampler brings the sampler.
ASPECT_RATIO = "train_dataloader['batch_sampler'] = dict(type='AspectRatioBatchSampler')\n"
NO_SEED_HOOK = "default_hooks['seed'] = dict(type='EmptyCacheHook', _delete_=True)\n"
PRESS = '''
import os, signal, time
from pathlib import Path
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class PressCtrlC(Hook):
    """Once, as a terminal does: the signal goes to the whole process group."""

    def __init__(self, where, times=1):
        self.where, self.times = where, times

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx == 1 and runner.epoch == 1:
            self.press('train')

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        self.press('val')

    def press(self, where):
        if where == self.where and not Path('pressed').exists():
            Path('pressed').touch()
            for _ in range(self.times):
                os.killpg(0, signal.SIGINT)
                time.sleep(0.1)
'''


def pressing(where, times=1):
    """What a config needs to have Ctrl-C pressed in the second epoch, or in a validation."""
    return (
        "custom_imports = dict(imports=['mmpoolformer', 'press'])\n"
        f"custom_hooks = [dict(type='PressCtrlC', where={where!r}, times={times})]\n"
    )


@pytest.fixture
def train(forked, tmp_path):
    def run(config, work_dir, *flags, epochs=2, code=0):
        (tmp_path / 'press.py').write_text(PRESS)
        options = ('--cfg-options', f'train_cfg.max_epochs={epochs}') if epochs else ()
        run = forked(
            'train', config, '--work-dir', work_dir, *flags, *options,
            env={'PYTHONPATH': str(tmp_path)},
        )  # fmt: skip
        assert run.code == code, run.text[-3000:]
        assert 'Traceback' not in run.text
        return run

    return run


def differences(first, second, key=''):
    """The places where two nested structures of tensors and numbers differ in any bit."""
    if isinstance(first, torch.Tensor):
        return [] if torch.equal(first, second) else [key]
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        return [d for k in first for d in differences(first[k], second[k], f'{key}.{k}')]
    if isinstance(first, (list, tuple)):
        assert len(first) == len(second)
        pairs = zip(first, second, strict=True)
        return [d for i, (a, b) in enumerate(pairs) for d in differences(a, b, f'{key}.{i}')]
    return [] if first == second else [key]


def compare(first, second):
    """Return what differs between two checkpoints in weights, optimizer and schedules."""
    found = []
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        one, two = read_checkpoint(first)[part], read_checkpoint(second)[part]
        assert len(one) > 1
        found += differences(one, two, part)
    return found


@pytest.mark.parametrize(
    'workers', [pytest.param('', marks=pytest.mark.smoke, id='0'), pytest.param(WORKERS, id='2')]
)
def test_resumed_equals_uninterrupted(train, tiny, tmp_path, workers):
    config = tiny(extra=RANDOM + workers)
    train(config, 'straight', epochs=4)
    train(config, 'stopped', epochs=2)
    resumed = train(config, 'stopped', '--resume', epochs=4)
    assert 'resumed epoch: 2' in resumed.text
    assert 'Epoch(train) [2]' not in resumed.text
    assert compare(tmp_path / 'straight/epoch_4.pth', tmp_path / 'stopped/epoch_4.pth') == []
    assert compare(tmp_path / 'straight/epoch_3.pth', tmp_path / 'straight/epoch_4.pth') != []


@pytest.mark.parametrize('batches', ['', ASPECT_RATIO], ids=['plain', 'by aspect ratio'])
def test_number_and_life_of_workers_change_nothing(train, tiny, tmp_path, batches):
    """Nor do other images: each has a random state of its own."""
    kinds = {
        'none': batches,
        'one': batches + 'train_dataloader.update(num_workers=1, persistent_workers=False)\n',
        'two_that_live_on': batches + WORKERS,
    }
    for name, workers in kinds.items():
        train(tiny(extra=RANDOM + workers, name=name), name)
    for name in list(kinds)[1:]:
        assert compare(tmp_path / 'none/epoch_2.pth', tmp_path / name / 'epoch_2.pth') == []


@pytest.mark.parametrize('workers', ['', WORKERS], ids=['0', '2'])
def test_without_the_hook_they_differ(train, tiny, tmp_path, workers):
    config = tiny(extra=RANDOM + workers + NO_SEED_HOOK)
    train(config, 'straight', epochs=2)
    train(config, 'resumed', '--resume', tmp_path / 'straight/epoch_1.pth', epochs=2)
    found = compare(tmp_path / 'straight/epoch_2.pth', tmp_path / 'resumed/epoch_2.pth')
    assert any(key.startswith('state_dict.backbone') for key in found)


@pytest.mark.parametrize('workers', ['', WORKERS], ids=['0', '2'])
def test_by_iterations(train, tiny, tmp_path, workers):
    """The images, their augmentation and stochastic depth go on where they were."""
    config = tiny('segmentation', extra=BY_ITERATIONS + workers)
    train(config, 'straight', epochs=None)
    train(config, 'resumed', '--resume', tmp_path / 'straight/iter_2.pth', epochs=None)
    assert compare(tmp_path / 'straight/iter_4.pth', tmp_path / 'resumed/iter_4.pth') == []


@pytest.mark.smoke
def test_interrupted_in_an_epoch(train, tiny, tmp_path):
    config = tiny(extra=RANDOM + WORKERS + pressing('train'))
    run = train(config, 'work', code=130)
    assert 'press Ctrl-C again to stop at once' in run.out
    command = (
        f'tools/train.py {config} --work-dir work --cfg-options train_cfg.max_epochs=2 --resume'
    )
    assert run.out.rstrip().endswith(command)
    work_dir = tmp_path / 'work'
    assert (work_dir / 'last_checkpoint').read_text() == str(work_dir / 'interrupted.pth')
    assert not list(work_dir.glob('*.part'))
    meta = read_checkpoint(work_dir / 'interrupted.pth')['meta']
    # Four iterations of the first epoch; then the one it was pressed in was finished.
    assert (meta['epoch'], meta['iter']) == (1, 6)

    resumed = train(config, 'work', '--resume')
    assert 'resumed epoch: 1, iter: 6' in resumed.text
    assert 'Epoch(train) [1]' not in resumed.text
    assert (work_dir / 'epoch_2.pth').is_file()


def test_interrupted_in_validation(train, tiny, tmp_path):
    """The epoch was complete, so the result is that of uninterrupted training."""
    config = tiny(extra=RANDOM + pressing('val'))
    train(config, 'work', code=130)
    meta = read_checkpoint(tmp_path / 'work/interrupted.pth')['meta']
    assert (meta['epoch'], meta['iter']) == (1, 4)
    train(config, 'work', '--resume')
    train(config, 'straight')
    assert compare(tmp_path / 'work/epoch_2.pth', tmp_path / 'straight/epoch_2.pth') == []


def test_interrupted_twice(train, tiny, tmp_path):
    run = train(tiny(extra=RANDOM + WORKERS + pressing('train', times=2)), 'work', code=130)
    assert run.err.count('KeyboardInterrupt') == 0
    work_dir = tmp_path / 'work'
    assert not (work_dir / 'interrupted.pth').exists()
    assert (work_dir / 'last_checkpoint').read_text() == str(work_dir / 'epoch_1.pth')
