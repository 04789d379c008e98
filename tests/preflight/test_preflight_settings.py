"""Weights, keys, numbers, devices, the line about the batch, and configs nobody expects."""

import copy
import json
import subprocess
import sys
import zipfile

import pytest
from mmengine.config import Config

from mmpoolformer.preflight import Problem, batch_line, check, report


def find(cfg, **options):
    problems = check(Config(cfg), **options)
    assert len(problems) == 1, problems
    return ' '.join(f'{problems[0].what} {problems[0].cure}'.split())


def test_files_that_are_no_weights(tmp_path):
    """Their kinds are those of tests/checkpoint/test_files.py."""
    path = tmp_path / 'epoch_1.pth'
    path.write_bytes(b'\n<!DOCTYPE html><html>Not found</html>')
    assert f'command line: {path} is a web page' in find({}, checkpoint=str(path))
    assert 'load_from: no_such.pth does not exist.' in find({'load_from': 'no_such.pth'})
    init = {'type': 'Pretrained', 'checkpoint': ''}
    assert 'model.init_cfg.checkpoint: . is a folder' in find({'model': {'init_cfg': init}})


@pytest.mark.parametrize('kind', ['zip', 'legacy'])
def test_weights_are_accepted_by_their_first_bytes(tmp_path, kind):
    path = tmp_path / 'good.pth'
    if kind == 'zip':
        with zipfile.ZipFile(path, 'w') as archive:
            archive.writestr('data.pkl', b'not read')
    else:
        path.write_bytes(b'\x80\x02\x8a')
    assert check({'load_from': str(path)}, checkpoint=str(path)) == []


def test_weights_of_every_init_cfg_are_looked_up():
    init = {'type': 'Pretrained', 'checkpoint': 'gone.pth', 'prefix': 'backbone.'}
    nested = {'backbone': {'init_cfg': [{'type': 'Constant'}, init]}}
    assert 'model.detector.backbone.init_cfg.checkpoint: gone.pth' in find(
        {'model': {'detector': nested}}
    )


@pytest.mark.parametrize(
    'name', ['https://a/b.pth', 'metaformer://poolformer_s12', 'torchvision://r', 'hf-hub:a/b']
)
def test_named_weights_are_not_looked_up(name):
    init = {'type': 'Pretrained', 'checkpoint': name}
    assert check({'load_from': name, 'model': {'init_cfg': init}}, checkpoint=name) == []


def test_misspelt_keys():
    assert '`optim_wrapper` is, and it is not set' in find({'optim_wraper': {}})
    loader = {'batch_size': 2, 'num_workers': 2}
    stray = {'train_dataloader': loader, 'train_dataloder': {'batch_size': 4}}
    assert 'so this value is ignored' in find(stray)


def test_variables_of_the_author_are_no_misspelling():
    names = ('norm_cfg', 'data_root', 'train_pipeline', 'dataset_type', 'tta_model', 'optimizer')
    cfg = {name: {'type': 'X'} for name in names}
    assert check(cfg | {'model': {'type': 'X', 'neck': {}}, 'model2': {'neck': {}}}) == []


@pytest.mark.parametrize(
    ('cfg', 'words'),
    [
        ({'train_dataloader': {'batch_size': 0}}, 'train_dataloader.batch_size is 0.'),
        ({'optim_wrapper': {'optimizer': {'lr': -1.0}}}, 'optimizer.lr is -1.0.'),
        ({'optim_wrapper': {'optimizer': {'lr': '1e-4x'}}}, "optimizer.lr is '1e-4x'"),
    ],
)
def test_numbers_that_cannot_work(cfg, words):
    assert words in find(cfg)


@pytest.mark.parametrize(
    ('cfg', 'words'),
    [
        ({'optim_wrapper': {'type': 'AmpOptimWrapper', 'dtype': 'float16'}}, 'Drop --amp'),
        ({'launcher': 'pytorch'}, 'env_cfg.dist_cfg.backend=gloo'),
    ],
)
def test_cuda_asked_for_and_absent(cfg, words, no_gpu, two_gpus, monkeypatch):
    assert check(cfg) == []
    monkeypatch.setattr('mmpoolformer.preflight.settings.cuda_devices', lambda: 0)
    assert 'PyTorch sees none' in find(cfg)
    assert words in find(cfg)


def test_cpu_training_asks_for_no_gpu(no_gpu):
    assert check({'launcher': 'pytorch', 'env_cfg': {'dist_cfg': {'backend': 'gloo'}}}) == []
    assert check({'optim_wrapper': {'type': 'AmpOptimWrapper'}}, splits=('test',)) == []


def test_more_processes_than_gpus(two_gpus, monkeypatch):
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '4')
    text = find({}, distributed=True)
    assert '4 processes were started on a machine with 2 GPUs' in text
    assert '--nproc-per-node=2' in text
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '2')
    assert check({}, distributed=True) == []


def batch(size=2, lr=1e-4, steps=None, enable=False, base=16):
    return {
        'train_dataloader': {'batch_size': size},
        'auto_scale_lr': {'base_batch_size': base, 'enable': enable},
        'optim_wrapper': {'optimizer': {'lr': lr}, 'accumulative_counts': steps},
    }


@pytest.mark.parametrize(
    ('cfg', 'gpus', 'line'),
    [
        (
            batch(),
            1,
            'effective batch 2 = 1 GPU x 2 images; the recipe uses 16 (8 x 2): '
            'learning rate 0.0001 fits 16, pass --auto-scale-lr to scale it to 1.25e-05',
        ),
        (
            batch(),
            8,
            'effective batch 16 = 8 GPUs x 2 images, as in the recipe: learning rate 0.0001',
        ),
        (
            batch(size=3, enable=True),
            1,
            'effective batch 3 = 1 GPU x 3 images; the recipe uses 16: '
            'learning rate scaled from 0.0001 to 1.875e-05',
        ),
        (
            batch(steps=8),
            1,
            'effective batch 16 = 1 GPU x 2 images x 8 accumulated steps, as in the recipe: '
            'learning rate 0.0001',
        ),
        (
            batch(steps=4),
            1,
            'effective batch 8 = 1 GPU x 2 images x 4 accumulated steps; the recipe uses 16 '
            '(8 x 2): learning rate 0.0001 fits 16, for this batch use '
            '--cfg-options optim_wrapper.optimizer.lr=5e-05',
        ),
        (
            batch(steps=8, enable=True),
            1,
            'effective batch 16 = 1 GPU x 2 images x 8 accumulated steps, as in the recipe: '
            '--auto-scale-lr ignores accumulation and makes the learning rate 1.25e-05; '
            'for this batch use optim_wrapper.optimizer.lr=0.0001 without it',
        ),
        (batch(lr=None), 8, 'effective batch 16 = 8 GPUs x 2 images, as in the recipe'),
    ],
)
def test_batch_line(cfg, gpus, line, two_gpus):
    assert batch_line(Config(cfg), gpus) == line


def test_batch_line_without_a_gpu_names_processes(no_gpu):
    assert batch_line(batch(size=8), 2).startswith('effective batch 16 = 2 processes x 8 images')


@pytest.mark.parametrize(
    'cfg', [None, {}, batch(size=0), batch(base=None), {'train_dataloader': 3}]
)
def test_batch_line_needs_both_numbers(cfg):
    assert batch_line(cfg, 1) is None


ODD = [None, 0, -1, 1.5, '', 'x', '\0', '~no', 'a' * 300, [], {}, (), [None], [[{}]], int, True]


def everywhere(tree):
    """Yield copies of a nested dict or list, each with one odd value in one place."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        changed = copy.copy(tree) if isinstance(tree, dict) else list(tree)
        parts = everywhere(tree[key]) if isinstance(tree[key], (dict, list, tuple)) else ()
        for value in (*ODD, *parts):
            changed[key] = value
            yield changed


def check_quietly(cfg):
    problems = check(cfg, splits=('train', 'val', 'test'))
    assert all(problem.what and problem.cure for problem in problems)
    batch_line(cfg, 1)
    report(problems, 'a.py')
    return len(problems)


def test_no_config_is_too_odd(detection, no_gpu):
    root, init = str(detection.root), {'type': 'Pretrained', 'checkpoint': 'gone.pth'}
    folders = {'type': 'CustomDataset', 'data_root': root, 'data_prefix': '', 'ann_file': ''}
    masks = {
        'type': 'BaseSegDataset',
        'data_root': root,
        'data_prefix': {'img_path': 'train', 'seg_map_path': 'val'},
        'img_suffix': '.jpg',
        'seg_map_suffix': '.jpg',
    }
    cfg = detection.cfg | {
        'test_dataloader': {'dataset': {'type': 'ConcatDataset', 'datasets': [folders, masks]}},
        'load_from': 'gone.pth',
        'launcher': 'pytorch',
        'env_cfg': {'dist_cfg': {'backend': 'nccl'}},
    }
    cfg['model'] = cfg['model'] | {
        'backbone': {'type': 'mmpoolformer.PoolFormer', 'arch': 's12', 'out_indices': (0, 3)},
        'neck': {'type': 'FPN', 'in_channels': [1], 'out_channels': 2, 'init_cfg': [init]},
        'head': {'num_classes': 2},
        'decode_head': {'in_channels': [1], 'in_index': [0]},
    }
    counts = [check_quietly(odd) for odd in everywhere(cfg)]
    assert len(counts) > 500
    assert min(counts) < max(counts)


def test_no_annotation_file_is_too_odd(detection, no_gpu):
    path = detection.root / 'train.json'
    data = json.loads(path.read_text())
    read = 0
    for odd in everywhere(data):
        path.write_text(json.dumps(odd, default=str))
        read += check_quietly(detection.cfg) > 0
    assert read > 100


@pytest.mark.parametrize('odd', ODD)
@pytest.mark.parametrize('name', ['model', 'val_dataloader', 'val_evaluator', 'optim_wrapper'])
def test_odd_values_are_no_problem(name, odd):
    assert check({name: odd}) == []


def test_report_of_nothing_is_empty():
    assert report([], 'a.py') == ''


def test_report_counts_and_keeps_commands_whole():
    command = '  ' + 'word ' * 40 + 'end'
    lines = report([Problem('word ' * 40, command)] * 10, 'a.py').splitlines()
    assert '     ' + command in lines
    assert any(line.startswith(' 10. word') for line in lines)


def test_neither_mmdet_nor_mmseg_is_imported():
    code = (
        'import sys; from mmpoolformer.preflight import check; '
        "check({'train_dataloader': {'dataset': {'type': 'CocoDataset', 'data_root': '/no'}}}); "
        "assert not {'mmdet', 'mmseg', 'mmpretrain'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, '-c', code], check=True)
