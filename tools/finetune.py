"""Train a detector, segmenter or classifier on a folder of your own pictures, in one command."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

from mmengine.config import Config
from rich.console import Console
from rich.table import Table

from mmpoolformer import CheckpointError, preflight
from mmpoolformer.checkpoint import fetch
from mmpoolformer.datasets.folders import (
    READERS,
    Folder,
    FolderError,
    read_folder,
    with_splits,
    write_annotations,
)
from mmpoolformer.engine.commands import run_python
from mmpoolformer.engine.launch import fail, refuse_problems
from mmpoolformer.engine.results import load_pictures, read_scores
from mmpoolformer.finetuning import METHODS, Places, Recipe, Wishes, choose, config_text, shown
from mmpoolformer.vis.overlay import distinct_colours
from mmpoolformer.vis.runs import draw_curves, draw_grid, read_scalars
from mmpoolformer.zoo.archs import ARCHS

TOOLS = Path(__file__).resolve().parent
CONFIGS = TOOLS.parent / 'configs'
COLUMNS = 6  # Of the picture of predictions.
MOST_ROWS = 20  # Of the table of classes.


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog='Formats: COCO json, YOLO, Pascal VOC, masks, class folders.'
    )
    parser.add_argument('data', help='the folder, or its COCO json or data.yaml')
    parser.add_argument('--format', choices=READERS, help='where the folder holds several')
    parser.add_argument('--method', choices=METHODS, help='default: what the labels ask for')
    parser.add_argument('--model', choices=ARCHS, default='poolformer_s12', metavar='NAME')
    parser.add_argument('--epochs', type=positive)
    parser.add_argument(
        '--weights',
        metavar='NAME|PATH|none',
        help="what the backbone starts from; default: the authors' ImageNet weights",
    )
    parser.add_argument('--name', help='of the config; default: <method>_<model>_<folder>')
    parser.add_argument('--work-dir', type=Path, help='default: work_dirs/<name>')
    parser.add_argument('--val-fraction', type=fraction, default=0.2, help='where there is no val')
    parser.add_argument('--image-size', type=positive, metavar='PIXELS', help='short side')
    parser.add_argument('--batch-size', type=positive)
    parser.add_argument('--lr', type=float, help='learning rate')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--amp', action='store_true', help='train in mixed precision')
    parser.add_argument('--dry-run', action='store_true', help='write the config and stop')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE')
    return parser.parse_args()


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is no whole number above 0')
    return int(text)


def fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is no number between 0 and 1')
    return value


def describe(folder: Folder, console: Console) -> None:
    """Print what was found: pictures, splits, objects of each class, and what is odd."""
    sizes = sorted(picture.size for picture in folder.pictures)
    smallest, middle, largest = sizes[0], sizes[len(sizes) // 2], sizes[-1]
    console.print(
        f'\n{folder.root}: {len(folder.pictures):,} pictures, read as {folder.format}, '
        f'{smallest[0]}x{smallest[1]} to {largest[0]}x{largest[1]} pixels '
        f'(median {middle[0]}x{middle[1]})',
        highlight=False,
        markup=False,
    )
    splits = [split for split in ('train', 'val', 'test') if folder.of(split)]
    counts = [folder.objects(folder.of(split)) for split in splits]
    unit = 'objects' if folder.format in ('coco', 'yolo', 'voc') else 'pictures'
    table = Table('class', *splits, title=f'{unit} of each class', title_justify='left')
    for row, name in enumerate(folder.classes[:MOST_ROWS]):
        table.add_row(name, *(f'{count[row]:,}' for count in counts))
    if len(folder.classes) > MOST_ROWS:
        table.add_row(f'and {len(folder.classes) - MOST_ROWS} more', *('...' for _ in splits))
    table.add_section()
    table.add_row('pictures', *(f'{len(folder.of(split)):,}' for split in splits))
    console.print(table)
    for finding in folder.findings:
        console.print(f'! {finding}', highlight=False, markup=False)


def print_choices(recipe: Recipe, console: Console) -> None:
    """Print what was chosen, and why."""
    table = Table('choice', 'value', 'why')
    for choice in recipe.choices:
        table.add_row(choice.name, choice.value, choice.why)
    console.print(table)


def name_of(args: argparse.Namespace, recipe: Recipe, root: Path) -> str:
    """Return the name of the config, which no shipped config has: mim finds them by name."""
    taken = {path.stem for path in CONFIGS.rglob('*.py')}
    if args.name:
        if not re.fullmatch(r'[\w.-]+', args.name) or args.name in taken:
            fail(f'--name {args.name}: letters, digits, _ and -, and no name of a shipped config.')
        return args.name
    data = re.sub(r'\W+', '_', root.resolve().name).strip('_').lower() or 'data'
    prefix = '' if recipe.method == 'classifier' else f'{recipe.method}_'
    name = f'{prefix}{recipe.model}_{data}'
    return f'{name}_finetuned' if name in taken else name


def write(folder: Folder, recipe: Recipe, work_dir: Path, name: str) -> Path:
    """Write labels and config; a config that was changed by hand is left alone."""
    config = work_dir / f'{name}.py'
    annotations = work_dir / 'annotations'
    splits = [split for split in ('train', 'val', 'test') if folder.of(split)]
    places = Places(config, CONFIGS, folder.root, annotations, splits)
    text = config_text(recipe, folder.classes, places)
    if config.is_file() and config.read_text() != text:
        fail(
            f'{shown(config)} is there, and is another than this command would write. Train with '
            f'it as it is:\n  python {shown(TOOLS / "train.py")} {shown(config)}\n'
            'or choose another --name.'
        )
    write_annotations(folder, annotations, METHODS[recipe.method].writes)
    config.write_text(text)
    return config


def find_weights(recipe: Recipe) -> None:
    """Have the weights here before anything is trained, or say what there is to choose."""
    if recipe.weights is None:
        return
    try:
        fetch(recipe.weights)
    except CheckpointError as error:
        fail(
            f'{error.args[0].split(" Without network")[0]}\nChoose:\n'
            f'  --weights PATH   a file that you have fetched elsewhere{where_from(recipe)}\n'
            '  --weights none   from scratch, which needs more pictures and more time'
        )


def where_from(recipe: Recipe) -> str:
    released = ARCHS[recipe.model].weights
    return f', e.g. {next(iter(released.values())).url}' if released else ''


def run(tool: str, *arguments: str | Path) -> None:
    """Run one of the tools, and end with its status if it fails; it has said why."""
    words = [shown(TOOLS / f'{tool}.py'), *map(str, arguments)]
    print(f'\n$ python {shlex.join(words)}', flush=True)
    run_python(words)


def checkpoint_of(work_dir: Path) -> Path:
    """Return the best checkpoint of a run by its validations, or else the last."""
    best = sorted(work_dir.glob('best_*.pth'), key=lambda path: path.stat().st_mtime)
    return best[-1] if best else Path((work_dir / 'last_checkpoint').read_text().strip())


def show_results(config: Path, recipe: Recipe, work_dir: Path, dump: Path) -> dict[str, float]:
    """Draw predictions beside ground truth, and the curves; return the scores."""
    cfg = Config.fromfile(config)
    metrics = METHODS[recipe.method].metrics
    classes = cfg.test_dataloader.dataset.metainfo.classes
    pictures = load_pictures(cfg, dump, COLUMNS)
    if pictures[0]:
        draw_grid(work_dir / 'predictions.png', *pictures, classes, distinct_colours(len(classes)))
    draw_curves(work_dir / 'curves.png', read_scalars(work_dir), metrics)
    return read_scores(work_dir / 'test', metrics)


def main() -> None:
    args = parse_args()
    console = Console(soft_wrap=True)
    try:
        folder = read_folder(args.data, args.format)
        folder = with_splits(folder, args.val_fraction, args.seed)
        describe(folder, console)
        wishes = Wishes(
            method=args.method,
            model=args.model,
            epochs=args.epochs,
            image_size=args.image_size,
            batch_size=args.batch_size,
            lr=args.lr,
            weights=args.weights,
            seed=args.seed,
        )
        recipe = choose(folder, wishes)
        print_choices(recipe, console)
        name = name_of(args, recipe, folder.root)
        work_dir = args.work_dir or Path('work_dirs') / name
        config = write(folder, recipe, work_dir, name)
    except FolderError as error:
        fail(str(error))
    except OSError as error:
        fail(f'{error.filename}: {error.strerror}.')
    print(f'\nThe config: {shown(config)}')
    refuse_problems(preflight.check(Config.fromfile(config)), shown(config))
    if args.dry_run:
        return
    find_weights(recipe)
    options = ['--cfg-options', *args.cfg_options] if args.cfg_options else []
    common = ['--work-dir', work_dir]
    run('train', config, *common, *(['--amp'] if args.amp else []), *options)
    checkpoint, dump = checkpoint_of(work_dir), work_dir / 'test' / 'predictions.pkl'
    run('test', config, shown(checkpoint), '--work-dir', work_dir / 'test', '--out', dump, *options)
    scores = show_results(config, recipe, work_dir, dump)
    print_end(config, checkpoint, folder, scores)


def print_end(config: Path, checkpoint: Path, folder: Folder, scores: dict[str, float]) -> None:
    """Print the scores, where the pictures are, and the next three commands."""
    split = 'test' if folder.of('test') else 'val'
    listed = ', '.join(f'{name} {score:.3f}' for name, score in scores.items())
    print(f'\nOn the {len(folder.of(split)):,} pictures of {split}: {listed}')
    print(f'  {shown(config.parent / "predictions.png")}   beside the ground truth')
    print(f'  {shown(config.parent / "curves.png")}')
    words = f'{shown(config)} {shown(checkpoint)}'
    print(
        f'\nNext:\n  python {shown(TOOLS / "visualize.py")} {words} PICTURES\n'
        f'  python {shown(TOOLS / "test.py")} {words}\n'
        f'  python {shown(TOOLS / "train.py")} {shown(config)}   # after changing it'
    )


if __name__ == '__main__':
    main()
