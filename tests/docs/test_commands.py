"""Every command and every Python block of README and site runs, and shows what it says it does."""

import io
import json
import re
import shlex
import shutil
import sys
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from inspect import signature
from pathlib import Path

import pytest
import torch
from layouts import as_authors
from mmengine.config import Config
from pages import PAGES, REASONS, blocks
from processes import ROOT, Finished, run

import mmpoolformer
from mmpoolformer.datasets.shapes import generate

LANGUAGES = ('bash', 'python', 'text', 'bibtex', '')
# What makes the models that blocks train so small that they take seconds.
SMALL = {
    'configs/detection/retinanet_poolformer_s12_shapes.py': 'neck=dict(in_channels=[24, 32, 48])',
    'configs/classification/poolformer_s12_shapes.py': 'head=dict(in_channels=48)',
}
ARCH = 'dict(_delete_=True, depths=(1, 1, 1, 1), dims=(16, 24, 32, 48))'
# A new block that cannot run must be counted here.
NOT_RUN = dict(ADE20K=1, COCO=3, GPU=3, ImageNet=1, Slurm=2, minutes=7, network=5)


def test_blocks_that_are_not_run_say_why_and_are_counted():
    found = [block for page in PAGES for block in blocks(page)]
    assert {block.language for block in found} <= {*LANGUAGES}
    known = re.compile(rf'|fails|output|not run: ({"|".join(REASONS)})')
    assert not [block for block in found if not known.fullmatch(block.remark)]
    skipped = [block for block in found if block.reason]
    listed = '\n'.join(f'{b.place} ({b.reason}): {b.text.splitlines()[0]}' for b in skipped)
    print(listed)
    assert Counter(block.reason for block in skipped) == NOT_RUN, listed


@pytest.fixture(scope='session')
def torch_home(tmp_path_factory):
    """A cache of downloads that holds PoolFormer-S12 in the authors' layout, untrained."""
    folder = tmp_path_factory.mktemp('torch')
    weights = as_authors(mmpoolformer.PoolFormer(arch='s12', out_indices=3).state_dict())
    weights = {key.replace('norm6', 'norm'): tensor for key, tensor in weights.items()}
    weights |= {'head.weight': torch.zeros(1000, 512), 'head.bias': torch.zeros(1000)}
    (folder / 'hub/checkpoints').mkdir(parents=True)
    torch.save(weights, folder / 'hub/checkpoints/poolformer_s12.pth.tar')
    return folder


@pytest.fixture
def clone(tmp_path, shapes, torch_home, monkeypatch):
    """Stand in a clone with small data and models and without network, where blocks may write."""
    for name in ('configs', 'tools', 'docs'):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name, rest in SMALL.items():
        model = f'dict(backbone=dict(arch={ARCH}), {rest})'
        (tmp_path / name).write_text(f'_base_ = {str(ROOT / name)!r}\nmodel = {model}\n')
    shutil.copytree(shapes, tmp_path / 'data/shapes')
    info = tmp_path / 'data/shapes/shapes.json'
    # It passes for what the defaults make, so that the documented command finds it.
    content = json.loads(info.read_text())
    defaults = {key: signature(generate).parameters[key].default for key in content['parameters']}
    info.write_text(json.dumps({**content, 'parameters': defaults}))
    python = Path(sys.executable)
    settings = dict(
        PATH=f'{python.parent}:/usr/bin:/bin',
        PYTHONPATH=str(ROOT),
        TORCH_HOME=str(torch_home),
        https_proxy='http://127.0.0.1:9',
        http_proxy='http://127.0.0.1:9',
    )
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def forget():
    """Undo what blocks register."""
    mixers = mmpoolformer.TOKEN_MIXERS
    before = dict(mixers)
    yield
    mixers.clear()
    mixers.update(before)


@pytest.mark.slow
@pytest.mark.parametrize('page', PAGES)
def test_page(page, clone, forget, forked):
    names, last = {}, None
    for block in blocks(page):
        if block.reason:
            last = None
        elif block.remark == 'output':
            assert last, f'{block.place}: the block before it was not run'
            check_lines(block.place, block.text.splitlines(), last.text)
        elif block.language == 'bash':
            last = run_commands(block, clone, forked)
        elif block.language == 'python':
            last = run_python(block, clone, names)


def run_commands(block, folder, forked) -> Finished:
    """Run a block of commands; those of tools/ in copies of a process that has imported all."""
    lines = block.text.replace('\\\n', ' ').splitlines()
    commands = [line for line in lines if shlex.split(line, comments=True)]
    if re.search(r'[|;&$<>*{`]', block.text):  # More than words: for a shell, in one piece.
        commands = [block.text]
    text = ''
    for command in commands:
        words = shlex.split(command, comments=True)
        if tool := re.fullmatch(r'python tools/([a-z_]+)\.py', ' '.join(words[:2])):
            result = forked(tool[1], *words[2:])
        else:
            result = run(['bash', '-euo', 'pipefail', '-c', command], folder)
        text += result.text
        assert (result.code != 0) == (block.remark == 'fails'), f'{block.place}:\n{text[-3000:]}'
    return Finished(0, text, '')


def run_python(block, folder, names) -> Finished:
    """Run a block of Python and compare what it prints with the comments that follow `print`."""
    if path := re.match(r'# (configs/\S+\.py)\n', block.text):
        (folder / path[1]).write_text(block.text)
        assert Config.fromfile(folder / path[1]).model
        return Finished(0, '', '')
    before = dict(names)
    output = io.StringIO()
    with redirect_stdout(output), redirect_stderr(output):
        exec(compile(block.text, block.place, 'exec'), names)
    new = {key: value for key, value in names.items() if value is not before.get(key)}
    if isinstance(config := new.get('backbone'), dict):
        assert mmpoolformer.MODELS.build(config)
    for hook in new.get('default_hooks', {}).values():
        assert mmpoolformer.HOOKS.build(hook)
    shown = re.findall(r'^ *print\(.*\n((?:# .*\n)+)', block.text, re.MULTILINE)
    lines = [line[2:] for comments in shown for line in comments.splitlines()]
    check_lines(block.place, lines, output.getvalue())
    return Finished(0, output.getvalue(), '')


def check_lines(place, lines, output) -> None:
    """Find every line in the output, in this order; `...` stands for any text of one line."""
    rest = output
    for line in filter(str.strip, lines):
        pattern = '.*'.join(map(re.escape, line.strip().split('...')))
        found = re.search(rf'^\s*{pattern}', rest, re.MULTILINE)
        assert found, f'{place}: {line!r} is not in\n{output[-3000:]}'
        rest = rest[found.end() :]
