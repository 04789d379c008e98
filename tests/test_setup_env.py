"""The set-up: what it reuses, what it repairs, what it says. No network, no compiler."""

import json
import os
import platform
import re
import runpy
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / 'tools'
MM_PACKAGES = {'mmcv', 'mmengine', 'mmdet', 'mmdetection', 'mmsegmentation', 'mmpretrain'}
PYTHONS = ['3.10.0', '3.11.7', '3.12.1', '3.13.0']

with pytest.MonkeyPatch.context() as patch:
    # For these imports only: tools/ also holds a test.py, which would hide Python's own.
    patch.syspath_prepend(TOOLS)
    import _mmcv_wheel
    import _setup_commands
    import setup_env


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A copy of the pins that a test may change, in place of the real clone."""
    folder = tmp_path / 'clone'
    shutil.copytree(ROOT / 'requirements', folder / 'requirements')
    monkeypatch.setattr(setup_env, 'ROOT', folder)
    return folder


@pytest.fixture
def env(clone):
    """An environment that looks finished: a Python that runs, two packages, a stamp."""
    environment = setup_env.Environment('onedl', clone / '.venv')
    environment.python.parent.mkdir(parents=True)
    environment.python.symlink_to(sys.executable)
    for name in ('torch-2.11.0', 'onedl_mmcv-2.3.6'):
        package = environment.site_packages / f'{name}.dist-info'
        package.mkdir(parents=True)
        (package / 'INSTALLER').write_text('pip')
    environment.write_stamp()
    return environment


@pytest.fixture
def real_venv(clone):
    """A real environment that borrows pip from the Python that makes it."""
    folder = clone / '.venv'
    venv.create(folder, symlinks=True, system_site_packages=True)
    (folder / 'bin' / 'pip').write_text(f'#!{folder}/bin/python3\n')
    return setup_env.Environment('onedl', folder)


@pytest.fixture
def no_compiler(tmp_path, monkeypatch):
    """A machine without compilers and with an empty cache, whose folder is returned."""
    (tmp_path / 'empty').mkdir()
    monkeypatch.setenv('PATH', str(tmp_path / 'empty'))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.delenv('CXX', raising=False)
    return tmp_path / 'cache' / 'mmpoolformer' / 'wheels'


def wheel_name(package='onedl_mmcv-2.3.6', tag=_mmcv_wheel.PYTHON_TAG, machine=None):
    return f'{package}-{tag}-{tag}-linux_{machine or platform.machine()}.whl'


@pytest.mark.parametrize(
    ('probe', 'environ', 'device'),
    [
        ({'gpu_archs': [], 'nvcc': True}, {}, 'cpu'),
        ({'gpu_archs': ['sm90'], 'nvcc': False}, {}, 'cpu'),
        ({'gpu_archs': ['sm80', 'sm90'], 'nvcc': True}, {}, 'cuda-sm80_sm90'),
        ({'gpu_archs': [], 'nvcc': True}, {'FORCE_CUDA': '1'}, 'cuda-default'),
        (
            {'gpu_archs': ['sm90'], 'nvcc': True},
            {'TORCH_CUDA_ARCH_LIST': '8.0;9.0+PTX'},
            'cuda-8.0_9.0+PTX',
        ),
    ],
)
def test_wheel_key_names_all_that_a_binary_depends_on(probe, environ, device):
    key = _mmcv_wheel.wheel_key({'torch': '2.11.0+cu130', **probe}, environ)
    tag = f'cp{sys.version_info[0]}{sys.version_info[1]}'
    assert key == f'{tag}-torch2.11.0+cu130-{device}'


@pytest.mark.parametrize(
    'other',
    [
        wheel_name('onedl_mmcv-2.3.5'),
        wheel_name('mmcv-2.3.6'),
        wheel_name(tag='cp39'),
        wheel_name(machine='riscv64'),
        f'building-x/{wheel_name()}',
    ],
)
def test_only_a_fitting_finished_wheel_is_reused(tmp_path, other):
    (tmp_path / 'building-x').mkdir()
    (tmp_path / other).touch()
    assert _mmcv_wheel.find_wheel(tmp_path, 'onedl-mmcv==2.3.6') is None
    (tmp_path / wheel_name()).touch()
    assert _mmcv_wheel.find_wheel(tmp_path, 'onedl-mmcv==2.3.6') == tmp_path / wheel_name()


def test_a_stamped_environment_is_ready(env):
    assert env.is_ready()
    (env.site_packages / 'another-1.0.dist-info').mkdir()
    assert env.is_ready(), 'a package that the user adds must not cost a set-up'
    assert not setup_env.Environment('openmmlab', env.folder).is_ready()


@pytest.mark.parametrize('name', ['torch', 'onedl', 'dev', 'mim', 'constraints'])
def test_a_changed_pin_makes_the_stamp_void(env, clone, name):
    with (clone / 'requirements' / f'{name}.txt').open('a') as pins:
        pins.write('einops==0.8.1\n')
    assert not env.is_ready()


@pytest.mark.parametrize(
    'damage', ['no package', 'no python', 'no stamp', 'cut stamp', 'odd stamp']
)
def test_damage_makes_the_stamp_void(env, damage):
    if damage == 'no package':
        shutil.rmtree(env.site_packages / 'torch-2.11.0.dist-info')
    elif damage == 'no python':
        env.python.unlink()
        env.python.symlink_to('/nowhere/python3')
    elif damage == 'no stamp':
        env.stamp.unlink()
    else:
        env.stamp.write_text(env.stamp.read_text()[:40] if damage == 'cut stamp' else '[]')
    assert not env.is_ready()


def test_a_moved_environment_is_not_ready(env, clone):
    moved = shutil.move(env.folder, clone / 'elsewhere')
    assert (Path(moved) / setup_env.STAMP).exists()
    assert not setup_env.Environment('onedl', Path(moved)).is_ready()


def test_a_set_up_that_fails_leaves_no_stamp(env, monkeypatch):
    def fail(*_):
        raise setup_env.SetupError('stopped here')

    monkeypatch.setattr(setup_env, 'make_venv', fail)
    with pytest.raises(setup_env.SetupError, match='stopped here'):
        setup_env.install(env, 'onedl-mmcv==2.3.6')
    assert not env.is_ready()


def test_what_is_wrong_with_an_environment_is_named(real_venv):
    assert setup_env.venv_problem(real_venv) is None
    moved = setup_env.Environment('onedl', real_venv.folder.parent / 'moved')
    shutil.move(real_venv.folder, moved.folder)
    assert setup_env.venv_problem(moved) == 'it was made in another folder and moved'
    (moved.folder / 'bin' / 'pip').unlink()
    assert setup_env.venv_problem(moved) == 'it has no working pip'
    moved.python.unlink()
    assert setup_env.venv_problem(moved) == 'there is no Python in it'
    moved.python.symlink_to('/nowhere/python3')
    assert setup_env.venv_problem(moved) == 'the Python it was made with is gone'


def test_a_broken_environment_is_made_again(env, monkeypatch, capsys):
    commands = []
    monkeypatch.setattr(setup_env, 'run_logged', lambda command, *_: commands.append(command))
    env.log.write_text('an earlier log')
    setup_env.make_venv(env)
    assert 'it has no working pip. It is made again' in capsys.readouterr().out
    assert [command[1:] for command in commands] == [['-m', 'venv', str(env.folder)]]
    assert [path.name for path in env.folder.iterdir()] == [setup_env.LOG]


def test_a_folder_made_by_someone_else_is_left_alone(clone):
    folder = clone / 'notes'
    folder.mkdir()
    (folder / 'precious.txt').write_text('mine')
    with pytest.raises(setup_env.SetupError, match='left as it is'):
        setup_env.make_venv(setup_env.Environment('onedl', folder))
    assert (folder / 'precious.txt').read_text() == 'mine'


def test_half_installed_packages_are_removed(env):
    (env.site_packages / 'torch-2.11.0.dist-info' / 'INSTALLER').unlink()
    (env.site_packages / '~umpy').mkdir()
    setup_env.remove_half_installed(env)
    assert {path.name for path in env.site_packages.iterdir()} == {'onedl_mmcv-2.3.6.dist-info'}


def test_without_a_compiler_the_first_thing_said_is_how_to_get_one(no_compiler, tmp_path):
    command = [sys.executable, TOOLS / 'setup_env.py', '--venv', tmp_path / 'env']
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stdout == ''
    assert 'no C++ compiler was found' in result.stderr
    for help_line in ('sudo apt install', 'sudo dnf install', 'xcode-select --install'):
        assert help_line in result.stderr
    assert 'Traceback' not in result.stderr
    assert not (tmp_path / 'env').exists()


def test_with_a_cached_wheel_no_compiler_is_needed(no_compiler):
    folder = no_compiler / f'{_mmcv_wheel.PYTHON_TAG}-torch2.11.0+cu130-cpu'
    folder.mkdir(parents=True)
    with pytest.raises(setup_env.SetupError, match='compiled once'):
        _mmcv_wheel.check_compilable('onedl-mmcv==2.3.6', '2.11.0')
    (folder / wheel_name()).touch()
    _mmcv_wheel.check_compilable('onedl-mmcv==2.3.6', '2.11.0')


def test_the_users_choice_of_compiler_counts(no_compiler, monkeypatch):
    monkeypatch.setenv('CXX', f'{sys.executable} -B')
    assert _mmcv_wheel.find_compiler() == f'{sys.executable} -B'
    monkeypatch.setenv('CXX', '/nowhere/g++')
    with pytest.raises(setup_env.SetupError, match='CXX=/nowhere/g\\+\\+ does not run'):
        _mmcv_wheel.find_compiler()


@pytest.mark.parametrize(
    ('output', 'sentence'),
    [
        ('OSError: [Errno 28] No space left on device', 'The disk is full'),
        ('fatal error: Python.h: No such file or directory', 'The C headers of Python'),
        ('g++: fatal error: Killed signal terminated program cc1plus', 'MAX_JOBS=1'),
        ('socket.gaierror: Temporary failure in name resolution', 'The package index'),
        ('ImportError: libGL.so.1: cannot open shared object file', 'libgl1'),
        ('a.cpp:3: error: odd thing\n' + 'what pip says\n' * 30, 'a.cpp:3: error: odd thing\n'),
    ],
)
def test_a_failure_is_explained(tmp_path, output, sentence):
    log = tmp_path / 'log'
    command = [sys.executable, '-c', f'print({output!r}); raise SystemExit(3)']
    with pytest.raises(setup_env.SetupError) as caught:
        _setup_commands.run_logged(command, log, 'Trying')
    message = str(caught.value)
    assert sentence in message
    assert f'The whole output: {log}' in message
    assert len(message.splitlines()) < 25
    assert output in log.read_text()


def test_stopping_a_command_ends_what_it_started(tmp_path, monkeypatch):
    pipe_out, pipe_in = os.pipe()
    os.set_inheritable(pipe_in, True)

    def press_ctrl_c(*_):
        os.close(pipe_in)
        assert os.read(pipe_out, 2) == b'on', 'the grandchild did not start'
        raise KeyboardInterrupt

    monkeypatch.setattr(_setup_commands, 'show_until_done', press_ctrl_c)
    grandchild = f'import os, time; os.write({pipe_in}, b"on"); time.sleep(20)'
    child = (
        'import subprocess, sys; '
        f'subprocess.run([sys.executable, "-c", {grandchild!r}], close_fds=False)'
    )
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        _setup_commands.run_logged([sys.executable, '-c', child], tmp_path / 'log', 'Sleeping')
    # The pipe ends when the last process that inherited it does.
    assert os.read(pipe_out, 2) == b''
    assert time.monotonic() - started < 10
    os.close(pipe_out)


def test_a_second_set_up_waits_for_the_first(tmp_path):
    lock = tmp_path / 'lock'
    script = 'from _setup_commands import *\nwith locked(Path("lock"), "waiting"): print("inside")'
    with _setup_commands.locked(lock, ''):
        second = subprocess.Popen(
            [sys.executable, '-u', '-c', script],
            stdout=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, 'PYTHONPATH': str(TOOLS)},
        )
        assert second.stdout.readline() == 'waiting\n'
    assert second.communicate(timeout=20)[0] == 'inside\n'


@pytest.fixture(scope='module')
def package():
    """What setup.py passes to setuptools."""
    passed = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('setuptools.setup', lambda **arguments: passed.update(arguments))
        runpy.run_path(str(ROOT / 'setup.py'), run_name='__main__')
    return passed


def pins_of(name, python):
    """The pins that `pip install -r requirements/NAME.txt` finds, by package name."""
    found = {}
    where = {'python_full_version': python, 'python_version': python.rpartition('.')[0]}
    for line in (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines():
        include = re.fullmatch(r'-[rc] (\w+)\.txt', line)
        if include:
            found |= pins_of(include[1], python)
        elif line and not line.startswith('#'):
            pin = Requirement(line)
            if '==' in str(pin.specifier) and (not pin.marker or pin.marker.evaluate(where)):
                found[pin.name] = str(pin.specifier).removeprefix('==')
    return found


@pytest.mark.parametrize('python', PYTHONS)
@pytest.mark.parametrize('name', ['torch', 'onedl', 'openmmlab', 'dev'])
def test_every_requirement_is_pinned_exactly(name, python):
    pins = pins_of(name, python)
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    wanted = {Requirement(line).name for line in lines if re.match(r'\w', line)}
    assert wanted
    assert wanted <= pins.keys()
    assert not [version for version in pins.values() if not re.fullmatch(r'[\w.]+', version)]


@pytest.mark.parametrize('python', PYTHONS)
@pytest.mark.parametrize('extra', ['onedl', 'openmmlab', 'dev'])
def test_the_pins_lie_inside_the_ranges_of_setup_py(package, extra, python):
    pins = pins_of('torch', python) | pins_of('dev', python) | pins_of(extra, python)
    ranges = [Requirement(line) for line in package['extras_require'][extra]]
    ranges += [Requirement(line) for line in package['install_requires']]
    assert len(ranges) > 6
    for wanted in ranges:
        assert wanted.specifier.contains(pins[wanted.name]), f'{wanted} against {pins[wanted.name]}'


def test_the_package_needs_no_openmmlab_package(package):
    names = {Requirement(line).name for line in package['install_requires']}
    assert 'torch' in names
    assert not {name.removeprefix('onedl-') for name in names} & MM_PACKAGES
    assert package['python_requires'] == '>=3.10'
    assert 'mmpoolformer' in package['packages']
    assert (
        f"__version__ = '{package['version']}'" in (ROOT / 'mmpoolformer/__init__.py').read_text()
    )


def make(*arguments):
    """Runs make as a user would, although `make test` may have started this test."""
    hidden = ('MAKEFLAGS', 'MFLAGS', 'MAKELEVEL', 'STACK', 'TASK', 'ARGS', 'PYTHON')
    environ = {name: value for name, value in os.environ.items() if name not in hidden}
    command = ['make', '--no-print-directory', *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    ).stdout


def test_make_alone_shows_every_target():
    makefile = (ROOT / 'Makefile').read_text()
    targets = re.search(r'^\.PHONY: (.*)', makefile, re.MULTILINE)[1].split()
    assert {'help', 'install', 'demo', 'test', 'lint', 'format', 'clean'} <= set(targets)
    shown = make()
    assert shown == make('help')
    for target in targets:
        assert re.search(rf'^  {target} +\w', shown, re.MULTILINE), f'{target} is not in the help'


def test_make_passes_the_stack_and_the_arguments_on():
    lines = make('-n', 'test', 'STACK=openmmlab', 'ARGS=-m smoke').splitlines()
    assert 'python3 tools/setup_env.py --stack openmmlab' in lines
    assert lines[-1] == '.venv-openmmlab/bin/python -m pytest -m smoke'
    assert make('-n', 'demo').splitlines()[-1].endswith('tools/demo.py --task detection')


def test_stamps_name_what_they_vouch_for(env):
    stamp = json.loads(env.stamp.read_text())
    assert stamp['packages'] == ['onedl_mmcv-2.3.6.dist-info', 'torch-2.11.0.dist-info']
