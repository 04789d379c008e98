"""The pins, the package's own ranges, and what make passes on. Nothing is installed."""

import os
import re
import subprocess
import sys

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from processes import ROOT

import mmpoolformer

if sys.version_info < (3, 11):
    import tomli as tomllib
else:
    import tomllib

PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
EXTRAS = PROJECT['optional-dependencies']
MM_PACKAGES = r'(onedl-)?mm(cv|cv-lite|engine|det|detection|segmentation|pretrain)'
PYTHONS = ['3.10.0', '3.11.7', '3.12.1', '3.13.0']


def pins_of(name, python):
    """The pins that `pip install -r requirements/NAME.txt` finds, by package name."""
    found = {}
    where = {'python_full_version': python, 'python_version': python.rpartition('.')[0]}
    for line in (ROOT / f'requirements/{name}.txt').read_text().splitlines():
        if include := re.fullmatch(r'-[rc] (\w+)\.txt', line):
            found |= pins_of(include[1], python)
        elif line and not line.startswith('#'):
            pin = Requirement(line)
            if '==' in str(pin.specifier) and (not pin.marker or pin.marker.evaluate(where)):
                found[canonicalize_name(pin.name)] = str(pin.specifier).removeprefix('==')
    return found


@pytest.mark.parametrize('python', PYTHONS)
@pytest.mark.parametrize('name', ['torch', 'onedl', 'openmmlab', 'dev', 'mim'])
def test_every_requirement_is_pinned_exactly(name, python):
    pins = pins_of(name, python)
    lines = (ROOT / f'requirements/{name}.txt').read_text().splitlines()
    wanted = {canonicalize_name(Requirement(line).name) for line in lines if re.match(r'\w', line)}
    assert wanted
    assert wanted <= pins.keys()
    assert not [version for version in pins.values() if not re.fullmatch(r'[\w.]+', version)]


@pytest.mark.parametrize('python', PYTHONS)
@pytest.mark.parametrize('stack', ['onedl', 'openmmlab'])
def test_the_pins_lie_inside_the_ranges_of_the_package(stack, python):
    pins = pins_of(stack, python) | pins_of('dev', python)
    lines = [*PROJECT['dependencies'], *EXTRAS[stack], *EXTRAS['dev'], *EXTRAS['cam']]
    if stack == 'onedl':  # What tests compare with is installed beside this stack only.
        lines += [*EXTRAS['peers'], *EXTRAS['hub']]
    assert len(lines) > 15
    for wanted in map(Requirement, lines):
        pin = pins[canonicalize_name(wanted.name)]
        assert wanted.specifier.contains(pin), f'{wanted} against {pin}'


def test_the_package_needs_no_openmmlab_package():
    names = {Requirement(line).name for line in PROJECT['dependencies']}
    assert 'torch' in names
    assert not [name for name in names if re.fullmatch(MM_PACKAGES, name)]
    assert [name for name in EXTRAS['onedl'] if re.match(MM_PACKAGES, name)]


def test_the_version_is_that_of_the_changelog():
    # One that is not released yet says so behind its number.
    versions = re.findall(r'^## (\S+)$', (ROOT / 'CHANGELOG.md').read_text(), re.MULTILINE)
    assert versions[0] == mmpoolformer.__version__


def make(*arguments):
    """Run make as a user would, although `make test` may have started this test."""
    hidden = ('MAKEFLAGS', 'MFLAGS', 'MAKELEVEL', 'STACK', 'TASK', 'ARGS', 'PYTHON')
    environ = {name: value for name, value in os.environ.items() if name not in hidden}
    command = ['make', '--no-print-directory', *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    ).stdout


def test_make_alone_shows_every_target():
    targets = re.search(r'^\.PHONY: (.*)', (ROOT / 'Makefile').read_text(), re.MULTILINE)[1].split()
    assert {'help', 'install', 'demo', 'test', 'docs', 'lint', 'format', 'clean'} <= set(targets)
    shown = make()
    assert shown == make('help')
    for target in targets:
        assert re.search(rf'^  {target} +\w', shown, re.MULTILINE), f'{target} is not in the help'


def test_make_passes_the_stack_and_the_arguments_on():
    lines = make('-n', 'test', 'STACK=openmmlab', 'ARGS=-m smoke').splitlines()
    assert any('make_environment.py --stack openmmlab' in line for line in lines)
    assert re.search(r'^\S* ?\.venv-openmmlab/bin/python -m pytest .*-m smoke$', lines[-1])
    assert make('-n', 'bench', 'ARGS=--help').splitlines()[-1].endswith('--help')
    assert make('-n', 'demo').splitlines()[-1].endswith('demo.py --task detection')
