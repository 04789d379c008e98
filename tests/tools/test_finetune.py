"""From a folder to a trained model in one command, with models of a few thousand parameters."""

import shlex
import stat
import subprocess
import sys

import pytest
from exporters import write_class_folders, write_masks, write_voc, write_yolo
from mmengine.config import Config
from processes import ROOT

from mmpoolformer.engine.results import load_pictures

ARCH = 'model.backbone.arch'
BACKBONE = [f'{ARCH}._delete_=True', f'{ARCH}.depths=(1,1,1,1)', f'{ARCH}.dims=(16,24,32,48)']
NECK = ['model.neck.in_channels=[16,24,32,48]', 'model.neck.out_channels=32']
ROI = 'model.roi_head'
SMALL = {
    'retinanet': [
        *BACKBONE,
        'model.neck.in_channels=[24,32,48]',
        'model.neck.out_channels=64',
        'model.bbox_head.in_channels=64',
        'model.bbox_head.feat_channels=64',
    ],
    'mask_rcnn': [
        *BACKBONE,
        *NECK,
        'model.rpn_head.in_channels=32',
        'model.rpn_head.feat_channels=32',
        f'{ROI}.bbox_roi_extractor.out_channels=32',
        f'{ROI}.bbox_head.in_channels=32',
        f'{ROI}.bbox_head.fc_out_channels=32',
        f'{ROI}.mask_roi_extractor.out_channels=32',
        f'{ROI}.mask_head.in_channels=32',
        f'{ROI}.mask_head.conv_out_channels=32',
        'model.train_cfg.rpn_proposal.max_per_img=50',
        'model.test_cfg.rpn.max_per_img=50',
    ],
    'fpn': [*BACKBONE, *NECK, 'model.decode_head.in_channels=[32,32,32,32]'],
    'classifier': [*BACKBONE, 'model.head.in_channels=48'],
}
QUICK = ['--weights', 'none', '--epochs', 1, '--image-size', 64]


def writing_outlines(shapes, target):
    return write_yolo(shapes, target, polygons=True)


@pytest.mark.slow
def test_from_a_folder_to_pictures_and_commands(forked, shapes, tmp_path):
    """All of it, from a folder that nobody may write to, with a space in its name."""
    data = write_class_folders(shapes, tmp_path / 'my photos')
    before = sorted(data.rglob('*'))
    data.chmod(stat.S_IREAD | stat.S_IEXEC)
    result = forked('finetune', data, *QUICK, '--cfg-options', *SMALL['classifier'])
    assert result.code == 0, result.text[-3000:]
    assert sorted(data.rglob('*')) == before
    out = tmp_path / 'work_dirs/poolformer_s12_my_photos'
    for name in ('predictions.png', 'curves.png', 'annotations/split.json'):
        assert (out / name).stat().st_size > 100
    assert 'pictures of val: top-1 accuracy 0.' in result.out
    commands = [shlex.split(line) for line in result.out.split('Next:\n')[1].splitlines()]
    names = [command[1].split('/')[-1] for command in commands]
    assert names == ['visualize.py', 'test.py', 'train.py']
    assert all((ROOT / 'tools' / name).is_file() for name in names)
    assert all((tmp_path / word).is_file() for word in commands[1][2:])


@pytest.mark.slow
@pytest.mark.parametrize(
    ('write', 'method', 'held'),
    [
        (write_yolo, 'retinanet', 'boxes'),
        (writing_outlines, 'mask_rcnn', 'masks'),
        (write_masks, 'fpn', 'label_map'),
    ],
)
def test_the_config_trains_and_is_tested_as_it_is(
    forked, shapes, tmp_path, monkeypatch, write, method, held
):
    monkeypatch.chdir(tmp_path)
    data = write(shapes, tmp_path / 'data')
    result = forked('finetune', data, *QUICK, '--dry-run', '--work-dir', 'out')
    assert result.code == 0, result.text
    config = tmp_path / f'out/{method}_poolformer_s12_data.py'
    assert is_formatted(config)
    small = ['--cfg-options', *SMALL[method]]
    result = forked('train', config, '--work-dir', 'out', *small)
    assert result.code == 0, result.text[-3000:]
    checkpoint = (tmp_path / 'out/last_checkpoint').read_text()
    result = forked('test', config, checkpoint, '--out', 'out/found.pkl', *small)
    assert result.code == 0, result.text[-3000:]
    images, truths, predictions = load_pictures(
        Config.fromfile(config), tmp_path / 'out/found.pkl', count=2
    )
    assert len(images) == len(truths) == len(predictions) == 2
    assert all(len(getattr(scene, held)) for scene in truths)


def is_formatted(config) -> bool:
    command = [sys.executable, '-m', 'ruff', 'format', '--check', '--quiet', str(config)]
    return subprocess.run([*command, '--config', str(ROOT / 'pyproject.toml')]).returncode == 0


def test_a_config_that_was_changed_by_hand_is_left_alone(forked, shapes, tmp_path):
    data = write_voc(shapes, tmp_path / 'data')
    command = [data, '--dry-run', '--work-dir', 'out']
    assert forked('finetune', *command).code == 0
    assert forked('finetune', *command).code == 0
    config = tmp_path / 'out/retinanet_poolformer_s12_data.py'
    config.write_text(config.read_text() + '# mine\n')
    result = forked('finetune', *command)
    assert result.code == 1
    assert 'choose another --name' in result.err
    assert config.read_text().endswith('# mine\n')


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (['nowhere'], 'nowhere does not exist'),
        (['data', '--method', 'fpn'], 'Choose --method retinanet'),
        (['data', '--model', 'randformer_s12'], '224 x 224'),
        (['data', '--model', 'resnet50'], 'invalid choice'),
        (['data', '--epochs', '0'], 'no whole number above 0'),
        (['data', '--val-fraction', '2'], 'between 0 and 1'),
        (['data', '--name', 'retinanet_poolformer_s12_1x'], 'shipped config'),
        (['data', '--work-dir', 'data/runs'], 'choose another --work-dir'),
        (['data', '--weights', 'mine.pth'], 'mine.pth'),
        (['data'], '--weights none'),
    ],
)
def test_bad_input_gets_one_message(forked, shapes, tmp_path, options, said):
    write_voc(shapes, tmp_path / 'data')
    no_network = dict(TORCH_HOME=str(tmp_path), https_proxy='http://127.0.0.1:9')
    result = forked('finetune', *options, env=no_network)
    assert result.code in (1, 2)
    assert said in result.err
    assert 'Traceback' not in result.text
