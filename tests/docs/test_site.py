"""The site builds without a warning or the network, and what the pages name is there."""

import re
import subprocess
import sys
from itertools import pairwise

import pytest
from markdown_it import MarkdownIt
from pages import PAGES, blocks
from processes import ROOT, environment

from mmpoolformer import ARCHS
from mmpoolformer.zoo.paper_results import ABLATIONS

OURS = [page for page in PAGES if not page.endswith(('models.md', 'ops/README.md'))]


@pytest.mark.slow
def test_the_site_builds_strictly(tmp_path):
    command = [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', tmp_path]
    # Whoever asked the network for something would fail.
    blocked = dict.fromkeys(('http_proxy', 'https_proxy'), 'http://127.0.0.1:9')
    result = subprocess.run(
        command, cwd=ROOT, env=environment(**blocked), capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]
    made = {path.stem for path in tmp_path.glob('*.html')} - {'404'}
    assert made == {path.stem for path in ROOT.glob('docs/*.md')}
    models = (tmp_path / 'models.html').read_text()
    source = re.search(r'href="(repository/configs/\S+poolformer_s12_in1k\.py\.txt)"', models)
    assert 'Published' in (tmp_path / source[1]).read_text()
    assert 'id="algebra"' in (tmp_path / 'speed.html').read_text()
    api = (tmp_path / 'api.html').read_text()
    assert 'id="mmpoolformer.create_model"' in api
    assert ':func:' not in api
    outside = re.findall(r'<(?:link|script|img)[^>]+(?:src|href)="?https?:[^>]+', api + models)
    assert not outside


@pytest.mark.parametrize('page', OURS)
def test_links_and_named_files_are_there(page):
    text = (ROOT / page).read_text(encoding='utf-8')
    anchors = {}
    for target, _, anchor in re.findall(r'\]\((?!https?:)([^)#]*)(#([^)]+))?\)', text):
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), f'{page} links to {target}'
        if anchor:
            anchors.setdefault(path, headings(path))
            assert anchor in anchors[path], f'{page} links to {target}#{anchor}'
    written = {line for block in blocks(page) for line in block.text.splitlines()[:1]}
    for name in re.findall(r'(?<![\w/])(?:configs|tools|tests|benchmarks)/[\w./-]*\w', text):
        assert (ROOT / name).exists() or f'# {name}' in written, f'{page} names {name}'


def headings(path) -> set[str]:
    """Return the anchors that GitHub and mkdocs make of a page's headings."""
    tokens = MarkdownIt().parse(path.read_text(encoding='utf-8'))
    titles = [t.content for previous, t in pairwise(tokens) if previous.type == 'heading_open']
    return {re.sub(r'\s+', '-', re.sub(r'[^\w\s-]', '', title.lower())) for title in titles}


def test_the_readme_is_short():
    lines = (ROOT / 'README.md').read_text(encoding='utf-8').splitlines()
    assert len(lines) <= 130
    assert not [line for line in lines if len(line) >= 120]


def test_published_numbers_are_those_of_the_table():
    text = (ROOT / 'docs/family.md').read_text(encoding='utf-8')
    rows = re.findall(r'^\| `(\w+)` \| .+ \| (\w+) .+ \| ([\d.]+) \|$', text, re.MULTILINE)
    assert len(rows) == 6
    for family, size, top1 in rows:
        assert ARCHS[f'{family.lower()}_{size}'].weights['in1k'].top1 == float(top1)
    said = 'without a mixer (.+), without norms (.+), without channel MLPs (.+), without residual '
    found = re.search(said + 'connections (.+) %. With', text.replace('\n', ' ')).groups()
    names = ('identity', 'no_norm', 'no_mlp', 'no_residual')
    assert [ABLATIONS[f'poolformer_s12_{n}_in1k'].top1 for n in names] == [*map(float, found)]


@pytest.mark.parametrize('page', ['README.md', 'docs/speed.md'])
def test_times_are_those_of_the_measurements(page):
    text = (ROOT / page).read_text(encoding='utf-8').replace('\n', ' ')
    times = [
        time for found in re.findall(r'(\d+)(?: to (\d+))? ms', text) for time in found if time
    ]
    measured = (ROOT / 'mmpoolformer/ops/README.md').read_text(encoding='utf-8')
    assert times
    assert not [time for time in times if f'| {time} |' not in measured]
