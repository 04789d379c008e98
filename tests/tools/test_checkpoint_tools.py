"""tools/inspect_checkpoint.py and tools/convert_checkpoint.py, and what a kill leaves of files."""

import argparse
import contextlib
import http.server
import random
import re
import threading
import time

import pytest
import torch
from layouts import TINY, as_authors, classifier, detector, make
from safetensors.torch import load_file, save_file

from mmpoolformer import PoolFormer, convert_state_dict, load_pretrained
from mmpoolformer.checkpoint import read_checkpoint


def same(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def headings(text: str) -> dict[str, str]:
    return dict(re.split('  +', line.strip(), maxsplit=1) for line in text.splitlines())


@pytest.mark.smoke
def test_inspection_names_everything(forked, tmp_path):
    torch.save({'model': classifier(), 'epoch': 299, 'notes': 'x' * 99}, tmp_path / 'a.pth.tar')
    run = forked('inspect_checkpoint', 'a.pth.tar')
    assert run.code == 0, run.text
    found = headings(run.out)
    assert found['layout'] == 'authors'
    assert found['model'] == 'a model of depths (1, 2, 1, 1) and dims (8, 16, 24, 32)'
    assert found['parts'] == 'stem, stages, head, norm'
    assert found['tensors'].startswith(f'{len(classifier())} of float32, ')
    assert (found['wrapper'], found['epoch']) == ('model', '299')
    assert len(found['notes']) == 80
    assert 'network.0.0.norm1.weight' not in run.out
    keys = forked('inspect_checkpoint', 'a.pth.tar', '--keys')
    assert 'network.0.0.norm1.weight  (8,)\n' in keys.out

    save_file(detector(), tmp_path / 'b.safetensors', metadata={'made by': 'a test'})
    found = headings(forked('inspect_checkpoint', 'b.safetensors').out)
    assert found['parts'] == 'backbone, bbox_head, neck'
    assert (found['wrapper'], found['metadata made by']) == ('none', "'a test'")

    torch.save({'layer1.weight': torch.zeros(3)}, tmp_path / 'c.pth')
    run = forked('inspect_checkpoint', 'c.pth')
    assert run.code == 0
    assert headings(run.out)['layout'].startswith('unknown: these are no weights of a known')


@pytest.mark.smoke
def test_tools_refuse_and_run_nothing(forked, tmp_path):
    torch.save({'state_dict': classifier(), 'args': argparse.Namespace(lr=1)}, tmp_path / 'a.pth')
    for arguments in (('inspect_checkpoint', 'a.pth'), ('convert_checkpoint', 'a.pth', 'b.pth')):
        run = forked(*arguments)
        assert run.code == 1
        assert 'holds more than tensors and plain data (argparse.Namespace)' in run.err
        assert 'Traceback' not in run.err
    assert not (tmp_path / 'b.pth').exists()


@pytest.mark.smoke
@pytest.mark.parametrize('ending', ['pth', 'safetensors'])
def test_conversion_there_and_back_is_identity(forked, tmp_path, ending):
    save_file(classifier(), tmp_path / 'authors.safetensors')
    ours = f'ours.{ending}'
    run = forked('convert_checkpoint', 'authors.safetensors', ours)
    assert run.code == 0, run.text
    count = len(classifier())
    assert run.out == (
        f'authors.safetensors (layout authors) -> {ours} (layout mmpoolformer): '
        f'{count} of {count} tensors, {count - 4} renamed\n'
    )
    assert same(read_checkpoint(tmp_path / ours), convert_state_dict(classifier()))
    for layout in ('timm', 'mmpretrain', 'transformers', 'authors-baselines'):
        there = f'{layout}.{ending}'
        assert forked('convert_checkpoint', ours, there, '--layout', layout).code == 0
        back = forked('convert_checkpoint', there, 'back.safetensors', '--overwrite')
        assert back.code == 0, back.text
        assert same(load_file(tmp_path / 'back.safetensors'), convert_state_dict(classifier()))
    report = load_pretrained(PoolFormer(arch=TINY), tmp_path / ours)
    assert '(layout mmpoolformer)' in report


def test_conversion_refuses_what_it_cannot_do_and_overwrites_nothing(forked, tmp_path):
    torch.save(make().state_dict(), tmp_path / 'a.pth')
    (tmp_path / 'old.pth').write_bytes(b'precious')
    (tmp_path / 'file').write_text('')
    for arguments, message in (
        (('a.pth', 'old.pth'), 'old.pth exists: choose another name, or add --overwrite'),
        (('a.pth', 'new.onnx'), 'must end in .safetensors, .pth'),
        (('a.pth', 'new.pth', '--layout', 'timm'), 'layout timm has no place for 8'),
        (('a.pth', 'file/new.pth'), 'could not be written'),
        (('gone.pth', 'new.pth'), 'gone.pth does not exist'),
    ):
        run = forked('convert_checkpoint', *arguments)
        assert run.code == 1
        assert message in run.err
        assert 'Traceback' not in run.err
    assert (tmp_path / 'old.pth').read_bytes() == b'precious'
    assert sorted(p.name for p in tmp_path.iterdir()) == ['a.pth', 'file', 'old.pth']


@pytest.mark.parametrize('ending', ['pth', 'safetensors'])
def test_killed_conversion_leaves_the_whole_file_or_none(forked, killed, tmp_path, ending):
    weights = {
        k: v.repeat(400, *[1] * (v.ndim - 1)) for k, v in as_authors(make().state_dict()).items()
    }
    torch.save(weights, tmp_path / 'a.pth')
    target = tmp_path / f'b.{ending}'
    start = time.perf_counter()
    assert forked('convert_checkpoint', 'a.pth', target).code == 0
    seconds = time.perf_counter() - start
    target.unlink()
    generator, finished = random.Random(0), 0
    for _ in range(25):
        code = killed('convert_checkpoint', 'a.pth', target, after=generator.uniform(0, seconds))
        finished += code == 0
        assert code in (0, -9)
        if target.exists():
            assert same(read_checkpoint(target), convert_state_dict(weights))
            target.unlink()
    assert finished < 25


def test_killed_download_leaves_the_whole_file_or_none(killed, tmp_path):
    torch.save(
        {k: v.repeat(40, *[1] * (v.ndim - 1)) for k, v in classifier().items()}, tmp_path / 'a'
    )
    content = (tmp_path / 'a').read_bytes()

    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header('Content-Length', str(len(content)))
            self.end_headers()
            step = len(content) // 20
            for i in range(0, len(content), step):
                self.wfile.write(content[i : i + step])
                time.sleep(0.01)

        def handle(self):
            with contextlib.suppress(ConnectionError):  # The other side was killed.
                super().handle()

        def log_message(self, *args):
            pass

    cached = tmp_path / 'torch/hub/checkpoints/weights.pth'
    generator, codes = random.Random(0), []
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Slow) as server:
        threading.Thread(target=server.serve_forever).start()
        address = f'http://127.0.0.1:{server.server_port}/weights.pth'
        for _ in range(25):
            after = generator.uniform(0, 1)
            env = {'TORCH_HOME': str(tmp_path / 'torch')}
            codes.append(killed('inspect_checkpoint', address, after=after, env=env))
            if cached.exists():
                assert cached.read_bytes() == content
                cached.unlink()
        server.shutdown()
    assert codes.count(-9) > 0
    assert set(codes) <= {0, -9}
