"""Segmentation masks and classification folders."""

import pytest
from PIL import Image

from mmpoolformer.preflight import check


@pytest.fixture
def segmentation(tmp_path):
    """Two images with masks of classes 0 to 2, and the config that reads them."""
    for folder, suffix in (('images', '.jpg'), ('masks', '.png')):
        (tmp_path / folder).mkdir()
        for name in ('a', 'b'):
            Image.new('L', (8, 8), 2).save(tmp_path / folder / (name + suffix))
    dataset = {
        'type': 'BaseSegDataset',
        'data_root': str(tmp_path),
        'data_prefix': {'img_path': 'images', 'seg_map_path': 'masks'},
        'metainfo': {'classes': ('sky', 'sea', 'land')},
    }
    model = {'decode_head': {'num_classes': 3}, 'auxiliary_head': [{'num_classes': 3}]}
    return {'model': model, 'train_dataloader': {'dataset': dataset}}


def find(cfg):
    problems = check(cfg)
    assert len(problems) == 1, problems
    return ' '.join(f'{problems[0].what} {problems[0].cure}'.split())


def test_good_segmentation_data(segmentation):
    assert check(segmentation) == []


def test_auxiliary_heads_count_too(segmentation):
    segmentation['model']['auxiliary_head'][0]['num_classes'] = 19
    assert '--cfg-options model.auxiliary_head.0.num_classes=3' in find(segmentation)


def test_ade20k_has_150_classes():
    cfg = {
        'model': {'decode_head': {'num_classes': 19}},
        'train_dataloader': {'dataset': {'type': 'ADE20KDataset'}},
    }
    text = find(cfg)
    assert 'have 150 classes (the list built into its class)' in text
    assert 'if your data has 19, name them' in text


def test_image_without_mask(segmentation, tmp_path):
    (tmp_path / 'masks/b.png').unlink()
    text = find(segmentation)
    assert '1 of 2 images' in text
    assert 'b.png' in text


def test_split_file_names_the_images(segmentation, tmp_path):
    (tmp_path / 'masks/b.png').unlink()
    (tmp_path / 'train.txt').write_text('a\n')
    segmentation['train_dataloader']['dataset']['ann_file'] = 'train.txt'
    assert check(segmentation) == []


def test_images_with_another_suffix(segmentation):
    segmentation['train_dataloader']['dataset']['img_suffix'] = '.tif'
    assert 'holds no .tif file, only .jpg' in find(segmentation)


@pytest.mark.parametrize(
    ('value', 'options', 'words'),
    [
        (2, {}, None),
        (255, {}, None),
        (3, {'reduce_zero_label': True}, None),
        (3, {}, 'reduce_zero_label=True'),
        (7, {}, 'values that are no class: 7'),
        (4, {'reduce_zero_label': True}, 'Allowed: 0 to 3 (3 classes, 0 is not scored), and 255'),
        (255, {'ignore_index': 9}, 'Allowed: 0 to 2 (3 classes), and 9'),
        (200, {'type': 'MyDataset', 'img_suffix': '.jpg', 'seg_map_suffix': '.png'}, None),
        (150, {'type': 'ADE20KDataset'}, None),
        (151, {'type': 'ADE20KDataset'}, 'Allowed: 0 to 150'),
    ],
)
def test_mask_values(segmentation, tmp_path, value, options, words):
    for name in 'ab':
        Image.new('L', (8, 8), value).save(tmp_path / f'masks/{name}.png')
    segmentation['train_dataloader']['dataset'].update(options)
    if words is None:
        assert check(segmentation) == []
    else:
        assert words in find(segmentation)


def test_masks_with_a_palette_are_read_as_numbers(segmentation, tmp_path):
    mask = Image.new('P', (8, 8), 1)
    mask.putpalette([9, 9, 9, 200, 100, 50])
    mask.save(tmp_path / 'masks/a.png')
    assert check(segmentation) == []


@pytest.mark.parametrize(
    ('content', 'words'), [(None, 'is a colour picture'), (b'text', 'cannot be decoded')]
)
def test_files_that_are_no_masks(segmentation, tmp_path, content, words):
    path = tmp_path / 'masks/a.png'
    Image.new('RGB', (8, 8)).save(path) if content is None else path.write_bytes(content)
    assert words in find(segmentation)


@pytest.fixture
def classification(tmp_path):
    """Two class folders, read by mmpretrain's CustomDataset."""
    for name in ('cat', 'dog'):
        (tmp_path / 'train' / name).mkdir(parents=True)
        (tmp_path / 'train' / name / '1.JPEG').touch()
    dataset = {'type': 'CustomDataset', 'data_root': str(tmp_path), 'data_prefix': 'train'}
    model = {'head': {'num_classes': 2}}
    return {'model': model, 'train_dataloader': {'dataset': dataset}}


def test_good_class_folders(classification):
    assert check(classification) == []


def test_number_of_class_folders(classification):
    classification['model']['head']['num_classes'] = 1000
    text = find(classification)
    assert 'holds 2 class folders (cat, dog), but 1,000 classes are expected' in text
    assert 'model.head.num_classes=2' in text


def test_hidden_folder_counts_as_a_class(classification, tmp_path):
    (tmp_path / 'train/.ipynb_checkpoints').mkdir()
    assert '.ipynb_checkpoints counts as a class' in find(classification)


def test_images_not_sorted_into_folders(classification, tmp_path):
    classification['train_dataloader']['dataset']['data_prefix'] = 'train/cat'
    assert 'holds no folders' in find(classification)


def test_imagenet_split_names_the_folder(classification, tmp_path):
    dataset = {'type': 'mmpretrain.ImageNet', 'data_root': str(tmp_path), 'split': 'val'}
    classification['train_dataloader']['dataset'] = dataset
    classification['model']['head']['num_classes'] = 1000
    assert f'{tmp_path}/val/' in find(classification)


@pytest.mark.parametrize(
    ('lines', 'words'),
    [
        ('cat/1.JPEG 0\ndog/1.JPEG 1\n', None),
        ('cat/1.JPEG 0\ndog/1.JPEG 2\n', "line 2: 'dog/1.JPEG 2' is not"),
        ('cat/1.JPEG\n', "'cat/1.JPEG' is not an image name, a space and a class from 0 to 1"),
        ('', "line 1: '' is not"),
    ],
)
def test_list_of_labels(classification, tmp_path, lines, words):
    (tmp_path / 'train.txt').write_text(lines)
    classification['train_dataloader']['dataset']['ann_file'] = 'train.txt'
    if words is None:
        assert check(classification) == []
    else:
        assert words in find(classification)
