"""Mistakes users make: one clear message, no traceback, and nothing is written over."""

import hashlib
import json
import time

import pytest
import torch
from processes import ROOT, run_tool
from torch import nn

from mmpoolformer.engine.launch import plain_errors
from mmpoolformer.mmcv_operators import are_compiled

HTML = '<!DOCTYPE html><html><body>404</body></html>'


class Malicious:
    """Unpickling it without restrictions creates the file ``path``."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, 'w')


def snapshot(*folders):
    """The content of every file below ``folders``, except logs and copies of the config."""
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in folders
        for path in sorted(folder.rglob('*'))
        if path.is_file() and path.suffix not in ('.log', '.py')
    }


def refused(run, *parts):
    """Assert that a run ended with a message that contains ``parts``, and no traceback."""
    assert run.code in (1, 2), run.text[-3000:]
    assert 'Traceback' not in run.text
    said = ' '.join(run.err.split())  # Long lines are wrapped.
    for part in parts:
        assert part in said, f'{part!r} is not in:\n{run.err[-3000:]}'
    return run


@pytest.fixture
def work_dir(tmp_path):
    """A work dir with the results of earlier training, which no failure may touch."""
    folder = tmp_path / 'work_dirs/tiny'
    folder.mkdir(parents=True)
    (folder / 'epoch_3.pth').write_bytes(b'the result of a week')
    return folder


@pytest.fixture
def malicious(tmp_path):
    """A checkpoint that would create the second path, and proof that it can."""
    path, trace = tmp_path / 'malicious.pth', tmp_path / 'trace'
    content = dict(state_dict={'w': torch.zeros(1)}, meta=Malicious(trace))
    torch.save(content, path)
    torch.load(path, weights_only=False)
    assert trace.exists(), 'the attack does not work, so the tests below would prove nothing'
    trace.unlink()
    return path, trace


@pytest.mark.smoke
def test_missing_coco(tmp_path):
    config = ROOT / 'configs/detection/retinanet_poolformer_s12_1x.py'
    start = time.monotonic()
    run = run_tool('train', config, cwd=tmp_path)
    seconds = time.monotonic() - start
    refused(run, 'instances_train2017.json', 'data/coco/val2017/', 'train2017.zip', 'make demo')
    assert run.out == ''
    assert run.err.count('cannot run yet') == 1
    assert seconds < 30  # 4 s on an idle machine; 10 s are promised.
    assert list(tmp_path.iterdir()) == []


def test_only_the_first_of_several_processes_speaks(forked, tiny):
    run = forked('train', tiny(), '--amp', env={'RANK': '1'})
    assert (run.code, run.text) == (2, '')
    run = forked('train', tiny(), '--amp', env={'RANK': '0'})
    assert run.code == 2
    assert 'CUDA' in run.err


@pytest.mark.parametrize(
    ('extra', 'parts'),
    [
        ("model['bbox_head']['num_classes'] = 80\n", ['model.bbox_head.num_classes=6']),
        ("train_dataloader['dataset']['ann_file'] = '{tmp}/broken.json'\n", ['not valid json']),
        ("train_dataloader['dataset']['ann_file'] = '{tmp}/html.json'\n", ['web page']),
        ("optim_wraper = dict(type='OptimWrapper')\n", ['`optim_wraper` is not a setting']),
        ("model['backbnoe'] = dict(depth=50)\n", ['backbnoe']),
        ("load_from = 'no_such.pth'\n", ['no_such.pth', 'does not exist']),
        (
            "model['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint='no.pth')\n",
            ['no.pth'],
        ),
        ('train_dataloader = None\n', ['no complete config', 'train_dataloader']),
        ('model = dict(\n', ['tiny.py cannot be read', 'never closed']),
        ('x = undefined_name\n', ['tiny.py cannot be read', 'undefined_name', 'line']),
        ("custom_imports = dict(imports=['no_such_module'])\n", ['no_such_module']),
        # These are found only when objects are built.
        ("model['type'] = 'RetinaNett'\n", ['RetinaNett', '`type` spelt correctly?']),
        ("model['bbox_head']['stacked_conv'] = 2\n", ['stacked_conv', 'key spelt correctly?']),
        ("model['backbone']['out_indices'] = (1, 2, 7)\n", ['out_indices', '7']),
        ("train_dataloader['dataset']['pipeline'] = [dict(type='Lod')]\n", ['Lod', 'spelt']),
    ],
)
def test_config(forked, tiny, tmp_path, work_dir, shapes, extra, parts):
    annotations = (shapes / 'coco/annotations/instances_train.json').read_text()
    (tmp_path / 'broken.json').write_text(annotations[: len(annotations) // 2])
    (tmp_path / 'html.json').write_text(HTML)
    config = tiny(extra=extra.replace('{tmp}', str(tmp_path)))
    before = snapshot(work_dir.parent, shapes)
    assert len(before) > 12
    refused(forked('train', config), *parts)
    assert snapshot(work_dir.parent, shapes) == before


def test_config_missing(forked, tmp_path):
    (tmp_path / 'a.py').write_text("_base_ = ['no_base.py']\n")
    refused(forked('train', 'a.py'), 'a.py cannot be read', 'no_base.py')
    refused(forked('train', 'configs/no_such.py'), 'configs/no_such.py does not exist')
    refused(forked('test', 'configs/no_such.py', 'any.pth'), 'configs/no_such.py does not exist')


@pytest.mark.parametrize(
    ('options', 'parts'),
    [
        (['model.backbone.arch'], ["'model.backbone.arch' is not KEY=VALUE"]),
        (['model.backbone.arch=(1,2'], ['is not KEY=VALUE']),
        (['model.type.name=1'], ['--cfg-options does not fit']),
        (['train_dataloder.batch_size=2'], ['`train_dataloder` is not a setting']),
        (['train_dataloader.batch_size=0'], ['train_dataloader.batch_size is 0']),
        (['optim_wrapper.optimizer.lr=-1'], ['optim_wrapper.optimizer.lr is -1']),
        (['model.backbone.arch=s13'], ['s13', 's12']),
    ],
)
def test_cfg_options(forked, tiny, options, parts):
    config = tiny(extra="model['backbone']['arch'] = 's12'\n" if 's13' in options[0] else '')
    refused(forked('train', config, '--cfg-options', *options), *parts)


def test_work_dir_is_a_file(forked, tiny, tmp_path):
    (tmp_path / 'file').write_text('mine')
    refused(forked('train', tiny(), '--work-dir', 'file'), '--work-dir file cannot be made')
    assert (tmp_path / 'file').read_text() == 'mine'


@pytest.mark.parametrize('kind', ['missing', 'web page', 'empty', 'cut off', 'of another model'])
def test_checkpoint(forked, tiny, tmp_path, work_dir, kind):
    path = tmp_path / 'bad.pth'
    if kind == 'web page':
        path.write_text(HTML)
    elif kind == 'empty':
        path.touch()
    elif kind != 'missing':
        torch.save(dict(state_dict=nn.Linear(64, 64).state_dict()), path)
    if kind == 'cut off':
        path.write_bytes(path.read_bytes()[:9000])
    before = snapshot(tmp_path)
    expected = {
        'missing': 'does not exist',
        'web page': 'web page',
        'empty': 'empty',
        'cut off': 'cut off',
        'of another model': 'does not fit this config',
    }[kind]
    refused(forked('test', tiny(), path), 'bad.pth', expected)
    if kind != 'of another model':
        refused(forked('train', tiny(), '--resume', path), 'bad.pth', expected)
    assert snapshot(tmp_path) == before


@pytest.mark.smoke
def test_malicious_checkpoint_runs_nothing(forked, tiny, work_dir, malicious):
    path, trace = malicious
    (work_dir / 'last_checkpoint').write_text(str(path))
    before = snapshot(work_dir)
    init = f"['init_cfg'] = dict(type='Pretrained', checkpoint='{path}')\n"
    neck = f"model['neck']{init}"
    backbone = f"model['backbone']{init}".replace('dict(', 'dict(_delete_=True, ')
    routes = [
        ('test', (tiny(), path)),
        ('train', (tiny(), '--resume', path)),
        ('train', (tiny(), '--resume')),
        ('train', (tiny(), '--cfg-options', f'load_from={path}')),
        ('train', (tiny(extra=backbone, name='backbone'), '--work-dir', 'other')),
        # mmengine loads this one by itself.
        ('train', (tiny(extra=neck, name='neck'), '--work-dir', 'other')),
    ]
    for tool, arguments in routes:
        refused(forked(tool, *arguments), 'holds more than tensors and plain data', 'open')
        assert not trace.exists(), f'{tool} {arguments} ran the code in the checkpoint'
    assert snapshot(work_dir) == before


def test_trusted_checkpoint_is_loaded_all_the_same(forked, tiny, tmp_path, work_dir, malicious):
    """The flag does what it says: this file's code runs."""
    path, trace = malicious
    run = forked('test', tiny(), path, '--trust-checkpoint')
    assert trace.exists(), run.text
    assert 'holds more than' not in run.text


def test_resume_of_another_model(forked, tiny, tmp_path):
    """mmengine loads what fits and trains the rest from scratch, with a warning in the log."""
    weights, path = nn.Linear(4, 4).state_dict(), tmp_path / 'other.pth'
    torch.save(dict(state_dict=weights), path)
    refused(forked('train', tiny(), '--resume', path), 'cannot be resumed', f'load_from={path}')
    torch.save(dict(state_dict=weights, meta={}, message_hub={}, optimizer={}), path)
    refused(forked('train', tiny(), '--resume', path), 'other.pth does not fit this config')


def test_category_names_of_another_data_set(forked, tiny, tmp_path, shapes):
    path = shapes / 'coco/annotations/instances_train.json'
    data = json.loads(path.read_text())
    for category in data['categories']:
        category['name'] = category['name'].upper()
    (tmp_path / 'upper.json').write_text(json.dumps(data))
    extra = f"train_dataloader['dataset']['ann_file'] = '{tmp_path}/upper.json'\n"
    refused(forked('train', tiny(extra=extra)), "did you mean 'CIRCLE'?", 'upper.json')


@pytest.mark.smoke
@pytest.mark.skipif(are_compiled(), reason='mmcv has compiled operators')
def test_operator_that_is_not_compiled(forked, tiny, tmp_path):
    config = tiny(extra="model['neck'] |= dict(conv_cfg=dict(type='DCNv2'))\n")
    run = refused(
        forked('train', config),
        'ModulatedDeformConv2dPack (neck.lateral_convs.0.conv) needs an operator of mmcv.ops',
        'MMCV_WITH_OPS=1 pip install',
    )
    assert 'Epoch(train)' not in run.text


def test_operators_compiled_for_another_pytorch(capsys):
    with pytest.raises(SystemExit), plain_errors('a.py'):
        raise ImportError('/site-packages/mmcv/_ext.so: undefined symbol: _ZN3c10')
    message = capsys.readouterr().err
    assert 'undefined symbol' in message
    assert "mmcv's operators were compiled for another PyTorch" in message
