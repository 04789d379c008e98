"""Counts of parameters and multiply-accumulates against fvcore, literature and the tables."""

import runpy
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from processes import ROOT

from mmpoolformer.zoo.complexity import measure

# Defaults of mmseg, which its own configs use, too.
pytestmark = [
    pytest.mark.filterwarnings('ignore:Default ``avg_non_ignore``:UserWarning'),
    pytest.mark.filterwarnings('ignore:`reduce_zero_label` will be deprecated:UserWarning'),
]
LEAVES = {path.stem: path for path in sorted(ROOT.glob('configs/*/**/*.py'))}
NORMS = {'batch_norm', 'group_norm', 'layer_norm', 'adaptive_avg_pool2d'}


def attention_macs(inputs: list, outputs: list) -> int:
    """The two products of attention, of which fvcore knows nothing."""
    queries, keys, values = (value.type().sizes() for value in inputs[:3])
    batch, heads, tokens, width = queries
    return batch * heads * tokens * keys[2] * (width + values[3])


@pytest.mark.parametrize(
    'name',
    [
        'poolformer_s12_in1k',
        'poolformer_s12_random_in1k',
        'poolformer_s12_ppff_in1k',
        'poolformer_s12_ppaa_in1k',
        'randformer_s12_in1k',
        'convformer_s18_in1k',
        'caformer_s18_in1k',
    ],
)
def test_multiply_accumulates_are_those_of_fvcore(name):
    fvcore = pytest.importorskip('fvcore.nn')
    cfg = Config.fromfile(LEAVES[name])
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model).eval()
    counter = fvcore.FlopCountAnalysis(model, torch.zeros(1, 3, 224, 224))
    counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    counter.set_op_handle('aten::scaled_dot_product_attention', attention_macs)
    by_operator = counter.by_operator()
    assert {'conv', 'linear'} <= by_operator.keys()
    expected = sum(count for kind, count in by_operator.items() if kind not in NORMS)
    counted = measure(cfg)
    assert counted.macs == expected
    assert sum(by_operator.values()) < 1.008 * expected
    assert counted.params == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(('name', 'gmacs'), [('retinanet_r50_1x', 239), ('mask_rcnn_r50_1x', 260)])
def test_detectors_are_counted_as_in_the_literature(name, gmacs):
    """ResNet-50 at 800x1280: 239 in the documentation of mmdetection, 260 in arXiv 2107.00652."""
    assert measure(Config.fromfile(LEAVES[name])).macs / 1e9 == pytest.approx(gmacs, abs=1)


@pytest.fixture
def model_table(monkeypatch):
    """Run the tool in this process, which has imported everything."""
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(ROOT / 'tools/maintenance')

    def call(*arguments):
        monkeypatch.setattr(sys, 'argv', ['model_table.py', *arguments])
        runpy.run_path('tools/maintenance/model_table.py', run_name='__main__')

    return call


@pytest.mark.exhaustive
def test_tables_agree_with_the_code(model_table):
    model_table('--check')


def test_one_config_is_counted(model_table, capsys):
    model_table('configs/classification/poolformer_s12_in1k.py', '--shape', '32', '64')
    last = capsys.readouterr().out.splitlines()[-1]
    name, params, trainable, macs = last.strip('| ').split(' | ')
    assert (name, params, trainable) == ('poolformer_s12_in1k', '11915176', '11915176')
    assert int(macs) == pytest.approx(1.812e9 * (32 * 64) / 224**2, rel=0.02)
