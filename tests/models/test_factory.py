"""Models by name."""

import pytest
import torch

import mmpoolformer
from mmpoolformer import ARCHS, CheckpointError, create_model, list_models


def test_every_model_is_listed_and_built():
    assert list_models() == list(ARCHS)
    for name in list_models():
        with torch.device('meta'):
            model = create_model(name, out_indices=(1, 3))
        assert model.arch is ARCHS[name]
        assert type(model).__name__.lower() == name.split('_')[0]


def test_lists():
    assert list_models('*_s18') == ['convformer_s18', 'caformer_s18']
    released = list_models('caformer_s18', pretrained=True)
    assert released == [f'caformer_s18.{tag}' for tag in ARCHS['caformer_s18'].weights]
    assert list_models('poolformer*', pretrained=True)[0] == 'poolformer_s12.in1k'
    assert list_models('no_such_model') == []


def test_weights_from_a_file(tmp_path):
    torch.manual_seed(0)
    source = create_model('poolformer_s12')
    torch.save(source.state_dict(), tmp_path / 'weights.pth')
    torch.manual_seed(1)
    model = create_model('poolformer_s12', pretrained=tmp_path / 'weights.pth')
    assert all(
        torch.equal(a, b) for a, b in zip(source.parameters(), model.parameters(), strict=True)
    )


def test_released_weights_come_from_the_cache(tmp_path, monkeypatch):
    """Where the authors' file lies in torch.hub's folder, nothing is downloaded."""
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    folder = tmp_path / 'checkpoints'
    folder.mkdir()
    source = create_model('poolformer_s12', out_indices=3)
    theirs = mmpoolformer.convert_state_dict(
        {k: v for k, v in source.state_dict().items() if not k.startswith('norm')}, 'authors'
    )
    torch.save(theirs, folder / 'poolformer_s12.pth.tar')
    model = create_model('poolformer_s12.in1k', pretrained=True)
    assert torch.equal(model.stem.conv.weight, source.stem.conv.weight)


def test_wrong_names_say_what_there_is():
    with pytest.raises(ValueError, match='no model: choose one of poolformer_s12, '):
        create_model('poolformer_s13')
    with pytest.raises(ValueError, match=r'choose one of caformer_s18\.in1k, '):
        create_model('caformer_s18.in22k')
    with pytest.raises(TypeError, match='drop_path'):
        create_model('poolformer_s12', drop_path=0.1)
    with pytest.raises(CheckpointError, match='does not exist'):
        create_model('poolformer_s12', pretrained='no_such_file.pth')
