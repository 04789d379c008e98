"""The benchmarks: what they refuse to compare, how they take turns, and what they write."""

import json
import sys
from functools import cache, partial

import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import backbones, command_line, detectors
from benchmarks.checks import DisagreementError, check, tolerances
from benchmarks.measure import add_ratios, interleave, measure, peak_mib
from benchmarks.workload import Entry, Setting
from mmpoolformer import create_model
from mmpoolformer.zoo.archs import ARCHS, Arch

SMALL = Setting('small', (1, 33, 65), seconds=0.01, rounds=2, memory=False)
MACHINE = cache(command_line.get_env_info)  # It takes seconds.
OURS = [Entry('ours', 'reference'), Entry('ours', 'torch')]


@pytest.fixture(autouse=True)
def small_models(monkeypatch):
    for family in ('poolformer', 'caformer'):
        monkeypatch.setitem(ARCHS, f'{family}_tiny', Arch((1, 1, 1, 1), (16, 24, 32, 64)))


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Run a command with the shortest of times: ``command(backbones, '--shapes', '1x33x65')``."""
    monkeypatch.setattr(command_line, 'get_env_info', MACHINE)
    for variable in ('TORCHINDUCTOR_CACHE_DIR', 'LOCAL_RANK'):
        monkeypatch.setenv(variable, '0')
    monkeypatch.chdir(tmp_path)

    def run(module, *arguments):
        brief = ('--no-memory', '--seconds', '0.02', '--rounds', '2', '--out', 'report')
        monkeypatch.setattr(sys, 'argv', [module.__name__, *map(str, arguments), *brief])
        monkeypatch.setattr(sys, 'orig_argv', ['python', '-m', *sys.argv])
        module.main()
        assert (tmp_path / 'report/benchmark.png').read_bytes()[:4] == b'\x89PNG'
        return json.loads((tmp_path / 'report/benchmark.json').read_text())

    return run


@pytest.mark.parametrize('mode', ['inference', 'training'])
@pytest.mark.parametrize('source', ['timm', 'mmpretrain', 'transformers'])
def test_every_package_gives_the_same(source, mode):
    pytest.importorskip(source)
    model = 'poolformer_s12' if source == 'timm' else 'poolformer_tiny'  # timm has no other sizes.
    entries = [*OURS, Entry(source)]
    table = measure(partial(backbones.build, model), entries, SMALL._replace(mode=mode))
    assert [row['entry'] for row in table['rows']] == [entry.name for entry in entries]
    assert all(row['error'] < 1e-5 for row in table['rows'])


def test_no_result_if_an_entry_computes_something_else():
    def build(entry, setting):
        workload = backbones.build('poolformer_tiny', OURS[0], setting)
        if entry.source == 'timm':
            workload.module.stages[2].blocks[0].mlp.fc1.weight.data.mul_(1.01)
        return workload

    with pytest.raises(DisagreementError, match=r'timm does not agree.*map 2 is off by'):
        measure(build, [*OURS, Entry('timm')], SMALL)


def test_what_does_not_run_is_left_out():
    build = partial(backbones.build, 'poolformer_tiny')  # timm does not have it.
    table = measure(build, [OURS[0], Entry('timm')], SMALL)
    assert [row['entry'] for row in table['rows']] == ['ours reference']
    assert table['notes'][0].startswith('timm is left out: ')


def test_the_limit_counts_attention():
    with torch.device('meta'), torch.no_grad(), FlopCounterMode(display=False) as counter:
        create_model('caformer_tiny')(torch.empty(1, 3, 33, 65))
    table = measure(partial(backbones.build, 'caformer_tiny'), OURS, SMALL)
    assert table['limit']['macs'] == counter.get_total_flops() // 2


def test_gradients_are_compared_too():
    right = {'map 0': torch.ones(3), 'gradient of stem': torch.ones(4)}
    allowed = tolerances(right, right, 'float32')
    assert check('x', right, right, allowed) == 0
    for wrong, message in (
        ({**right, 'gradient of stem': torch.tensor([1.0, 1.0, 1.0, 1.1])}, 'gradient of stem is'),
        ({**right, 'map 0': torch.full((3,), torch.nan)}, 'map 0 is off by nan'),
        ({**right, 'map 0': torch.ones(2)}, 'has the shape'),
        ({'map 0': torch.ones(3)}, 'only one of them has a gradient of stem'),
    ):
        with pytest.raises(DisagreementError, match=message):
            check('x', wrong, right, allowed)


def test_half_precision_is_measured_by_plain_pytorch():
    exact = {'map 0': torch.tensor([1.0, 2.0])}
    plain = {'map 0': torch.tensor([1.0, 2.02])}
    allowed = tolerances(plain, exact, 'bfloat16')
    assert allowed['map 0'] == pytest.approx(4 * 2**-7)  # Four steps: more than thrice 0.009.
    assert tolerances({'map 0': torch.tensor([1.0, 2.2])}, exact, 'bfloat16')['map 0'] > 0.25


def test_turns_go_there_and_back():
    order = []
    functions = {name: lambda name=name: order.append(name) for name in 'abc'}
    timed = interleave(functions, seconds=0.0, rounds=2)
    turns = [name for i, name in enumerate(order) if i == 0 or order[i - 1] != name]
    assert turns == ['a', 'b', 'c', 'b', 'a']
    assert [len(measured.times) for measured in timed] == [2, 2, 2]


def test_ratios():
    columns = dict(source=['ours', 'timm', 'mmpretrain', 'timm'], compiled=[False] * 3 + [True])
    columns |= dict(first_s=[1, 1, 1, 5.045], p50=[30, 60, 90, 45], peak_mib=[30, 60, 50, 10])
    ours, *_, compiled = add_ratios(pd.DataFrame(columns), batch=3, limit=20).to_dict('records')
    expected = dict(images_per_s=100, x_eager=2, x_compiled=1.5, x_memory=0.6, of_limit=2 / 3)
    assert {key: ours[key] for key in expected} == pytest.approx(expected)
    assert compiled['compile_s'] == pytest.approx(5)


@pytest.mark.slow
def test_the_peak_of_a_fresh_process(warm_server):
    build = partial(backbones.build, 'poolformer_s12')
    workload = build(OURS[1], SMALL)
    peak = peak_mib(workload, build)
    assert peak is None or workload.nbytes < peak * 2**20 < 4 * workload.nbytes


@pytest.mark.parametrize('text', ['8x224', '0x224x224', '1x224x31', 'ax2x3', '1x64x64x3'])
def test_bad_shapes_are_refused(text):
    with pytest.raises(Exception, match=text):
        command_line.parse_shape(text)


def test_what_cannot_be_measured_is_refused(command):
    with pytest.raises(SystemExit, match='gpu cannot be used'):
        command(backbones, '--device', 'gpu')
    with pytest.raises(SystemExit, match='no entry has them in its name'):
        command(backbones, '--entries', 'them')


def test_backbones_command(command, capsys):
    model = ('--models', 'poolformer_tiny', '--dtypes', 'float32', 'bfloat16')
    report = command(backbones, '--shapes', '1x33x65', '--entries', 'ours', 'mmpretrain', *model)
    printed = capsys.readouterr().out
    assert '| ours reference channels-last' in printed
    assert 'Limit: ' in printed
    assert [t['mode'] for t in report['tables']] == ['inference'] * 2 + ['training'] * 2
    assert 'torch' in report['machine']['versions']
    assert '--shapes 1x33x65' in report['machine']['command']
    for table in report['tables']:
        rows = {row['entry']: row for row in table['rows']}
        assert len(rows['ours auto']['milliseconds']) >= 2
        assert rows['mmpretrain']['x_eager'] == 1


@pytest.mark.parametrize('task', ['detection', 'segmentation', 'classification'])
def test_detectors_command(command, tiny, task):
    report = command(detectors, tiny(task), '--shapes', '2x64x64')
    assert [t['mode'] for t in report['tables']] == ['inference', 'training']
    names = [row['entry'] for row in report['tables'][1]['rows']]
    assert names == ['ours auto', 'ours reference', 'mmpretrain']
