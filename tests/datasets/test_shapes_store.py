"""How Shapes is kept on disk, and the command that makes it."""

import errno
import hashlib
import json
import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from processes import heed_interrupts

from mmpoolformer.datasets.shapes import CLASSES, SEG_PALETTE, draw_preview, generate

MODULE = 'mmpoolformer.datasets.shapes'
TINY = {'num_train': 4, 'num_val': 2, 'num_crops': 6, 'size': 96}


@pytest.fixture
def tiny(tmp_path):
    root = tmp_path / 'shapes'
    generate(root, **TINY)
    return root


def images(root, split):
    return json.loads((root / f'coco/annotations/instances_{split}.json').read_text())['images']


def hashes(root, below=''):
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (root / below).rglob('*')
        if path.is_file()
    }


# Same seed, same bytes


@pytest.mark.smoke
def test_bytes_depend_on_the_parameters_only(tiny, tmp_path):
    code = (
        'import cv2; cv2.setNumThreads(1)\n'
        'from mmpoolformer.datasets.shapes import generate\n'
        f'generate({str(tmp_path / "again")!r}, **{TINY!r})'
    )
    environment = {**os.environ, 'PYTHONHASHSEED': '7', 'OMP_NUM_THREADS': '1', 'TZ': 'Asia/Tokyo'}
    subprocess.run([sys.executable, '-c', code], check=True, env=environment, cwd=tmp_path)
    expected = hashes(tiny)
    assert len(expected) == 3 * (4 + 2) + 6 + 6 + 2 + 1
    assert hashes(tmp_path / 'again') == expected


def test_other_counts_change_no_picture(tiny, tmp_path):
    generate(tmp_path / 'more', **(TINY | {'num_train': 6, 'num_crops': 12}))
    few, more = hashes(tiny), hashes(tmp_path / 'more')
    pictures = [name for name in few if name.endswith('.png')]
    assert pictures
    assert all(more[name] == few[name] for name in pictures)
    annotations = 'coco/annotations/instances_val.json'
    assert few[annotations] == more[annotations]


def test_other_seed_changes_every_picture(tiny, tmp_path):
    generate(tmp_path / 'other', **TINY, seed=1)
    assert not set(hashes(tiny, 'coco').values()) & set(hashes(tmp_path / 'other', 'coco').values())


# It is made once, whole, and replaces nothing by accident


def never(jobs):
    raise AssertionError('nothing should have been drawn')


def interrupted(jobs):
    yield from jobs[:5]
    raise KeyboardInterrupt


def test_second_call_returns_at_once(tmp_path):
    first = generate(tmp_path / 'shapes', **TINY)
    assert first['statistics']['train']['images'] == 4
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')}
    assert generate(tmp_path / 'shapes', **TINY, progress=never) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')} == before


def test_other_parameters_need_overwrite(tiny):
    before = hashes(tiny)
    with pytest.raises(FileExistsError, match='num_val is 2, wanted 3'):
        generate(tiny, **(TINY | {'num_val': 3}))
    assert hashes(tiny) == before
    generate(tiny, **(TINY | {'num_val': 3}), overwrite=True)
    assert len(images(tiny, 'val')) == 3
    assert [path.name for path in tiny.parent.iterdir()] == ['shapes']


@pytest.mark.parametrize('content', [None, '{}', '[]', 'not json'])
@pytest.mark.parametrize('overwrite', [False, True])
def test_foreign_folder_is_refused(tmp_path, content, overwrite):
    (tmp_path / 'thesis.txt').write_text('precious')
    if content is not None:
        (tmp_path / 'shapes.json').write_text(content)
    before = hashes(tmp_path)
    with pytest.raises(FileExistsError, match='not a Shapes data set'):
        generate(tmp_path, **TINY, overwrite=overwrite)
    assert hashes(tmp_path) == before


def test_foreign_file_in_the_data_set_is_not_deleted(tiny):
    (tiny / 'coco/notes.txt').write_text('precious')
    generate(tiny, **TINY, progress=never)
    with pytest.raises(FileExistsError, match=r'coco/notes\.txt'):
        generate(tiny, **TINY, seed=1, overwrite=True)
    assert (tiny / 'coco/notes.txt').read_text() == 'precious'


def test_damaged_data_set_is_not_taken_for_whole(tiny):
    expected = hashes(tiny)
    (tiny / 'coco/val/000000000002.png').unlink()
    with pytest.raises(FileExistsError, match=r'1 of its files .* coco/val/000000000002\.png'):
        generate(tiny, **TINY)
    generate(tiny, **TINY, overwrite=True)
    assert hashes(tiny) == expected


def test_empty_folder_and_link_are_filled(tmp_path):
    (tmp_path / 'disk').mkdir()
    (tmp_path / 'shapes').symlink_to(tmp_path / 'disk')
    generate(tmp_path / 'shapes', **TINY)
    assert (tmp_path / 'shapes').is_symlink()
    assert (tmp_path / 'disk/shapes.json').is_file()


def test_interruption_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / 'shapes', **TINY, progress=interrupted)
    assert not list(tmp_path.iterdir())


def test_interrupted_overwrite_leaves_the_old_data_set(tiny):
    before = hashes(tiny.parent)
    with pytest.raises(KeyboardInterrupt):
        generate(tiny, **TINY, seed=1, overwrite=True, progress=interrupted)
    assert hashes(tiny.parent) == before


def test_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def write_bytes(path, data):
        raise OSError(errno.ENOSPC, 'No space left on device', str(path))

    monkeypatch.setattr(Path, 'write_bytes', write_bytes)
    with pytest.raises(OSError, match='No space left'):
        generate(tmp_path / 'shapes', **TINY)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('num_train', 0),
        ('num_val', -1),
        ('num_crops', 5),
        ('size', 63),
        ('size', 1025),
        ('size', 96.5),
        ('seed', -1),
        ('seed', 2**32),
        ('seed', 'zero'),
    ],
)
def test_bad_parameter_is_named(tmp_path, name, value):
    with pytest.raises(ValueError, match=f'{name} is {value!r}; it must be a whole number from'):
        generate(tmp_path / 'shapes', **(TINY | {name: value}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('size', [64, 321])
def test_size_is_the_longest_side(tmp_path, size):
    generate(tmp_path / 'shapes', num_train=6, num_val=1, num_crops=6, size=size)
    scenes = images(tmp_path / 'shapes', 'train')
    sides = [side for image in scenes for side in (image['height'], image['width'])]
    assert round(0.75 * size) <= min(sides) < max(sides) <= size


def test_preview_has_a_column_per_scene(tiny):
    three, four = (draw_preview(tiny, split='train', columns=count) for count in (3, 4))
    assert three.dtype == np.uint8
    assert three.shape[0] == four.shape[0]
    assert three.shape[1] / 3 == four.shape[1] / 4
    for colour in SEG_PALETTE:
        assert (four == colour).all(axis=2).any()  # the masks and the legend


# The command


def start(*arguments, cwd):
    return subprocess.Popen(
        [sys.executable, '-m', MODULE, *map(str, arguments)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run the tool in this process: importing torch again for every message takes seconds."""

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', [MODULE, *map(str, arguments)])
        try:
            runpy.run_module(MODULE, run_name='__main__')
            code = 0
        except SystemExit as stop:
            code = stop.code
        return (code, *capsys.readouterr())

    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.chdir(tmp_path)
    yield run
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.smoke
def test_command(tmp_path, run):
    tiny = ['--num-train', 4, '--num-val', 2, '--num-crops', 6, '--size', 96]
    process = start(*tiny, '--preview', 'figures/grid.png', cwd=tmp_path)
    summary, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert '18/18' in stderr
    assert len(images(tmp_path / 'data/shapes', 'train')) == 4
    assert cv2.imread(str(tmp_path / 'figures/grid.png')).shape[1] > 2 * 96
    for word in ('data/shapes', 'small', 'large', 'truncated', 'empty', *CLASSES):
        assert word in summary

    code, again, stderr = run(*tiny)
    assert (code, stderr) == (0, '')
    assert summary.startswith(again)

    code, _, stderr = run(*tiny, '--seed', 1)
    assert code == 1
    assert re.fullmatch(r'.*seed is 0, wanted 1.*pass --overwrite\n', stderr)


@pytest.mark.parametrize(
    ('arguments', 'code', 'message'),
    [
        (['--size', '0'], 2, 'size is 0; it must be a whole number from 64 to 1024'),
        (['--num-train', 'many'], 2, "argument --num-train: invalid int value: 'many'"),
        (['--colour', 'red'], 2, 'unrecognized arguments: --colour red'),
        (['--preview', 'grid.jpg'], 2, 'grid.jpg: the file name must end in .png'),
        (['--root', '/dev/null/shapes'], 1, 'cannot write: /dev/null is not a folder'),
    ],
)
def test_command_refuses_in_one_line(tmp_path, run, arguments, code, message):
    returncode, stdout, stderr = run(*arguments)
    assert (returncode, stdout) == (code, '')
    assert message in stderr
    assert stderr.count('\n') == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(('number', 'code'), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_command_cleans_up(tmp_path, number, code):
    process = start(cwd=tmp_path)
    seen = ''
    while not re.search(r' [1-9]\d*/1536', seen):
        character = process.stderr.read(1)
        assert character, seen
        seen += character
    assert list((tmp_path / 'data').iterdir())
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert 'Traceback' not in stderr
    assert not list((tmp_path / 'data').iterdir())
