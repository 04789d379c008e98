"""Two processes on one machine without a GPU: the launch scripts, and what they must not change."""

import os
import pickle
import re
import shlex
import socket
import sys

import numpy as np
import pytest
import torch
from processes import ROOT, environment, run

RANK_WEIGHTS = """
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class SaveOfEachRank(Hook):
    def after_train(self, runner):
        torch.save(runner.model.module.state_dict(), f'rank{get_rank()}.pth')
"""
EXTRA = """
custom_imports = dict(imports=['mmpoolformer', 'rank_weights'])
custom_hooks = [dict(type='SaveOfEachRank')]
model['test_cfg'] = dict(score_thr=0.0)
train_dataloader['batch_size'] = 1
train_cfg = dict(max_epochs=1, val_interval=9)
"""
GLOO = ('--cfg-options', 'env_cfg.dist_cfg.backend=gloo')


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def launch(script, *args, cwd, **env):
    env = dict(PYTHON=sys.executable, PORT=str(free_port()), PYTHONPATH=str(cwd)) | env
    return run([ROOT / f'tools/{script}.sh', *args], cwd, **env)


@pytest.mark.slow
def test_two_processes_train_and_test_like_one(forked, tiny, tmp_path):
    (tmp_path / 'rank_weights.py').write_text(RANK_WEIGHTS)
    config = tiny(extra=EXTRA)
    train = launch('dist_train', config, 2, '--work-dir', 'work', *GLOO, cwd=tmp_path)
    assert train.code == 0, train.text[-3000:]
    assert train.text.count('effective batch 2 = 2 processes x 1 image') == 1
    assert 'find_unused_parameters=True' not in train.text
    progress = re.findall(r'Epoch\(train\) +\[1\]\[\d/(\d)\]', train.text)
    assert progress == ['4'] * 4, 'eight images, two at a time'
    first, second = (torch.load(tmp_path / f'rank{i}.pth', weights_only=True) for i in (0, 1))
    assert len(first) > 20
    assert [key for key in first if not torch.equal(first[key], second[key])] == []

    checkpoint = tmp_path / 'work/epoch_1.pth'
    two = launch('dist_test', config, checkpoint, 2, '--out', 'two.pkl', *GLOO, cwd=tmp_path)
    assert two.code == 0, two.text[-3000:]
    env = {'PYTHONPATH': str(tmp_path)}
    one = forked('test', config, checkpoint, '--out', 'one.pkl', env=env)
    assert one.code == 0, one.text[-3000:]
    metrics = [re.findall(r'bbox_mAP\w*: ([-\d.]+)', run.text) for run in (two, one)]
    assert len(metrics[0]) >= 6
    assert metrics[0] == metrics[1]
    of_two, of_one = (pickle.loads((tmp_path / f'{n}.pkl').read_bytes()) for n in ('two', 'one'))
    assert [p['img_id'] for p in of_two] == [p['img_id'] for p in of_one]
    assert len(of_one) == 4
    for a, b in zip(of_two, of_one, strict=True):
        assert len(b['pred_instances']['scores']) > 0
        np.testing.assert_allclose(a['pred_instances']['scores'], b['pred_instances']['scores'])


def gradients_of_rank(rank, folder, shapes):
    """Save the gradient of this rank's two images, alone and averaged by DDP."""
    os.environ.update(environment())
    os.chdir(folder)
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/meeting', rank=rank, world_size=2
    )
    from mmdet.registry import DATASETS, MODELS
    from mmdet.utils import register_all_modules
    from mmengine.config import Config
    from mmengine.dataset import pseudo_collate
    from mmengine.model import MMDistributedDataParallel

    register_all_modules()
    cfg = Config.fromfile(ROOT / 'configs/detection/retinanet_poolformer_s12_shapes.py')
    cfg.train_dataloader.dataset.data_root = f'{shapes}/coco/'
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    batch = pseudo_collate([dataset[2 * rank], dataset[2 * rank + 1]])

    def gradients(wrapped):
        model.zero_grad()
        losses = wrapped(**model.data_preprocessor(batch, True), mode='loss')
        sum(sum(parts) for parts in losses.values()).backward()
        return {name: p.grad.clone() for name, p in model.named_parameters()}

    alone = gradients(model)
    averaged = gradients(MMDistributedDataParallel(model, device_ids=None, broadcast_buffers=False))
    torch.save(dict(alone=alone, averaged=averaged), f'gradients{rank}.pth')
    torch.distributed.barrier()


def test_gradient_is_the_mean_over_processes(warm_server, tmp_path, shapes):
    processes = [
        warm_server.Process(target=gradients_of_rank, args=(rank, str(tmp_path), str(shapes)))
        for rank in (0, 1)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(180)
        process.kill()
    assert [process.exitcode for process in processes] == [0, 0]
    first, second = (torch.load(tmp_path / f'gradients{i}.pth', weights_only=True) for i in (0, 1))
    assert len(first['alone']) > 100
    for name, averaged in first['averaged'].items():
        assert torch.equal(averaged, second['averaged'][name]), name
        mean = (first['alone'][name].double() + second['alone'][name].double()) / 2
        assert (averaged - mean).norm() <= 1e-6 * mean.norm() + 1e-12, name
    name = 'backbone.stem.conv.weight'
    assert not torch.allclose(first['alone'][name], second['alone'][name], rtol=1e-2)


@pytest.mark.parametrize(
    ('script', 'args'),
    [
        ('dist_train', ['c.py']),
        ('dist_test', ['c.py', 'w.pth']),
        ('slurm_train', ['part', 'job']),
        ('slurm_test', ['part', 'job', 'c.py']),
    ],
)
def test_too_few_arguments(tmp_path, script, args):
    finished = launch(script, *args, cwd=tmp_path)
    assert finished.code == 2
    assert finished.err.startswith('usage: ')
    assert len(finished.err.splitlines()) == 1


@pytest.fixture
def fake_srun(tmp_path):
    """A folder for PATH whose srun prints its arguments, one per line."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    for name in ('srun', 'fake_python'):
        (folder / name).write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        (folder / name).chmod(0o755)
    return f'{folder}:{os.environ["PATH"]}'


def test_slurm_command_lines(tmp_path, fake_srun):
    env = dict(PATH=fake_srun, PYTHON='python3', GPUS='16', SRUN_ARGS='--time=1 --mem=2')
    train = launch('slurm_train', 'part', 'my job', 'c.py', '--amp', cwd=tmp_path, **env)
    assert train.out.splitlines() == [
        *shlex.split('-p part "--job-name=my job" --gres=gpu:8 --ntasks=16 --ntasks-per-node=8'),
        *shlex.split('--cpus-per-task=5 --kill-on-bad-exit=1 --signal=USR1@120 --time=1 --mem=2'),
        *shlex.split('python3 -u'),
        f'{ROOT}/tools/train.py',
        *shlex.split('c.py --launcher slurm --amp'),
    ]
    env = dict(PATH=fake_srun, PYTHON='python3', GPUS='1', GPUS_PER_NODE='1', CPUS_PER_TASK='2')
    test = launch(
        'slurm_test', 'part', 'job', 'c.py', 'w.pth', '--out', 'a b.pkl', cwd=tmp_path, **env
    )
    assert test.out.splitlines() == [
        *shlex.split('-p part --job-name=job --gres=gpu:1 --ntasks=1 --ntasks-per-node=1'),
        *shlex.split('--cpus-per-task=2 --kill-on-bad-exit=1 python3 -u'),
        f'{ROOT}/tools/test.py',
        *shlex.split('c.py w.pth --launcher slurm --out "a b.pkl"'),
    ]


def test_slurm_job_that_runs_out_of_time_is_queued_again(tmp_path):
    folder = tmp_path / 'bin'
    folder.mkdir()
    for name, status in (('srun', 138), ('scontrol', 0)):
        (folder / name).write_text(f'#!/bin/sh\necho {name} "$@" >> calls\nexit {status}\n')
        (folder / name).chmod(0o755)
    env = dict(PATH=f'{folder}:{os.environ["PATH"]}', SLURM_JOB_ID='77')
    run = launch('slurm_train', 'part', 'job', 'c.py', cwd=tmp_path, **env)
    assert run.code == 138
    assert (tmp_path / 'calls').read_text().splitlines()[-1] == 'scontrol requeue 77'
    (folder / 'srun').write_text('#!/bin/sh\nexit 1\n')
    (tmp_path / 'calls').unlink()
    assert launch('slurm_train', 'part', 'job', 'c.py', cwd=tmp_path, **env).code == 1
    assert not (tmp_path / 'calls').exists()


def test_torchrun_command_lines_of_two_machines(tmp_path, fake_srun):
    env = dict(PATH=fake_srun, PYTHON='fake_python', PORT='29501')
    env |= dict(NNODES='2', NODE_RANK='1', MASTER_ADDR='10.0.0.1')
    start = ['-m', 'torch.distributed.run', '--nnodes=2', '--node_rank=1', '--nproc_per_node=8']
    start += ['--master_addr=10.0.0.1', '--master_port=29501']
    restarts = ['--max-restarts=2']
    env |= dict(MAX_RESTARTS='2')
    train = launch('dist_train', 'c.py', 8, '--resume', 'my file.pth', cwd=tmp_path, **env)
    end = [f'{ROOT}/tools/train.py', 'c.py', '--launcher', 'pytorch', '--resume', 'my file.pth']
    assert train.out.splitlines() == start + restarts + end
    test = launch('dist_test', 'c.py', 'w.pth', 8, '--out', 'o.pkl', cwd=tmp_path, **env)
    end = [f'{ROOT}/tools/test.py', 'c.py', 'w.pth', '--launcher', 'pytorch', '--out', 'o.pkl']
    assert test.out.splitlines() == start + end
