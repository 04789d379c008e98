"""Write ``reference.npz``: what mmcv's own operators, compiled, return for the calls in cases.py.

    python tests/mmcv_operators/make_reference.py

It needs a compiled mmcv (docs/openmmlab.md, "mmcv's operators") and was run with onedl-mmcv 2.3.6
on a CPU.
"""

import sys
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parent)]

from operator_calls import all_calls  # noqa: E402

from mmpoolformer.mmcv_operators import are_compiled  # noqa: E402

if not are_compiled():
    sys.exit("These must be mmcv's own operators: compile mmcv first.")
arrays = {
    f'{name}: {i}': value.numpy() for name, values in all_calls() for i, value in enumerate(values)
}
# Eight masks to a byte, their shape beside them.
masks = arrays.pop('mask_rcnn: 3')
arrays['mask_rcnn: 3'] = np.packbits(masks)
np.savez_compressed(FOLDER / 'reference.npz', **arrays)
print(f'{len(arrays)} arrays, {(FOLDER / "reference.npz").stat().st_size} bytes')
