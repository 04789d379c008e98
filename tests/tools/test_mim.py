"""mim finds the configs, tools and model index of this package from any directory."""

import http.server
import json
import re
import runpy
import shutil
import sys
import threading
from functools import partial
from importlib.metadata import distributions
from pathlib import Path

import pytest
import yaml
from processes import ROOT, run

from mmpoolformer import ARCHS
from mmpoolformer.published import RESULTS


def is_installed(name: str) -> bool:
    return any(found.metadata['Name'] == name for found in distributions())


MIM = shutil.which('mim', path=str(Path(sys.executable).parent))
needs_mim = pytest.mark.skipif(MIM is None, reason='mim is not installed')
# onedl-mim knows mmdetection by no shorter name, openmim by no longer one.
MMDET = 'mmdetection' if is_installed('onedl-mmdetection') else 'mmdet'
CONFIG = 'retinanet_poolformer_s12_shapes.py'
SEGMENTER = 'fpn_poolformer_s12_shapes.py'
ANY_SCORE = ('--cfg-options', 'model.test_cfg.score_thr=0')
SHORT = ('--cfg-options', 'train_cfg.max_epochs=1', 'default_hooks.logger.interval=1')


def test_model_index_is_written_from_the_tables():
    files = runpy.run_path(str(ROOT / 'tools/make_metafiles.py'))['files']
    for path, text in files().items():
        assert (ROOT / path).read_text() == text, f'{path}: run python tools/make_metafiles.py'


def test_model_index_holds_every_published_number():
    models = {}
    for path in yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']:
        models |= {m['Name']: m for m in yaml.safe_load((ROOT / path).read_text())['Models']}
    for name, result in RESULTS.items():
        entry = models[name]
        assert (ROOT / entry['Config']).is_file()
        assert entry['Metadata']['Parameters'] == result.params
        assert [r['Metrics'] for r in entry['Results']] == [
            {k: v} for k, v in result.metrics.items()
        ]
    released = [f'{n}.{t}' for n, a in ARCHS.items() for t, w in a.weights.items() if w.top1]
    assert set(models) == set(RESULTS) | set(released)
    assert models['caformer_b36.in21k_ft_in1k_384']['Results'][0]['Metrics'] == {
        'Top 1 Accuracy': 88.1
    }


@pytest.fixture
def elsewhere(tmp_path, shapes):
    """A folder with nothing in it but the data."""
    folder = tmp_path / 'elsewhere'
    (folder / 'data').mkdir(parents=True)
    (folder / 'data/shapes').symlink_to(shapes)
    return folder


@pytest.fixture
def mim(tmp_path, elsewhere):
    """Run mim with this package installed afresh, both as a wheel and as a clone install it.

    openmim looks into the package, onedl-mim into the clone, all of it: what training left in
    this one would disturb it.
    """
    clone, site = tmp_path / 'clone', tmp_path / 'site'
    ignore = shutil.ignore_patterns('__pycache__', '.mim')
    for folder in ('configs', 'tools', 'mmpoolformer'):
        shutil.copytree(ROOT / folder, clone / folder, ignore=ignore)
    shutil.copy(ROOT / 'model-index.yml', clone)
    shutil.copytree(clone / 'mmpoolformer', site / 'mmpoolformer')
    for name in ('configs', 'tools', 'model-index.yml'):
        (site / 'mmpoolformer/.mim').mkdir(exist_ok=True)
        (site / 'mmpoolformer/.mim' / name).symlink_to(clone / name)
    info = site / 'mmpoolformer-0.1.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: mmpoolformer\nVersion: 0.1.0\n')
    editable = {'url': clone.as_uri(), 'dir_info': {'editable': True}}
    (info / 'direct_url.json').write_text(json.dumps(editable))

    def call(*arguments):
        result = run([MIM, *arguments], elsewhere, timeout=300, PYTHONPATH=str(site))
        assert result.code == 0, result.text[-3000:]
        return result.text

    call.clone = clone
    return call


@needs_mim
def test_mim_trains_and_tests_by_name(mim, elsewhere):
    text = mim('train', 'mmpoolformer', CONFIG, *SHORT)
    assert 'we find the config file' in text
    checkpoint = elsewhere / f'work_dirs/{CONFIG[:-3]}/epoch_1.pth'
    assert checkpoint.is_file()
    text = mim('test', 'mmpoolformer', CONFIG, '--checkpoint', checkpoint, *ANY_SCORE)
    assert 'coco/bbox_mAP' in text
    config = mim.clone / 'configs/detection' / CONFIG
    text = mim('test', MMDET, config, '--checkpoint', checkpoint, *ANY_SCORE)
    assert 'coco/bbox_mAP' in text


@needs_mim
def test_mim_trains_with_the_tools_of_mmdet(mim, elsewhere):
    mim('train', MMDET, mim.clone / 'configs/detection' / CONFIG, *SHORT)
    assert (elsewhere / f'work_dirs/{CONFIG[:-3]}/epoch_1.pth').is_file()


@needs_mim
def test_mim_trains_and_tests_with_the_tools_of_mmseg(mim, elsewhere):
    config = mim.clone / 'configs/segmentation' / SEGMENTER
    short = ('train_cfg.max_iters=2', 'default_hooks.checkpoint.interval=2')
    mim('train', 'mmsegmentation', config, '--cfg-options', *short)
    checkpoint = elsewhere / f'work_dirs/{SEGMENTER[:-3]}/iter_2.pth'
    assert 'mIoU' in mim('test', 'mmsegmentation', config, '--checkpoint', checkpoint)


@needs_mim
def test_mim_downloads_weights_and_config(mim, elsewhere):
    (elsewhere / 'served').mkdir()
    (elsewhere / 'served/weights.pth').write_bytes(b'weights')
    handler = partial(SilentHandler, directory=elsewhere / 'served')
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        address = f'http://127.0.0.1:{server.server_port}/weights.pth'
        metafile = mim.clone / 'configs/detection/metafile.yml'
        metafile.write_text(re.sub('Weights: .*', f'Weights: {address}', metafile.read_text()))
        name = 'retinanet_poolformer_s12_1x'
        mim('download', 'mmpoolformer', '--config', name, '--dest', '.')
        server.shutdown()
    assert (elsewhere / 'weights.pth').read_bytes() == b'weights'
    assert 'mmpoolformer.PoolFormer' in (elsewhere / f'{name}.py').read_text()


class SilentHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass
