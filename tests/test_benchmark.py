"""The benchmark: what it refuses to compare, how it takes turns, and what it writes."""

import json
from dataclasses import dataclass, replace

import pytest
import torch

from benchmarks import Candidate, DisagreementError, Plan, Setting, run
from benchmarks.backbones import Backbone
from benchmarks.checks import check, tolerances
from benchmarks.limit import Limit, Rate
from benchmarks.report import rows
from benchmarks.runner import Entry, Result
from benchmarks.settings import parse_device, parse_shape
from benchmarks.timing import interleave

SMALL = Setting('poolformer_s12', (1, 33, 65))
BRIEF = Plan(seconds=0.01, rounds=2, memory=False)
OURS = [Candidate('ours', 'reference'), Candidate('ours', 'torch')]
ARGUMENTS = ('--seconds', 0.02, '--rounds', 2, '--out', 'report')


@dataclass(frozen=True)
class Spoilt(Backbone):
    """Gives one entry another weight."""

    spoilt: str = ''
    parameter: str = ''

    def build(self, candidate, setting):
        workload = super().build(candidate, setting)
        if candidate.name == self.spoilt:
            with torch.no_grad():
                workload.module.get_parameter(self.parameter).mul_(1.01)
        return workload


@pytest.mark.parametrize('mode', ['inference', 'training'])
@pytest.mark.parametrize('source', ['timm', 'mmpretrain', 'transformers'])
def test_every_package_gives_the_same(source, mode):
    pytest.importorskip(source)
    setting = replace(SMALL, mode=mode)
    result = run(Backbone('poolformer_s12'), [*OURS, Candidate(source)], setting, BRIEF)
    assert len(result.entries) == 3
    assert all(entry.error < 1e-5 for entry in result.entries)


def test_no_result_if_an_entry_computes_something_else():
    pytest.importorskip('timm')
    subject = Spoilt('poolformer_s12', 'timm', 'stages_2.blocks.3.mlp.fc1.weight')
    with pytest.raises(DisagreementError, match=r'timm does not agree.*map 2 is off by'):
        run(subject, [*OURS, Candidate('timm')], SMALL, BRIEF)


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
    times = interleave(functions, seconds=0.0, rounds=2)
    turns = [name for i, name in enumerate(order) if i == 0 or order[i - 1] != name]
    assert turns == ['a', 'b', 'c', 'b', 'a']
    assert all(len(values) == 2 for values in times.values())


def test_ratios():
    limit = Limit(macs=10**9, rates=(Rate('mm', (1, 1, 1), 1e11), Rate('slow', (1, 1, 1), 1e10)))
    entries = [
        Entry(Candidate('ours', 'torch'), 0.0, 0.0, [0.025, 0.03, 0.2], memory=30),
        Entry(Candidate('timm'), 0.0, 0.0, [0.06], memory=60),
        Entry(Candidate('mmpretrain'), 0.0, 0.0, [0.09], memory=50),
        Entry(Candidate('timm', compiled=True), 0.0, 5.045, [0.045], memory=10),
    ]
    row, *_, compiled = rows(Result(replace(SMALL, shape=(3, 64, 64)), entries, limit, []))
    assert row['p50'] == pytest.approx(30)
    assert row['images_per_second'] == pytest.approx(100)
    assert row['speed_to_best_eager_peer'] == pytest.approx(2)
    assert row['speed_to_best_compiled_peer'] == pytest.approx(1.5)
    assert row['memory_to_leanest_eager_peer'] == pytest.approx(0.6)
    assert row['share_of_limit'] == pytest.approx(0.02 / 0.03)
    assert compiled['compile_seconds'] == pytest.approx(5)


@pytest.mark.parametrize('text', ['8x224', '0x224x224', '1x224x31', 'ax2x3', '1x64x64x3'])
def test_bad_shapes_are_refused(text):
    with pytest.raises(Exception, match=text):
        parse_shape(text)


def test_bad_devices_are_refused():
    with pytest.raises(Exception, match='gpu'):
        parse_device('gpu')


def test_backbone_tool(forked, tmp_path):
    finished = forked(
        *('benchmark_backbone', '--shapes', '1x33x65', '--dtypes', 'float32', 'bfloat16'),
        *('--entries', 'ours', 'timm', *ARGUMENTS),
    )
    assert finished.code == 0, finished.text
    assert 'ours auto' in finished.out and 'Limit: ' in finished.out
    report = json.loads((tmp_path / 'report/benchmark.json').read_text())
    assert [t['mode'] for t in report['tables']] == ['inference'] * 2 + ['training'] * 2
    assert 'torch' in report['machine']['versions']
    assert '--shapes 1x33x65' in report['machine']['command']
    for table in report['tables']:
        ours = {row['fused']: row for row in table['rows'] if row['source'] == 'ours'}
        assert ours['auto']['peak_mib'] > 0 or ours['auto']['peak_mib'] is None
        assert len(ours['auto']['milliseconds']) == ours['auto']['iterations'] >= 2
    assert (tmp_path / 'report/benchmark.png').read_bytes()[:4] == b'\x89PNG'


def test_model_tool(forked, tmp_path, tiny):
    finished = forked(
        *('benchmark_model', tiny('detection'), '--shapes', '2x64x64', '--no-memory', *ARGUMENTS)
    )
    assert finished.code == 0, finished.text
    report = json.loads((tmp_path / 'report/benchmark.json').read_text())
    assert [t['mode'] for t in report['tables']] == ['inference', 'training']
    sources = {row['source'] for row in report['tables'][1]['rows']}
    assert 'ours' in sources


def test_unknown_entries_are_refused(forked):
    finished = forked('benchmark_backbone', '--shapes', '1x32x32', '--entries', 'them', *ARGUMENTS)
    assert finished.code == 1
    assert 'no entry has them in its name' in finished.err
