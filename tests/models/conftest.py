"""Backbones shared by the tests of the models."""

import pytest
import torch

from mmpoolformer import ARCHS, PoolFormer, create_model


@pytest.fixture
def small():
    """A function that builds a PoolFormer of five narrow blocks, with LayerScales that count.

    At the initial 1e-5 the blocks hardly change their input, and a fault in them would not show.
    """

    def build(**kwargs) -> PoolFormer:
        torch.manual_seed(0)
        arch = {'depths': (1, 1, 2, 1), 'dims': (8, 16, 24, 32), 'layer_scale': 0.5}
        return PoolFormer(**{'arch': arch, **kwargs})

    return build


@pytest.fixture(
    scope='session',
    params=[
        pytest.param(name, marks=pytest.mark.smoke if name == 'poolformer_s12' else ())
        for name in ARCHS
    ],
)
def row(request):
    """Each name of the table with its backbone, in evaluation mode; tests leave it unchanged."""
    torch.manual_seed(0)
    # RandFormer is made for one size of images; the contract is about any.
    options = {'interpolate': True} if request.param.startswith('randformer') else {}
    return request.param, create_model(request.param, **options).eval()
