"""tools/visualize.py: every kind of picture for every task, and the mistakes users make."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from patches import CORNERS, patch_in, save_model, save_patch_classifier
from PIL import Image
from processes import run_tool

META = dict(dataset_meta=dict(classes=['cat', 'dog', 'crane, bird', 'crane, machine', 'e', 'f']))
EVERYTHING = ('--score-thr', '0')


@pytest.fixture
def trained(tiny, tmp_path):
    """Write config and checkpoint of a tiny random model: ``trained('segmentation')``."""

    def write(task='detection', extra=''):
        config = tiny(task, extra)
        return config, save_model(Config.fromfile(config), tmp_path / 'model.pth')

    return write


@pytest.fixture
def classifier(tiny, tmp_path):
    """Config, checkpoint and an image of a classifier that looks for its patch."""

    def write(corner='bottom right'):
        config = tiny('classification')
        save_patch_classifier(Config.fromfile(config), tmp_path / 'patch.pth', corner, META)
        return config, tmp_path / 'patch.pth', tmp_path / 'patch.png'

    return write


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert('RGB')).astype(int)


def panels(path):
    """The pixels of an image that is nearly square, and of what is drawn beside it."""
    picture = pixels(path)
    half = picture.shape[1] // 2
    # Without the titles above.
    return picture[60:, :half], picture[60:, -half:]


def refused(run, *parts):
    """Assert that a run ended with a message that contains ``parts``, and no traceback."""
    assert run.code in (1, 2), run.text[-3000:]
    assert 'Traceback' not in run.text
    said = ' '.join(run.err.split())
    for part in parts:
        assert part in said, f'{part!r} is not in:\n{run.err[-3000:]}'


@pytest.mark.parametrize('task', ['detection', 'segmentation'])
@pytest.mark.parametrize('kind', ['features', 'predictions'])
def test_dense_models(forked, trained, tmp_path, task, kind):
    extra = 'model["test_cfg"] = dict(score_thr=0.0)\n' if task == 'detection' else ''
    patch_in('top left', (61, 70)).save(tmp_path / 'scene.png')
    # `auto` draws predictions.
    chosen = ('--kind', kind) if kind == 'features' else ()
    run = forked('visualize', *trained(task, extra), 'scene.png', *chosen, *EVERYTHING)
    assert run.code == 0, run.text[-3000:]
    picture = f'work_dirs/visualize/tiny/scene.png.{kind}.png'  # named after config and image
    assert run.out.splitlines()[-1] == picture
    left, right = panels(tmp_path / picture)
    assert (left == (250, 40, 160)).all(axis=-1).any(), 'the image is not shown'
    assert (np.abs(left - right).max(axis=-1) > 20).mean() > 0.02


@pytest.mark.parametrize('corner', ['top left', 'bottom right'])
def test_heat_lies_over_the_patch(forked, classifier, tmp_path, corner):
    run = forked('visualize', *classifier(corner), '--out', 'out')
    assert run.code == 0, run.text[-3000:]
    left, right = panels(tmp_path / 'out/patch.png.cam.png')
    assert (left == (250, 40, 160)).all(axis=-1).any(), 'the image is not shown'
    # In the colour map the hottest is the reddest; the image itself is the same on the left.
    redness = (right - left)[..., 0] - (right - left)[..., 2]
    y, x = np.unravel_index(redness.argmax(), redness.shape)
    assert (int(y > redness.shape[0] / 2), int(x > redness.shape[1] / 2)) == CORNERS[corner]


def test_target_class_by_name_or_index(forked, classifier, tmp_path):
    files = classifier()
    pictures = {}
    for wanted in ('dog', '1', 'bird', '2'):
        run = forked('visualize', *files, '--out', wanted, '--target-class', wanted)
        assert run.code == 0, run.text[-3000:]
        pictures[wanted] = pixels(tmp_path / wanted / 'patch.png.cam.png')
    assert np.array_equal(pictures['dog'], pictures['1'])
    assert np.array_equal(pictures['bird'], pictures['2'])
    assert not np.array_equal(pictures['1'], pictures['2'])
    for wanted in ('cow', '6'):
        run = forked('visualize', *files, '--target-class', wanted)
        refused(run, f'{wanted} is no class', "'cat', 'dog', 'crane, bird'", 'index from 0 to 5')
    run = forked('visualize', *files, '--target-class', 'crane')
    refused(run, 'crane is the name of classes 2, 3: give the index')


@pytest.mark.parametrize('kind', ['features', 'predictions'])
def test_other_pictures_of_a_classifier(forked, classifier, tmp_path, kind):
    run = forked('visualize', *classifier(), '--kind', kind, '--out', 'out')
    assert run.code == 0, run.text[-3000:]
    picture = pixels(tmp_path / f'out/patch.png.{kind}.png')
    assert (picture == (250, 40, 160)).all(axis=-1).any()
    shown = {'features': (253, 231, 36), 'predictions': (31, 119, 180)}[kind]  # map, bar
    assert (np.abs(picture - shown) <= 1).all(axis=-1).any()


@pytest.mark.smoke
def test_folder_of_odd_images(forked, classifier, tmp_path):
    """All are drawn, none is written over, and the one that is broken is named."""
    config, checkpoint, _ = classifier()
    folder = tmp_path / 'images'
    for name, mode in {'a/same.png': 'RGB', 'b/same.png': 'RGBA', 'b/same.jpg': 'L'}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        patch_in('top left', (33, 65)).convert(mode).save(folder / name)
    patch_in('top left', (200, 40)).save(folder / 'UPPER.WEBP')
    patch_in('top left').save(folder / 'x.bmp')
    (folder / 'broken.png').write_bytes((folder / 'a/same.png').read_bytes()[:60])
    (folder / 'notes.txt').write_text('no image')
    before = {path: path.read_bytes() for path in folder.rglob('*.*')}
    arguments = ('visualize', config, checkpoint, folder, '--out', folder / 'drawn')
    # The second time there are pictures in the folder, which are no input.
    for run in (run_tool(*arguments, cwd=tmp_path), forked(*arguments)):
        refused(run, f'1 image of 6 skipped: {folder}/broken.png: ')
        names = ['UPPER.WEBP', 'a/same.png', 'b/same.jpg', 'b/same.png', 'x.bmp']
        pictures = [folder / f'drawn/{name}.cam.png' for name in names]
        assert run.out.splitlines()[-5:] == [str(path) for path in pictures]
        assert '6/6' in run.err
        assert all(pixels(path).std() > 10 for path in pictures)
        assert sorted((folder / 'drawn').rglob('*.png')) == pictures
    assert all(path.read_bytes() == content for path, content in before.items())


def test_images_that_are_not_there(forked, trained, tmp_path):
    model = trained()
    (tmp_path / 'empty/below').mkdir(parents=True)
    (tmp_path / 'text.png').write_text('no image')
    refused(forked('visualize', *model, 'no.png'), 'no.png does not exist', 'name an image')
    refused(forked('visualize', *model, 'empty'), 'empty holds no images (.bmp, .jpeg')
    refused(forked('visualize', *model, 'text.png'), '1 image of 1 skipped: text.png: its content')


def test_images_are_never_overwritten(forked, trained, tmp_path):
    model = trained('segmentation')
    (tmp_path / 'in').mkdir()
    patch_in('top left').save(tmp_path / 'in/a.png')
    assert forked('visualize', *model, 'in', '--out', 'in').code == 0
    before = {path: path.read_bytes() for path in (tmp_path / 'in').iterdir()}
    assert len(before) == 2
    refused(forked('visualize', *model, 'in', '--out', 'in'), '--out in would overwrite in/a.png')
    assert {path: path.read_bytes() for path in (tmp_path / 'in').iterdir()} == before
    (tmp_path / 'file').write_text('mine')
    refused(forked('visualize', *model, 'in/a.png', '--out', 'file'), 'cannot be written')


@pytest.mark.parametrize(
    ('options', 'parts'),
    [
        (['--kind', 'cam'], ['needs a classifier', 'tiny.py is none', 'predictions']),
        (['--target-class', 'cat'], ['--target-class is for --kind cam; this is predictions']),
        (['--device', 'tpu9'], ['--device tpu9 cannot be used', 'Give cpu']),
        (['--device', 'cuda'], ['--device cuda cannot be used', 'Give cpu']),
        (['--cfg-options', 'x'], ["'x' is not KEY=VALUE"]),
    ],
)
def test_options_that_do_not_fit(forked, trained, shapes, options, parts):
    refused(forked('visualize', *trained(), shapes / 'coco/val', *options), *parts)


def test_checkpoints_that_do_not_fit(forked, trained, classifier, shapes, tmp_path):
    classifier()
    config, _ = trained()
    torch.save(dict(state_dict=dict(w=torch.zeros(1)), meta=tmp_path), tmp_path / 'objects.pth')
    reasons = {
        'no.pth': 'does not exist',
        'tiny.py': 'no checkpoint',
        'patch.pth': 'does not fit this config',
        'objects.pth': 'holds more than tensors and plain data',
    }
    for name, reason in reasons.items():
        refused(forked('visualize', config, name, shapes / 'coco/val'), name, reason)
    run = forked('visualize', config, 'objects.pth', shapes / 'coco/val', '--trust-checkpoint')
    refused(run, 'does not fit this config')
    refused(forked('visualize', 'no.py', 'a.pth', 'b.png'), 'no.py does not exist')


def test_missing_library_is_named(forked, classifier, tmp_path):
    (tmp_path / 'site/pytorch_grad_cam').mkdir(parents=True)
    code = 'raise ModuleNotFoundError("No module named \'pytorch_grad_cam\'")'
    (tmp_path / 'site/pytorch_grad_cam/__init__.py').write_text(code)
    files, env = classifier(), {'PYTHONPATH': str(tmp_path / 'site')}
    refused(forked('visualize', *files, env=env), 'needs the library grad-cam', 'pip install grad-')
    assert forked('visualize', *files, '--kind', 'predictions', env=env).code == 0
