"""Detection data: missing files, broken annotation files, classes."""

import json
from pathlib import Path

import pytest
from mmengine.config import Config

from mmpoolformer.preflight import check, coco, report

COCO = {
    f'{split}_dataloader': {
        'dataset': {
            'type': 'CocoDataset',
            'data_root': 'data/coco/',
            'ann_file': f'annotations/instances_{split}2017.json',
            'data_prefix': {'img': f'{split}2017/'},
        }
    }
    for split in ('train', 'val')
} | {
    'model': {'bbox_head': {'num_classes': 80}},
    'val_evaluator': {'ann_file': 'data/coco/annotations/instances_val2017.json'},
}


def only(problems):
    """Return what the single problem says, all in one line."""
    assert len(problems) == 1, problems
    return ' '.join(f'{problems[0].what} {problems[0].cure}'.split())


def test_good_data_is_no_problem(detection):
    detection.cfg['test_dataloader'] = detection.cfg['val_dataloader']
    assert check(Config(detection.cfg), splits=('train', 'val', 'test')) == []


def test_missing_coco_is_one_message_with_everything_in_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    problems = check(Config(COCO))
    assert len(problems) == 1
    shown = report(problems, 'configs/a.py').splitlines()
    assert shown[0] == 'configs/a.py cannot run yet:'
    assert shown[2].startswith('  1. COCO is not at data/coco/')
    assert '       data/coco/train2017/' in shown
    assert problems[0].what == (
        f'COCO is not at data/coco/ (seen from {tmp_path}). Missing:\n'
        '  data/coco/annotations/instances_train2017.json\n'
        '  data/coco/annotations/instances_val2017.json\n'
        '  data/coco/train2017/\n'
        '  data/coco/val2017/'
    )
    for words in ('train2017.zip', 'val2017.zip', 'annotations_trainval2017.zip', 'make demo'):
        assert words in problems[0].cure
    assert '  mkdir -p data && ln -s /path/to/your/coco data/coco' in problems[0].cure


def test_incomplete_coco_asks_only_for_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ('train2017', 'val2017', 'annotations'):
        Path('data/coco', folder).mkdir(parents=True)
    Path('data/coco/train2017/a.jpg').touch()
    for split in ('train', 'val'):
        Path(f'data/coco/annotations/instances_{split}2017.json').touch()
    missing = check(COCO)[0]
    assert missing.what == (
        'COCO at data/coco/ is incomplete. Missing:\n  data/coco/val2017/   (there, but empty)'
    )
    assert 'val2017.zip' in missing.cure
    assert 'train2017.zip' not in missing.cure
    assert 'ln -s' not in missing.cure


def test_dangling_link_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('data').mkdir()
    Path('data/coco').symlink_to('/no/such/disk')
    what = check(COCO)[0].what
    assert what.startswith('data/coco is a link to /no/such/disk, which does not exist.')


@pytest.mark.parametrize(
    ('kind', 'root', 'words'),
    [
        ('CocoDataset', 'data/shapes/coco', 'python -m mmpoolformer.datasets.shapes'),
        ('mmseg.ADE20KDataset', 'data/ade/ADEChallengeData2016', 'unpack it in data/ade/:'),
        ('ImageNet', 'data/imagenet', 'https://image-net.org'),
        ('CocoDataset', 'data/mine', 'train_dataloader.dataset.data_root'),
        ('CocoDataset', '~/coco', 'write the full path'),
    ],
)
def test_every_data_set_has_its_way_to_get_it(kind, root, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = {'type': kind, 'data_root': root, 'data_prefix': {'img_path': 'images'}}
    text = only(check({'train_dataloader': {'dataset': dataset}}))
    assert f'{root}/images/' in text
    assert words in text


def test_data_root_option_that_reaches_nothing(detection):
    cfg = json.loads(json.dumps(detection.cfg).replace(str(detection.root), '/gone'))
    text = only(check({'data_root': str(detection.root), **cfg}))
    assert f'train_dataloader.dataset.data_root={detection.root}' in text
    assert f'val_evaluator.ann_file={detection.root}/val.json' in text


def test_wrappers_lists_and_evaluators_are_looked_into(detection):
    inner = detection.cfg['train_dataloader']['dataset']
    lost = inner | {'ann_file': 'lost.json'}
    wrapped = {'type': 'ConcatDataset', 'datasets': [inner, {'dataset': lost}]}
    detection.cfg['train_dataloader']['dataset'] = {'type': 'RepeatDataset', 'dataset': wrapped}
    detection.cfg['val_evaluator'] = [{'type': 'X'}, {'ann_file': f'{detection.root}/gone.json'}]
    text = only(check(detection.cfg))
    assert 'lost.json' in text
    assert 'gone.json' in text
    assert 'train_dataloader.dataset.dataset.datasets.1.dataset.data_root' in text
    assert 'val_evaluator.1.ann_file' in text


@pytest.mark.parametrize(
    'options',
    [
        *({'data_root': root} for root in ('s3://bucket/coco/', 'petrel:s3://x', 'http://a/b')),
        {'backend_args': {'backend': 'petrel'}},
    ],
)
def test_remote_data_are_not_looked_up(options):
    dataset = COCO['train_dataloader']['dataset'] | options
    assert check({'train_dataloader': {'dataset': dataset}}) == []


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (b'', 'is empty (0 bytes)'),
        (b'{"images": [}', 'is not valid json: Expecting value at line 1, column 13'),
        (b'{"images": [1,\n2,\n}]}', 'at line 3, column 1'),
        (b'{"images": [{"id"', 'cut off'),
        (b'<html>404</html>', 'is a web page'),
        (b'\xff\xfe\x00\x80', 'cannot be read as json'),
        (b'[1, 2]', 'and no list of annotations. Found: a list'),
        (b'[' * 100_000, 'recursion'),
        (b'{"metainfo": {}, "data_list": []}', "OpenMMLab's own format"),
        (b'{"images": [], "categories": []}', 'no list of annotations. Found: images, categor'),
        (b'{"images": {}, "annotations": 1, "categories": [1]}', 'list of categories and no list'),
    ],
)
def test_broken_annotation_file(detection, content, words):
    (detection.root / 'train.json').write_bytes(content)
    assert words in only(check(detection.cfg))


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'images': []}, 'lists no images'),
        ({'annotations': []}, 'lists 1 image but no objects'),
        ({'images': [{'id': 1, 'file_name': 'a.jpg', 'width': 3}]}, 'lacks `height`'),
        (
            {'annotations': [{'id': 1}]},
            '1 of 1 objects lack a needed field; number 1 lacks `image_id`',
        ),
        ({'categories': [{'name': 'circle'}, {'name': 'Squares'}]}, "did you mean 'Squares'?"),
    ],
)
def test_unusable_annotations(detection, changes, words):
    detection.write('train', **changes)
    assert words in only(check(detection.cfg))


def test_boxes_alone_do_not_train_masks(detection):
    item = json.loads((detection.root / 'train.json').read_text())['annotations'][0]
    detection.write('train', annotations=[item | {'segmentation': []}])
    assert check(detection.cfg) == []
    detection.cfg['model'] = {'roi_head': {'mask_head': {'num_classes': 3}}}
    assert 'boxes but no polygons' in only(check(detection.cfg))


def test_images_that_are_not_in_the_folder(detection):
    (detection.root / 'train' / 'a.jpg').rename(detection.root / 'train' / 'b.jpg')
    assert 'train/: a.jpg (of 1 looked up)' in only(check(detection.cfg))


def test_images_only_are_enough_to_test(detection):
    detection.write('val', annotations=None)
    detection.cfg['test_dataloader'] = detection.cfg['val_dataloader']
    assert check(detection.cfg, splits=('test',)) == []


def test_config_without_class_names_expects_coco(detection):
    for split in ('train', 'val'):
        del detection.cfg[f'{split}_dataloader']['dataset']['metainfo']
    detection.cfg['model']['bbox_head']['num_classes'] = 80
    first = check(detection.cfg)[0]
    assert 'has 3 categories (circle, square, triangle)' in first.what
    assert "metainfo=dict(classes=('circle', 'square', 'triangle'))" in first.cure
    names = ['person', 'dog', 'toothbrush', *(f'thing{i}' for i in range(77))]
    for split in ('train', 'val'):
        detection.write(split, categories=[{'id': i, 'name': n} for i, n in enumerate(names)])
    assert check(detection.cfg) == []


def test_of_a_large_file_only_the_classes_are_parsed(detection, monkeypatch):
    monkeypatch.setattr(coco, 'PARSE_LIMIT', 10)
    detection.write('train', note='x' * 1000, annotations=None, categories=None)
    path = detection.root / 'train.json'
    path.write_text(path.read_text()[:-1] + ', "categories": [{"name": "disc"}]}')
    assert '3 classes of train_dataloader.dataset.metainfo.classes' in only(check(detection.cfg))
    path.write_text(path.read_text()[:-30])
    assert 'is not whole' in only(check(detection.cfg))


def test_heads_with_another_number_of_classes(detection):
    detection.cfg['model'] = {
        'rpn_head': {'num_classes': 1},
        'roi_head': {
            'bbox_head': [{'num_classes': 3}, {'num_classes': 80}],
            'mask_head': {'num_classes': 80},
        },
    }
    text = only(check(detection.cfg))
    assert 'The train and val data have 3 classes (circle, square, triangle)' in text
    assert (
        '--cfg-options model.roi_head.bbox_head.1.num_classes=3 '
        'model.roi_head.mask_head.num_classes=3' in text
    )


def test_classes_in_another_order(detection):
    names = ('square', 'circle', 'triangle')
    detection.cfg['val_dataloader']['dataset']['metainfo'] = {'classes': names}
    assert 'the same classes in another order' in only(check(detection.cfg))


def test_open_vocabulary_detectors_fit_any_number(detection):
    detection.cfg['model']['bbox_head']['num_classes'] = 256
    assert '256' in only(check(detection.cfg))
    detection.cfg['model']['language_model'] = {'type': 'BertModel'}
    assert check(detection.cfg) == []


def test_one_class_without_its_comma(detection):
    for split in ('train', 'val'):
        detection.cfg[f'{split}_dataloader']['dataset']['metainfo'] = {'classes': 'circle'}
    text = only(check(detection.cfg))
    assert "classes=('circle',)" in text
    assert 'val_dataloader.dataset.metainfo.classes' in text


def test_class_names_in_a_file(detection, tmp_path):
    (tmp_path / 'names.txt').write_text('circle\nsquare\ntriangle\n')
    for split in ('train', 'val'):
        names = {'classes': str(tmp_path / 'names.txt')}
        detection.cfg[f'{split}_dataloader']['dataset']['metainfo'] = names
    assert check(detection.cfg) == []
