"""The notebook runs from its first cell to its last, and is stored without what it shows."""

import shutil
from copy import deepcopy

import nbformat
import pytest
from nbclient import NotebookClient
from processes import ROOT, environment

NOTEBOOK = nbformat.read(ROOT / 'docs/tutorial.ipynb', as_version=4)
CODE = [cell for cell in NOTEBOOK.cells if cell.cell_type == 'code']


def test_the_notebook_is_stored_without_outputs():
    assert CODE
    assert not [cell for cell in CODE if cell.outputs or cell.execution_count]


@pytest.mark.slow
def test_the_notebook_trains_a_detector(tmp_path):
    for name in ('configs', 'tools'):
        shutil.copytree(ROOT / name, tmp_path / name)
    client = NotebookClient(deepcopy(NOTEBOOK), timeout=120, kernel_name='python3')
    client.execute(cwd=str(tmp_path), env=environment(PYTHONPATH=str(ROOT)))
    shown = [
        str(output.get('text') or output.get('data'))
        for cell in client.nb.cells
        for output in cell.get('outputs', [])
    ]
    assert sum('image/png' in text for text in shown) == 3
    text = '\n'.join(shown)
    assert 'The train and val data have 6 classes' in text
    assert 'Epoch(train)' in text
    assert 'bbox_mAP_copypaste' in text
    assert 'stage 3, stride 32: (128, ' in text
    assert (tmp_path / 'work_dirs/tutorial/run/epoch_2.pth').is_file()
