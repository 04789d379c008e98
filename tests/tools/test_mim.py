"""mim finds the configs, tools and model index of this package from any directory."""

import http.server
import importlib.util
import json
import os
import re
import runpy
import shutil
import sys
import threading
import zipfile
from functools import partial
from importlib.metadata import distributions
from pathlib import Path

import mmcv
import pytest
import yaml
from mmengine.config import Config
from patches import save_model
from processes import ROOT, run

from mmpoolformer import ARCHS, __version__
from mmpoolformer.zoo.paper_results import OTHER_RECIPES, RESULTS


def is_installed(name: str) -> bool:
    return any(found.metadata['Name'] == name for found in distributions())


MIM = shutil.which('mim', path=str(Path(sys.executable).parent))
needs_mim = pytest.mark.skipif(MIM is None, reason='mim is not installed')
ONEDL = is_installed('onedl-mmdetection')
# onedl-mim knows mmdetection by no shorter name, openmim by no longer one.
MMDET = 'mmdetection' if ONEDL else 'mmdet'
CONFIG = 'retinanet_poolformer_s12_shapes.py'
SEGMENTER = 'fpn_poolformer_s12_shapes.py'
ANY_SCORE = ('--cfg-options', 'model.test_cfg.score_thr=0')
SHORT = ('--cfg-options', 'train_cfg.max_epochs=1', 'default_hooks.logger.interval=1')


def test_model_index_is_written_from_the_tables(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'tools/maintenance')
    files = runpy.run_path(str(ROOT / 'tools/maintenance/make_metafiles.py'))['files']
    for path, text in files().items():
        assert (ROOT / path).read_text() == text, (
            f'{path}: run python tools/maintenance/make_metafiles.py'
        )


@pytest.fixture(scope='module')
def indexed():
    """The entries of the model index by name."""
    models = {}
    for path in yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']:
        models |= {m['Name']: m for m in yaml.safe_load((ROOT / path).read_text())['Models']}
    return models


def test_model_index_holds_every_published_number(indexed):
    for name, result in RESULTS.items():
        entry = indexed[name]
        assert (ROOT / entry['Config']).stem == name
        assert entry['Metadata']['Parameters'] == result.params
        assert [r['Metrics'] for r in entry['Results']] == [
            {k: v} for k, v in result.metrics.items()
        ]
    released = [f'{n}.{t}' for n, a in ARCHS.items() for t, w in a.weights.items() if w.top1]
    assert set(indexed) == set(RESULTS) | set(released)
    assert indexed['caformer_b36.in21k_ft_in1k_384']['Results'][0]['Metrics'] == {
        'Top 1 Accuracy': 88.1
    }


def test_model_index_claims_for_a_config_what_its_recipe_reached(indexed):
    assert not set(indexed) & set(OTHER_RECIPES)
    configs = {name: Path(entry.get('Config', '')).stem for name, entry in indexed.items()}
    assert all((ROOT / e['Config']).is_file() for e in indexed.values() if 'Config' in e)
    assert configs['caformer_s18.in1k'] == 'caformer_s18_in1k'
    # Pretraining on ImageNet-21K is no part of that recipe; the config for 384 px only evaluates.
    assert configs['caformer_s18.in21k_ft_in1k'] == ''
    assert configs['caformer_s18.in1k_384'] == 'caformer_s18_384_in1k'
    assert configs['caformer_s18.in21k_ft_in1k_384'] == 'caformer_s18_384_in1k'


@pytest.fixture
def elsewhere(tmp_path, shapes):
    """A folder with nothing in it but the data."""
    folder = tmp_path / 'elsewhere'
    (folder / 'data').mkdir(parents=True)
    (folder / 'data/shapes').symlink_to(shapes)
    return folder


def copy_of_the_clone(folder):
    """onedl-mim searches all of a clone: what training left in this one would disturb it."""
    ignore = shutil.ignore_patterns('__pycache__', '.mim')
    for name in ('configs', 'tools', 'mmpoolformer'):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for name in ('model-index.yml', 'pyproject.toml', 'setup.py'):
        shutil.copy(ROOT / name, folder)
    return folder


def pip(*arguments, cwd):
    result = run([sys.executable, '-m', 'pip', '--no-input', *arguments], cwd)
    assert result.code == 0, result.text[-3000:]


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """The wheel of this package, built without the network."""
    if not importlib.util.find_spec('pip') or not importlib.util.find_spec('setuptools'):
        pytest.skip('pip and setuptools are needed to build a wheel without the network')
    clone = copy_of_the_clone(tmp_path_factory.mktemp('to_build'))
    pip('wheel', '--no-deps', '--no-build-isolation', '--wheel-dir', 'wheels', '.', cwd=clone)
    (path,) = (clone / 'wheels').iterdir()
    return path


def mim_that_sees(folders, cwd, work_dir):
    """Return a function that runs mim in ``cwd``, with this package found in ``folders``."""

    def call(*arguments):
        path = os.pathsep.join(map(str, folders))
        result = run([MIM, *arguments], cwd, timeout=300, PYTHONPATH=path)
        assert result.code == 0, result.text[-3000:]
        return result.text

    call.folders, call.work_dir = folders, work_dir
    return call


@pytest.fixture
def mim_of_clone(tmp_path, elsewhere):
    """mim, with a clone installed as ``pip install --editable`` does it, and work dirs in there."""
    clone = copy_of_the_clone(tmp_path / 'clone')
    info = tmp_path / 'site/mmpoolformer-0.1.0.dist-info'
    info.mkdir(parents=True)
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: mmpoolformer\nVersion: 0.1.0\n')
    editable = {'url': clone.as_uri(), 'dir_info': {'editable': True}}
    (info / 'direct_url.json').write_text(json.dumps(editable))
    return mim_that_sees([clone, info.parent], elsewhere, clone / 'work_dirs/demo_detection')


@pytest.fixture
def mim_of_wheel(tmp_path, elsewhere, wheel):
    """mim, with the wheel installed."""
    site = tmp_path / 'site'
    pip('install', '--no-deps', '--target', site, wheel, cwd=tmp_path)
    return mim_that_sees([site], elsewhere, elsewhere / 'work_dirs/demo_detection')


only_onedl = pytest.mark.skipif(not ONEDL, reason='openmim looks into installed packages only')


@pytest.fixture(params=[pytest.param('clone', marks=only_onedl), 'wheel'])
def mim(request):
    return request.getfixturevalue(f'mim_of_{request.param}')


def test_wheel_holds_the_same_for_each_mim(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    of_openmim, of_onedl_mim = (
        {name.removeprefix(folder) for name in names if name.startswith(folder)}
        for folder in ('mmpoolformer/.mim/', f'mmpoolformer-{__version__}.dist-info/.mim/')
    )
    assert of_openmim == of_onedl_mim
    configs = {str(path.relative_to(ROOT)) for path in ROOT.glob('configs/**/*.*')}
    configs = {name for name in configs if '__pycache__' not in name}
    assert {name for name in of_openmim if name.startswith('configs/')} == configs
    tools = of_openmim - configs - {'model-index.yml'}
    assert {'tools/train.py', 'tools/test.py', 'tools/dist_train.sh'} < tools
    assert not [name for name in tools if re.search('demo|maintenance|make_metafiles|/_', name)]


@needs_mim
@only_onedl
def test_mim_of_a_clone_trains_and_tests_by_name(mim_of_clone):
    mim, work_dir = mim_of_clone, mim_of_clone.work_dir
    text = mim('train', 'mmpoolformer', CONFIG, *SHORT, '--work-dir', work_dir)
    assert 'we find the config file' in text
    options = (
        '--checkpoint',
        work_dir / 'epoch_1.pth',
        *ANY_SCORE,
        '--work-dir',
        work_dir / 'test',
    )
    assert 'coco/bbox_mAP' in mim('test', 'mmpoolformer', CONFIG, *options)
    # Two of one name are one too many for mim: it searches the work dirs in a clone, too.
    assert (work_dir / 'test/config.py').is_file()
    assert not list(work_dir.rglob(CONFIG))


def untrained(config, path):
    """Write a checkpoint of a shipped config: training one here would only take time."""
    cfg = Config.fromfile(ROOT / 'configs' / config)
    cfg.model.backbone.init_cfg = None
    return save_model(cfg, path)


@needs_mim
def test_mim_of_a_wheel_tests_by_name(mim_of_wheel, tmp_path):
    checkpoint = untrained(f'detection/{CONFIG}', tmp_path / 'untrained.pth')
    options = ('--checkpoint', checkpoint, *ANY_SCORE, '--work-dir', mim_of_wheel.work_dir)
    assert 'coco/bbox_mAP' in mim_of_wheel('test', 'mmpoolformer', CONFIG, *options)


@needs_mim
def test_mim_trains_with_the_tools_of_mmdet(mim_of_clone, elsewhere):
    mim_of_clone('train', MMDET, ROOT / 'configs/detection' / CONFIG, *SHORT)
    assert (elsewhere / f'work_dirs/{CONFIG[:-3]}/epoch_1.pth').is_file()


@needs_mim
@pytest.mark.skipif(
    not any(Path(mmcv.__file__).parent.glob('_ext.*')),
    reason="mmdet's tool imports mmcv's operators before ours are there: it needs compiled ones",
)
def test_mim_tests_with_the_tools_of_mmdet(mim_of_clone, elsewhere):
    config = ROOT / 'configs/detection' / CONFIG
    mim_of_clone('train', MMDET, config, *SHORT)
    checkpoint = elsewhere / f'work_dirs/{CONFIG[:-3]}/epoch_1.pth'
    text = mim_of_clone('test', MMDET, config, '--checkpoint', checkpoint, *ANY_SCORE)
    assert 'coco/bbox_mAP' in text


@needs_mim
def test_mim_tests_with_the_tools_of_mmseg(mim_of_clone, tmp_path):
    config = ROOT / 'configs/segmentation' / SEGMENTER
    checkpoint = untrained(f'segmentation/{SEGMENTER}', tmp_path / 'untrained.pth')
    assert 'mIoU' in mim_of_clone('test', 'mmsegmentation', config, '--checkpoint', checkpoint)


@needs_mim
def test_mim_downloads_weights_and_config(mim, elsewhere):
    (elsewhere / 'served').mkdir()
    (elsewhere / 'served/weights.pth').write_bytes(b'weights')
    handler = partial(SilentHandler, directory=elsewhere / 'served')
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        address = f'http://127.0.0.1:{server.server_port}/weights.pth'
        for metafile in (path for f in mim.folders for path in f.rglob('detection/metafile.yml')):
            metafile.write_text(re.sub('Weights: .*', f'Weights: {address}', metafile.read_text()))
        name = 'retinanet_poolformer_s12_1x'
        mim('download', 'mmpoolformer', '--config', name, '--dest', '.')
        server.shutdown()
    assert (elsewhere / 'weights.pth').read_bytes() == b'weights'
    assert 'mmpoolformer.PoolFormer' in (elsewhere / f'{name}.py').read_text()


class SilentHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass
