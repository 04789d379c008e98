"""The package works with any one of mmdet, mmseg and mmpretrain, or none, from any folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOWNSTREAM = {'mmdet', 'mmseg', 'mmpretrain'}
# Makes packages look uninstalled, and notes who asked for them in `attempts`.
BLOCKER = """
import sys

attempts = []

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {blocked}:
            attempts.append(name)
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)

sys.meta_path.insert(0, Blocker())
"""
BACKBONE = {
    'type': 'mmpoolformer.PoolFormer',
    'out_indices': (1, 2, 3),
    'arch': {'depths': (1, 1, 1, 1), 'dims': (8, 16, 24, 32)},
}
NECKS = {
    'mmdet': {'type': 'FPN', 'in_channels': [16, 24, 32], 'out_channels': 8, 'num_outs': 5},
    'mmseg': {'type': 'FPN', 'in_channels': [16, 24, 32], 'out_channels': 8, 'num_outs': 3},
    'mmpretrain': {'type': 'GlobalAveragePooling'},
}


def run_without(blocked: set[str], code: str, folder: Path) -> subprocess.CompletedProcess:
    """Run ``code`` in a new interpreter where the packages ``blocked`` cannot be imported."""
    return subprocess.run(
        [sys.executable, '-c', BLOCKER.format(blocked=blocked or '()') + code],
        cwd=folder,
        # This checkout, whichever is installed.
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=180,
    )


@pytest.mark.smoke
@pytest.mark.parametrize('package', sorted(DOWNSTREAM))
def test_builds_with_only_one_package(package, tmp_path):
    # The models of mmdet, and of the original mmseg, cannot be imported without mmcv's operators,
    # which this package brings.
    first = 'import mmpoolformer' if package in ('mmdet', 'mmseg') else ''
    code = f"""
{first}
import torch
from {package}.registry import MODELS

backbone, neck = MODELS.build({BACKBONE}), MODELS.build({NECKS[package]})
features = neck(backbone(torch.rand(1, 3, 64, 64)))
print(type(backbone).__module__, len(features), [m for m in {DOWNSTREAM} if m in sys.modules])
"""
    result = run_without(DOWNSTREAM - {package}, code, tmp_path)
    assert result.returncode == 0, result.stderr
    maps = {'mmdet': 5, 'mmseg': 3, 'mmpretrain': 3}[package]
    last = result.stdout.splitlines()[-1]
    assert last == f"mmpoolformer.models.families {maps} ['{package}']"


@pytest.mark.smoke
def test_plain_torch_use_never_asks_for_the_other_packages(tmp_path):
    code = """
import torch, mmpoolformer

features = mmpoolformer.PoolFormer(arch='s12')(torch.rand(1, 3, 224, 224))
print([tuple(f.shape) for f in features], attempts)
"""
    result = run_without(DOWNSTREAM, code, tmp_path)
    assert result.returncode == 0, result.stderr
    shapes = [(1, 64, 56, 56), (1, 128, 28, 28), (1, 320, 14, 14), (1, 512, 7, 7)]
    # `attempts` is empty: not even a guarded import was tried.
    assert result.stdout.strip() == f'{shapes} []'


@pytest.mark.smoke
@pytest.mark.parametrize('missing', ['mmengine', 'mmcv'])
def test_missing_requirements_give_the_pip_line(missing, tmp_path):
    result = run_without({missing}, 'import mmpoolformer', tmp_path)
    assert result.returncode == 1
    message = result.stderr.splitlines()
    final = next(i for i, line in enumerate(message) if line.startswith('ImportError'))
    text = '\n'.join(message[final:])
    assert f'{missing} is not installed' in text
    assert "pip install 'mmpoolformer[onedl]'" in text
    assert 'mmpoolformer[openmmlab]' in text
    assert 'make install' in text


def test_broken_requirement_is_not_called_missing(tmp_path):
    """A compiled extension that fails to load is another problem, with another cure."""
    broken = tmp_path / 'mmcv'
    broken.mkdir()
    (broken / '__init__.py').write_text("raise ImportError('undefined symbol: _ZN3c10')")
    code = f'sys.path.insert(0, {str(tmp_path)!r})\nimport mmpoolformer'
    result = run_without(set(), code, tmp_path)
    assert result.returncode == 1
    assert 'undefined symbol' in result.stderr
    assert 'None is not installed' not in result.stderr
