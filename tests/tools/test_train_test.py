"""tools/train.py, then tools/test.py on its checkpoint, for all three tasks."""

import json
import pickle
import re
import time

import pytest
from PIL import Image
from processes import run_tool

from mmpoolformer.checkpoint import read_checkpoint


def scalars(work_dir):
    """The numbers that were logged, one dict per line."""
    (path,) = work_dir.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in path.open()]


def log_lines(text, word):
    return [line for line in text.splitlines() if word in line]


@pytest.mark.smoke
def test_detection_trains_and_tests_in_new_processes(tiny, tmp_path):
    config = tiny('detection', 'model["test_cfg"] = dict(score_thr=0.0)\n')
    train = run_tool('train', config, cwd=tmp_path)
    assert train.code == 0, train.text[-3000:]
    work_dir = tmp_path / 'work_dirs/tiny'  # the default: named after the config
    assert (work_dir / 'epoch_1.pth').is_file()
    assert log_lines(train.text, 'effective batch 4 = 1 process x 4 images, as in the recipe')
    progress = log_lines(train.text, 'Epoch(train)')
    assert len(progress) == 2, 'one line for each of the two iterations'
    assert all('eta: ' in line and 'loss: ' in line for line in progress)
    assert log_lines(train.text, 'bbox_mAP:')

    out = tmp_path / 'new/predictions.pkl'
    arguments = ('--out', out, '--show-dir', 'pictures', '--work-dir', 'tested')
    test = run_tool('test', config, work_dir / 'epoch_1.pth', *arguments, cwd=tmp_path)
    assert test.code == 0, test.text[-3000:]
    metric = r'bbox_mAP: ([-\d.]+)'
    after_training, tested = (re.findall(metric, run.text) for run in (train, test))
    assert len(tested) == 1
    assert tested == after_training, 'the checkpoint holds another model than was trained'
    predictions = pickle.loads(out.read_bytes())
    assert len(predictions) == 4
    assert all(set(p['pred_instances']) >= {'bboxes', 'labels', 'scores'} for p in predictions)
    assert len(list((tmp_path / 'pictures').glob('*.png'))) == 4
    assert not log_lines(test.text, 'Traceback')


def test_segmentation(forked, tiny, tmp_path):
    train = forked('train', tiny('segmentation'), '--work-dir', 'here')
    assert train.code == 0, train.text[-3000:]
    weights = read_checkpoint(tmp_path / 'here/iter_2.pth')['state_dict']
    assert 'decode_head.scale_heads.0.0.bn.running_mean' in weights
    config_text = (tmp_path / 'here/config.py').read_text()
    assert "type='SyncBN'" not in config_text
    assert "type='BN'" in config_text
    assert log_lines(train.text, 'Iter(train)')
    assert log_lines(train.text, 'eta: ')

    arguments = ('--out', tmp_path / 'maps', '--show-dir', tmp_path / 'pictures')
    test = forked('test', tiny('segmentation'), tmp_path / 'here/iter_2.pth', *arguments)
    assert test.code == 0, test.text[-3000:]
    metric = r'mIoU: ([\d.]+)'
    assert re.findall(metric, test.text) == re.findall(metric, train.text) != []
    maps = sorted((tmp_path / 'maps').glob('*.png'))
    assert len(maps) == 4
    with Image.open(maps[0]) as labels:
        assert labels.mode == 'L'
        assert labels.getextrema()[1] < 7
    assert len(list((tmp_path / 'pictures').rglob('*.png'))) == 4


def test_classification(forked, tiny, tmp_path):
    train = forked('train', tiny('classification'))
    assert train.code == 0, train.text[-3000:]
    checkpoint = tmp_path / 'work_dirs/tiny/epoch_1.pth'
    arguments = ('--out', tmp_path / 'out.pkl', '--show-dir', tmp_path / 'pictures')
    test = forked('test', tiny('classification'), checkpoint, *arguments)
    assert test.code == 0, test.text[-3000:]
    metric = r'accuracy/top1: ([\d.]+)'
    assert re.findall(metric, test.text) == re.findall(metric, train.text) != []
    predictions = pickle.loads((tmp_path / 'out.pkl').read_bytes())
    assert len(predictions) > 0
    assert {len(p['pred_score']) for p in predictions} == {6}
    # mmpretrain names them after the image file without its folder, so they may coincide.
    assert list((tmp_path / 'pictures').glob('*.png'))


def test_out_must_be_a_pickle(forked, tiny):
    test = forked('test', tiny(), 'any.pth', '--out', 'predictions.json')
    assert test.code != 0
    assert test.err.strip() == '--out predictions.json: must end in .pkl'


def test_auto_scale_lr_scales(forked, tiny, tmp_path):
    """Two images instead of four: half the learning rate, which --cfg-options set to 1e-3."""
    options = ('optim_wrapper.optimizer.lr=0.001', 'train_dataloader.batch_size=2')
    options += ('param_scheduler=None', 'train_cfg.val_interval=9')
    config = tiny()
    for name, flags, rate in (('as_is', (), 1e-3), ('scaled', ('--auto-scale-lr',), 5e-4)):
        run = forked('train', config, '--work-dir', name, *flags, '--cfg-options', *options)
        assert run.code == 0, run.text[-3000:]
        rates = {line['lr'] for line in scalars(tmp_path / name) if 'lr' in line}
        assert rates == {rate}
    assert log_lines(run.text, 'learning rate scaled from 0.001 to 0.0005')


def test_auto_scale_lr_needs_the_recipes_batch(forked, tiny):
    run = forked('train', tiny(extra='auto_scale_lr = dict(_delete_=True)\n'), '--auto-scale-lr')
    assert run.code != 0
    assert 'base_batch_size' in run.err
    assert 'Traceback' not in run.text


def test_amp_without_gpu(forked, tiny, tmp_path):
    run = forked('train', tiny(), '--amp')
    assert run.code == 2
    assert 'Mixed precision (--amp, AmpOptimWrapper) needs a CUDA GPU' in run.err
    assert 'Drop --amp' in run.err
    assert not (tmp_path / 'work_dirs').exists()


@pytest.mark.parametrize('spelling', ['--local_rank', '--local-rank'])
def test_both_spellings_of_local_rank(forked, tiny, spelling):
    """--amp ends the run early; an unknown option would end it earlier, with another message."""
    run = forked('train', tiny(), f'{spelling}=0', '--amp')
    assert 'Mixed precision' in run.err


@pytest.mark.parametrize('tool', ['train', 'test'])
def test_help(tmp_path, tool):
    start = time.monotonic()
    run = run_tool(tool, '--help', cwd=tmp_path)
    assert run.code == 0
    for option in ('--work-dir', '--cfg-options', '--launcher', '--local-rank'):
        assert option in run.out
    # About 3 s on an idle machine, most of it the import of torch.
    assert time.monotonic() - start < 40
