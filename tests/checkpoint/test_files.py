"""Checkpoint files: what is refused and why, names and downloads, real training checkpoints."""

import argparse
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import TINY, classifier, make
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import Runner, load_checkpoint
from torch import nn

from mmpoolformer import CheckpointError, PoolFormer, load_pretrained
from mmpoolformer.checkpoint import load_weights, read_checkpoint
from mmpoolformer.checkpoint.first_bytes import find_fault


class Touch:
    """Creates a file when unpickled, as a malicious checkpoint would run a command."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


class ThroughGetattr:
    """Asks the guard for an attribute that leads to everything else."""

    def __reduce__(self):
        return getattr, (HistoryBuffer, '__init__')


def saved(checkpoint: object, folder: Path, **kwargs) -> bytes:
    torch.save(checkpoint, folder / 'whole', **kwargs)
    return (folder / 'whole').read_bytes()


WEIGHTS = {'stem.conv.weight': torch.zeros(64)}
UNREADABLE = {
    'empty': (lambda _: b'', r'is empty \(0 bytes\)\. The copy failed: fetch the file again'),
    'html': (lambda _: b'\n<!DOCTYPE html><html>404</html>', 'is a web page saved under this name'),
    'lower html': (lambda _: b'<html><body>', 'is a web page'),
    'lfs': (
        lambda _: b'version https://git-lfs.github.com/spec/v1\noid sha256:0\n',
        r'is a git-lfs pointer of 56 bytes, not the file itself\. Run .*git lfs pull`',
    ),
    'half': (
        lambda d: saved(WEIGHTS, d)[:600],
        r'\(600 bytes\) is cut off: the end of the file is missing\. Fetch',
    ),
    'few bytes': (lambda d: saved(WEIGHTS, d)[:10], 'is cut off'),
    'old format': (
        lambda d: saved(WEIGHTS, d, _use_new_zipfile_serialization=False)[:-9],
        'is cut off, damaged',
    ),
    'old format, head': (
        lambda d: saved(WEIGHTS, d, _use_new_zipfile_serialization=False)[:50],
        'is cut off, damaged',
    ),
    'text': (
        lambda _: b'hello world, this is no checkpoint\n',
        'is cut off, damaged or no checkpoint',
    ),
    'picture': (lambda _: b'\x89PNG\r\n' + b'\0' * 100, 'is cut off, damaged or no checkpoint'),
    'namespace': (
        lambda d: saved({'state_dict': WEIGHTS, 'args': argparse.Namespace(lr=1)}, d),
        r'holds more than .* \(argparse.Namespace\), and loading it could run code',
    ),
    'module': (
        lambda d: saved(nn.Linear(2, 2), d),
        r'holds more than .*\(torch.nn.modules.linear.Linear\).*torch.save\(model.state',
    ),
    'getattr': (lambda d: saved(ThroughGetattr(), d), r'holds more than .*\(getattr\)'),
}


@pytest.mark.smoke
@pytest.mark.parametrize('kind', UNREADABLE)
def test_unreadable_files_say_what_they_are(kind, tmp_path):
    content, message = UNREADABLE[kind]
    path = tmp_path / 'weights.pth'
    path.write_bytes(content(tmp_path))
    with pytest.raises(CheckpointError, match=message) as error:
        read_checkpoint(path)
    assert str(error.value).startswith(str(path))
    with pytest.raises(CheckpointError, match=message):
        load_pretrained(PoolFormer(arch=TINY), path)


@pytest.mark.smoke
def test_missing_file_and_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r'no\.pth does not exist\. Check the path') as error:
        read_checkpoint('no.pth')
    assert f'relative ones start at {tmp_path}' in str(error.value)
    with pytest.raises(CheckpointError, match=r'is a folder; a file is needed\. Name a file in it'):
        load_pretrained(PoolFormer(arch=TINY), tmp_path)


def test_weights_beside_a_wrong_path_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path / 'epoch_10.pth').write_bytes(b'\x80')
    (tmp_path / 'dangling.pth').symlink_to('/no/such/file')
    assert find_fault('~/epoch_10.pth') is None
    assert find_fault('~/epoch_1.pth').cure == f'Did you mean {tmp_path}/epoch_10.pth?'
    assert find_fault('~/best.bin').cure == f'Weights beside it: {tmp_path}/epoch_10.pth.'
    assert find_fault(tmp_path).cure == f'Name one of its files: {tmp_path}/epoch_10.pth.'
    assert find_fault(f'{tmp_path}/a/b.pth').cure.startswith('Check the path, or')


@pytest.mark.parametrize('path', ['', '\0', '~nobody-of-this-name/a.pth', 'a' * 300])
def test_no_path_is_too_odd(path):
    fault = find_fault(path)
    assert fault.what
    assert fault.cure


@pytest.mark.smoke
@pytest.mark.filterwarnings('ignore:Detected pickle protocol:UserWarning')
@pytest.mark.parametrize('form', ['torch', 'old torch', 'pickle'])
def test_malicious_files_are_refused_and_run_nothing(form, tmp_path):
    target, path = tmp_path / 'created', tmp_path / 'weights.pth'
    content = {'state_dict': classifier(), 'extra': Touch(target)}
    if form == 'pickle':
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == 'torch')
    with pytest.raises(CheckpointError) as error:
        load_pretrained(PoolFormer(arch=TINY), path)
    assert not target.exists()
    if form != 'pickle':
        assert 'loading it could run code' in str(error.value)
    torch.load(path, weights_only=False) if form != 'pickle' else pickle.loads(path.read_bytes())
    assert target.exists(), 'the file is harmless, so the test shows nothing'


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ({'epoch': 3, 'lr': 0.1}, r'no tensors found; the top-level keys are epoch, lr'),
        ([torch.zeros(1)], 'a list is no state dict'),
        (torch.zeros(1), 'a Tensor is no state dict'),
    ],
    ids=['numbers', 'list', 'tensor'],
)
def test_files_without_a_state_dict_are_named(content, message, tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=f'{path}: {message}'):
        load_pretrained(PoolFormer(arch=TINY), path)
    with pytest.raises(CheckpointError, match=f'{path}: {message}'):
        load_weights(PoolFormer(arch=TINY), path)


@pytest.mark.parametrize(
    'wrap',
    [
        lambda w: w,
        lambda w: {'state_dict': w, 'epoch': 300},
        lambda w: {'model': w},
        lambda w: {'state_dict_ema': w},
        lambda w: {f'module.{k}': v for k, v in w.items()},
        lambda w: {'model': {f'module.{k}': v for k, v in w.items()}, 'arch': 'poolformer_s12'},
    ],
    ids=['bare', 'state_dict', 'model', 'ema', 'module', 'model+module'],
)
def test_wrappers(wrap, tmp_path):
    model = PoolFormer(arch=TINY, out_indices=3)
    torch.save(wrap(classifier()), tmp_path / 'weights.pth')
    load_pretrained(model, tmp_path / 'weights.pth')
    expected = make(out_indices=3).state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in model.state_dict().items())


class Toy(BaseModel):
    """A backbone with a loss, for mmengine's Runner."""

    def __init__(self):
        super().__init__()
        self.backbone = PoolFormer(arch=TINY)

    def forward(self, inputs, mode='tensor'):
        features = self.backbone(inputs)
        return {'loss': features[-1].pow(3).mean()} if mode == 'loss' else features


@pytest.fixture(scope='module')
def training_checkpoint(tmp_path_factory):
    """What mmengine saves after training, logs included, and the model it saved."""
    folder = tmp_path_factory.mktemp('run')
    runner = Runner(
        Toy(),
        str(folder),
        train_dataloader=torch.utils.data.DataLoader(
            [torch.rand(3, 32, 32) for _ in range(4)],
            batch_size=2,
            collate_fn=lambda images: {'inputs': torch.stack(images)},
        ),
        train_cfg={'by_epoch': True, 'max_epochs': 2},
        optim_wrapper={'optimizer': {'type': 'AdamW', 'lr': 1e-3}},
        param_scheduler={'type': 'LinearLR', 'start_factor': 0.1, 'end': 2},
        default_hooks={'logger': {'type': 'LoggerHook', 'interval': 1}},
        experiment_name='test_checkpoint_files',
        log_level='ERROR',
    )
    # Numbers of other types than the losses' own, as users' hooks log them.
    runner.message_hub.update_scalar('train/f32', np.float32(1.5))
    runner.message_hub.update_scalar('train/i64', np.int64(3))
    runner.message_hub.update_scalar('train/i32', np.int32(3))
    runner.train()
    return folder / 'epoch_2.pth', runner.model


@pytest.mark.smoke
def test_training_checkpoint_of_mmengine_loads(training_checkpoint):
    path, model = training_checkpoint
    checkpoint = read_checkpoint(path)
    scalars = checkpoint['message_hub']['log_scalars']
    losses, counts = scalars['train/loss'].data
    assert isinstance(scalars['train/loss'], HistoryBuffer)
    assert len(losses) == len(counts) == 4
    assert scalars['train/f32'].current() == 1.5
    assert checkpoint['optimizer']['param_groups']
    other = Toy()
    assert load_weights(other, path)['meta']['epoch'] == 2
    expected = model.state_dict()
    assert expected
    assert all(torch.equal(tensor, expected[key]) for key, tensor in other.state_dict().items())
    # As the start of another training, whose backbone outputs other stages.
    backbone = PoolFormer(arch=TINY, out_indices=(1, 2, 3))
    report = load_pretrained(backbone, path)
    assert '(layout mmpoolformer)' in report
    assert 'fresh' not in report
    assert torch.equal(backbone.norm1.weight, model.backbone.norm1.weight)


@pytest.mark.smoke
def test_training_checkpoint_loads_again_after_mmengine_loaded_it(training_checkpoint):
    """When onedl-mmengine has loaded a file, it empties torch's list of harmless classes."""
    path, _ = training_checkpoint
    load_checkpoint(Toy(), str(path), map_location='cpu')
    assert read_checkpoint(path)['message_hub']


def test_training_checkpoint_loads_with_nothing_but_the_package_imported(training_checkpoint):
    """The tools import more, and must not be what makes torch accept the file."""
    path, _ = training_checkpoint
    code = (
        'import sys, torch, mmpoolformer\n'
        f'checkpoint = torch.load({str(path)!r}, weights_only=True)\n'
        "print(sorted(checkpoint), 'mmpoolformer.engine.launch' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, '-c', code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert "'state_dict'" in result.stdout
    assert result.stdout.strip().endswith('False')
