"""Make Shapes, the built-in data set, in COCO, ADE20K and ImageNet layout.

Example:
    python -m mmpoolformer.datasets.shapes --root data/shapes --preview shapes.png
"""

import argparse
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import cv2
from tqdm import tqdm

from mmpoolformer.datasets.shapes import CLASSES, draw_preview, generate

PROGRAM = 'python -m mmpoolformer.datasets.shapes'


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # One line: argparse would print the whole usage before it.
        self.exit(2, f'{self.prog}: error: {message} (see --help)\n')


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = _Parser(
        prog=PROGRAM,
        description='Make Shapes, a synthetic data set for detection, segmentation and '
        'classification. If it is already there, nothing is done.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('--root', type=Path, default=Path('data/shapes'), help='folder to make')
    parser.add_argument('--num-train', type=int, default=512, help='training scenes')
    parser.add_argument('--num-val', type=int, default=64, help='validation scenes')
    parser.add_argument('--num-crops', type=int, default=768, help='training crops of one object')
    parser.add_argument('--size', type=int, default=128, help='longest possible side in pixels')
    parser.add_argument('--seed', type=int, default=0, help='same seed, same bytes')
    parser.add_argument(
        '--overwrite', action='store_true', help='replace Shapes made with other parameters'
    )
    parser.add_argument('--preview', type=Path, metavar='PNG', help='also draw an overview')
    args = parser.parse_args()
    if args.preview and args.preview.suffix.lower() != '.png':
        parser.error(f'--preview {args.preview}: the file name must end in .png')
    return args


def main() -> None:
    """Make the data set, say what is in it, and draw the overview if asked to."""
    args = parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the clean-up runs
    options = {key: value for key, value in vars(args).items() if key != 'preview'}
    try:
        info = generate(**options, progress=partial(tqdm, desc='Shapes', unit='picture'))
        print(summary(args.root, info))
        if args.preview:
            write_preview(args.root, args.preview)
    except ValueError as error:
        fail(str(error), 2)
    except FileExistsError as error:
        fail(f'{error}'.replace('overwrite it', 'pass --overwrite'), 1)
    except OSError as error:
        fail(f'cannot write: {error}', 1)
    except KeyboardInterrupt:
        fail('interrupted; no half-made data set is left', 130)


def fail(message: str, code: int) -> NoReturn:
    """End the process with one line on stderr."""
    print(f'{PROGRAM}: error: {message}', file=sys.stderr)
    sys.exit(code)


def summary(root: Path, info: dict[str, Any]) -> str:
    """Two small tables: sizes and other properties, then objects per class."""
    lines = [
        f'Shapes is in {root} (size {info["parameters"]["size"]} px, '
        f'seed {info["parameters"]["seed"]})'
    ]
    columns = ('images', 'empty', 'objects', 'small', 'medium', 'large', 'truncated', 'crops')
    for names in (columns, CLASSES):
        lines.append('       ' + ''.join(f'{name:>10}' for name in names))
        for split, counts in info['statistics'].items():
            lines.append(f'{split:7}' + ''.join(f'{counts.get(name, 0):>10}' for name in names))
    return '\n'.join(lines)


def write_preview(root: Path, path: Path) -> None:
    """Write the overview as png."""
    _, data = cv2.imencode('.png', draw_preview(root)[..., ::-1])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.tobytes())
    print(f'overview: {path}')


if __name__ == '__main__':
    main()
