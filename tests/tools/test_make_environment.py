"""The set-up: what it keeps, what it makes anew, what it says. Nothing is installed."""

import runpy
import subprocess

import pytest
from processes import ROOT

MAIN = runpy.run_path(str(ROOT / 'tools/maintenance/make_environment.py'))['main']


@pytest.fixture
def make(monkeypatch, capsys):
    """Run the script in a folder, without pip; give what it says and its exit status."""

    def call(clone, failure=None):
        def run(command, **options):
            if 'pip' not in command:
                subprocess.run([*command, *['--without-pip'] * ('venv' in command)], check=True)
            elif failure:
                raise failure

        MAIN.__globals__.update(ROOT=clone, run=run, IMPORTS='')
        monkeypatch.setattr('sys.argv', ['make_environment.py'])
        code = MAIN()
        return f'{capsys.readouterr().out}{code}'

    return call


def test_what_is_there_is_kept_if_it_can_be(make, tmp_path):
    (clone := tmp_path / 'clone').mkdir()
    assert '[1/4] Making .venv ...\n' in make(clone)
    (clone / '.venv/mark').touch()
    assert make(clone) == '.venv is ready.\n0'
    (clone / 'setup.py').write_text('changed')
    assert 'what it needs has changed' in make(clone)
    moved = clone.rename(tmp_path / 'moved')
    assert (moved / '.venv/mark').exists()
    assert 'anew: the one there is made for onedl, python3' in make(moved)
    assert not (moved / '.venv/mark').exists()
    (moved / '.venv/bin/python').unlink()
    assert 'anew: the one there is broken' in make(moved)


def test_failure_says_what_to_do_and_all_is_begun_anew(make, tmp_path):
    said = '\nStopped. Run the same command again to continue.\n130'
    assert make(tmp_path, KeyboardInterrupt()).endswith(said)
    no_gl = subprocess.CalledProcessError(3, '', stderr='libGL.so.1: cannot open shared object')
    assert 'anew: the one there is unfinished' in (said := make(tmp_path, no_gl))
    assert 'sudo apt install libgl1' in said
    assert said.endswith('run the same command again.\n3')


def test_environment_made_by_somebody_else_is_left_alone(make, tmp_path):
    (tmp_path / '.venv/mine').mkdir(parents=True)
    with pytest.raises(SystemExit, match='not made by this tool: remove it'):
        make(tmp_path)
    assert (tmp_path / '.venv/mine').exists()
