"""What tests that start the tools share: a tiny data set, tiny configs, and ways to start."""

import pytest
from processes import fork_tool, kill_tool, start_warm_server
from tiny import write_config

from mmpoolformer.datasets.shapes import generate
from mmpoolformer.ops import dispatch

SHIPPED_THRESHOLD = dispatch.SMALL


@pytest.fixture(autouse=True)
def small_maps_are_fused(monkeypatch):
    """Let tests see with small images what users get with large ones, see shipped_threshold."""
    monkeypatch.setattr(dispatch, 'SMALL', 0)


@pytest.fixture
def shipped_threshold(small_maps_are_fused, monkeypatch):
    """Let a test see which maps are fused for users."""
    monkeypatch.setattr(dispatch, 'SMALL', SHIPPED_THRESHOLD)


@pytest.fixture(scope='session')
def shapes(tmp_path_factory):
    """The root of Shapes with 8 training and 4 validation images of at most 64 px."""
    root = tmp_path_factory.mktemp('data') / 'shapes'
    generate(root, num_train=8, num_val=4, num_crops=12, size=64)
    return root


@pytest.fixture
def tiny(tmp_path, shapes):
    """Write a config for a model of a few thousand parameters: ``tiny('detection', extra)``."""

    def write(task='detection', extra='', name='tiny'):
        return write_config(tmp_path / f'{name}.py', task, shapes, extra)

    return write


@pytest.fixture(scope='session')
def warm_server():
    """A process that has imported mmdet, mmseg and mmpretrain, once for all tests."""
    return start_warm_server()


@pytest.fixture
def forked(warm_server, tmp_path):
    """Run a tool in a copy of the warm process: ``forked('train', config, '--resume')``."""

    def run(tool, *args, env=None, timeout=120):
        return fork_tool(warm_server, tool, args, cwd=tmp_path, env=env or {}, timeout=timeout)

    return run


@pytest.fixture
def killed(warm_server, tmp_path):
    """Run a tool likewise and kill it: ``killed('train', config, after=0.5)``."""

    def run(tool, *args, after, env=None):
        return kill_tool(warm_server, tool, args, cwd=tmp_path, env=env or {}, after=after)

    return run
