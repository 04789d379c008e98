"""Named weights: served from the cache, downloaded whole or not at all."""

import http.server
import io
import socket
import threading
from dataclasses import replace

import pytest
import torch
from layouts import TINY, classifier, expanded
from safetensors.torch import save_file

from mmpoolformer import (
    ARCHS,
    CheckpointError,
    PoolFormer,
    convert_state_dict,
    load_pretrained,
)
from mmpoolformer.checkpoint import fetch
from mmpoolformer.zoo.archs import Weights


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of downloads; its folder does not exist yet."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    return tmp_path / 'torch/hub/checkpoints'


@pytest.mark.smoke
def test_names_are_served_from_the_cache_without_network(cache, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError('network was used')

    monkeypatch.setattr(socket, 'socket', refuse)
    cache.mkdir(parents=True)
    torch.save(expanded('s12'), cache / 'poolformer_s12.pth.tar')
    source = {'type': 'Pretrained', 'checkpoint': 'metaformer://poolformer_s12'}
    model = PoolFormer(arch='s12', out_indices=3, init_cfg=source)
    model.init_weights()
    assert all((parameter == 0.25).all() for parameter in model.parameters())


@pytest.mark.parametrize('name', ['poolformer_s13', 's12', ''])
def test_unknown_name_lists_the_known(name, cache):
    with pytest.raises(CheckpointError, match=f'metaformer://{name} is unknown') as error:
        fetch(f'metaformer://{name}')
    assert all(known in str(error.value) for known in ARCHS)


def set_address(monkeypatch, address):
    row = replace(ARCHS['poolformer_s12'], weights={'in1k': Weights(address)})
    monkeypatch.setitem(ARCHS, 'poolformer_s12', row)


@pytest.fixture
def server():
    """A local web server: /whole.pth, /cut.pth (the connection breaks), /login.pth, else 404."""
    requests = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            if self.path not in contents:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header('Content-Length', str(len(contents['/whole.pth'])))
            self.end_headers()
            self.wfile.write(contents[self.path])

        def log_message(self, *args):
            pass

    buffer = io.BytesIO()
    torch.save(classifier(), buffer)
    whole = buffer.getvalue()
    contents = {'/whole.pth': whole, '/cut.pth': whole[:1000], '/login.pth': b'<html>login</html>'}
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f'http://127.0.0.1:{running.server_port}', requests
        running.shutdown()
        thread.join()


def test_download_happens_once_and_the_weights_fit(server, cache, monkeypatch):
    address, requests = server
    set_address(monkeypatch, f'{address}/whole.pth')
    for _ in range(2):
        model = PoolFormer(arch=TINY)
        load_pretrained(model, 'metaformer://poolformer_s12')
        assert torch.equal(model.stem.conv.bias, classifier()['patch_embed.proj.bias'])
    assert requests == ['/whole.pth']
    assert [path.name for path in cache.iterdir()] == ['whole.pth']
    load_pretrained(PoolFormer(arch=TINY), f'{address}/whole.pth')
    assert requests == ['/whole.pth']


@pytest.mark.parametrize(
    ('file', 'reason'),
    [
        ('cut.pth', 'is cut off'),
        ('login.pth', 'is a web page'),
        ('gone.pth', 'HTTP Error 404'),
    ],
)
def test_bad_download_leaves_nothing_behind(server, cache, file, reason):
    address, _ = server
    with pytest.raises(CheckpointError, match=f'could not be downloaded .*{reason}'):
        fetch(f'{address}/{file}')
    assert list(cache.iterdir()) == []


@pytest.mark.smoke
def test_no_network_says_which_file_goes_where(cache, monkeypatch):
    with socket.create_server(('127.0.0.1', 0)) as closed:
        port = closed.getsockname()[1]
    address = f'http://127.0.0.1:{port}/poolformer_s12.pth.tar'
    set_address(monkeypatch, address)
    with pytest.raises(CheckpointError) as error:
        load_pretrained(PoolFormer(arch=TINY), 'metaformer://poolformer_s12')
    message = str(error.value)
    assert message.startswith('metaformer://poolformer_s12 could not be downloaded')
    assert f'fetch {address} elsewhere, put it at {cache}/poolformer_s12.pth.tar' in message
    assert '--cfg-options model.backbone.init_cfg=None' in message


@pytest.mark.smoke
def test_tags_name_the_released_weights(cache):
    cache.mkdir(parents=True)
    for tag, ending in (
        ('', ''),
        ('.in1k', ''),
        ('.in1k_384', '_384'),
        ('.in21k_ft_in1k', '_in21ft1k'),
        ('.in21k_ft_in1k_384', '_384_in21ft1k'),
        ('.in21k', '_in21k'),
    ):
        path = cache / f'convformer_s18{ending}.pth'
        path.touch()
        assert fetch(f'metaformer://convformer_s18{tag}') == path
    with pytest.raises(
        CheckpointError, match=r's18\.in22k is unknown; .*convformer_s18\.in21k'
    ) as e:
        fetch('metaformer://convformer_s18.in22k')
    assert 'poolformer' not in str(e.value)
    addresses = [w.url for arch in ARCHS.values() for w in arch.weights.values()]
    assert len(addresses) == len(set(addresses)) == 5 + 15 + 8 * 5


def test_folder_is_looked_into_first(cache, tmp_path, monkeypatch):
    folder = tmp_path / 'weights'
    (folder / 'timm/poolformer_s12.sail_in1k').mkdir(parents=True)
    torch.save(classifier(), folder / 'poolformer_s12.pth.tar')
    source = {'type': 'Pretrained', 'checkpoint': 'metaformer://poolformer_s12'}
    model = PoolFormer(arch=TINY, init_cfg={**source, 'folder': str(folder)})
    model.init_weights()
    assert torch.equal(model.stem.conv.bias, classifier()['patch_embed.proj.bias'])
    assert not cache.exists()
    hub = folder / 'timm/poolformer_s12.sail_in1k/model.safetensors'
    save_file(convert_state_dict(convert_state_dict(classifier()), 'timm'), hub)
    report = load_pretrained(
        PoolFormer(arch=TINY), 'hf-hub:timm/poolformer_s12.sail_in1k', folder=folder
    )
    assert '(layout timm)' in report


def test_repositories_of_the_hub(tmp_path, monkeypatch):
    hub = pytest.importorskip('huggingface_hub')
    path = tmp_path / 'pytorch_model.bin'
    weights = convert_state_dict(convert_state_dict(classifier()), 'transformers')
    torch.save(weights, path)
    asked = []

    def download(repository, name):
        asked.append((repository, name))
        if name != path.name:
            raise hub.errors.EntryNotFoundError('404')
        return str(path)

    monkeypatch.setattr(hub, 'hf_hub_download', download)
    report = load_pretrained(PoolFormer(arch=TINY), 'hf-hub:sail/poolformer_s12')
    assert '(layout transformers)' in report
    assert asked == [('sail/poolformer_s12', n) for n in ('model.safetensors', path.name)]


def test_hub_without_network_says_what_to_fetch(monkeypatch):
    hub = pytest.importorskip('huggingface_hub')

    def refuse(*args):
        raise hub.errors.LocalEntryNotFoundError('no network')

    monkeypatch.setattr(hub, 'hf_hub_download', refuse)
    with pytest.raises(CheckpointError) as error:
        fetch('hf-hub:timm/none')
    assert 'no network' in str(error.value)
    assert 'fetch https://huggingface.co/timm/none/resolve/main/model.safetensors' in str(
        error.value
    )
