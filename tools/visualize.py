"""Draw what a trained model finds in images, what it looks at, or its features."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from tqdm import tqdm

from mmpoolformer import preflight
from mmpoolformer.engine.launch import (
    add_config_arguments,
    device_problem,
    fail,
    load_config,
    plain_errors,
    refuse_problems,
    stop,
    task_of,
)
from mmpoolformer.inference.trained_model import (
    CAM_METHODS,
    ImageError,
    ModelError,
    Sample,
    TrainedModel,
)
from mmpoolformer.preflight.problem import count, some
from mmpoolformer.vis.images import draw_activation, draw_features, draw_prediction, draw_scores

NEEDS = ('model', 'test_dataloader')
KINDS = ('cam', 'features', 'predictions')
SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.webp')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='e.g. configs/classification/poolformer_s12_in1k.py')
    parser.add_argument('checkpoint', help='file, address or metaformer://NAME')
    parser.add_argument('images', type=Path, help='an image, or a folder with subfolders')
    parser.add_argument(
        '--out', type=Path, metavar='DIR', help='default: work_dirs/visualize/<config>/'
    )
    parser.add_argument(
        '--kind',
        choices=['auto', *KINDS],
        default='auto',
        help='cam: where a classifier sees a class; features: maps of each stage; predictions: '
        'boxes, masks, segmentations or the highest scores; auto (default): cam for classifiers, '
        'predictions for others',
    )
    parser.add_argument(
        '--target-class', metavar='NAME', help="cam's class, or its index (default: the predicted)"
    )
    parser.add_argument('--method', choices=CAM_METHODS, default='gradcam', help="cam's method")
    parser.add_argument(
        '--stage',
        type=int,
        choices=range(4),
        help="cam's stage (default: 3, the last, or an earlier one for images below 128 pixels)",
    )
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help='leave out boxes below it (default: 0.3)'
    )
    parser.add_argument('--device', help='e.g. cpu or cuda:1 (default: cuda if there is one)')
    add_config_arguments(parser)
    return parser.parse_args()


def choose_kind(args: argparse.Namespace) -> str:
    """Return what to draw for models of ``args.task``.

    Raises:
        SystemExit: If it cannot be drawn, with a message.
    """
    classifies = args.task == 'mmpretrain'
    kind = args.kind
    if kind == 'auto':
        kind = 'cam' if classifies else 'predictions'
    if kind == 'cam' and not classifies:
        fail(f'--kind cam needs a classifier, and {args.config} is none: use predictions, features')
    if args.target_class and kind != 'cam':
        fail(f'--target-class is for --kind cam; this is {kind}')
    if kind == 'cam':
        try:
            import pytorch_grad_cam  # noqa: F401
        except ImportError as error:
            fail(
                f'--kind cam needs the library grad-cam ({error}): pip install grad-cam, or draw '
                '--kind features or predictions'
            )
    return kind


def choose_device(name: str | None) -> str:
    """Return the device to run on, after trying it."""
    name = name or ('cuda' if torch.cuda.is_available() else 'cpu')
    if reason := device_problem(name):
        fail(f'--device {name} cannot be used: {reason}. Give cpu, or cuda or cuda:1 with a GPU.')
    return name


def find_images(source: Path, out: Path, kind: str) -> dict[Path, Path]:
    """Return the images of a file or folder, and the picture in ``out`` that each becomes.

    Raises:
        SystemExit: If there are none, or a picture would overwrite one, with a message.
    """
    if source.is_file():
        found = [source]
    elif source.is_dir():
        # Pictures of earlier runs are no input.
        earlier = out.resolve() if source.resolve() in out.resolve().parents else None
        found = [
            path
            for path in sorted(source.rglob('*'))
            if path.suffix.lower() in SUFFIXES and path.is_file()
            if earlier not in path.resolve().parents
        ]
        if not found:
            fail(f'{source} holds no images ({", ".join(SUFFIXES)}), nor do its subfolders.')
    else:
        fail(f'{source} does not exist: name an image or a folder of images.')
    folder = source if source.is_dir() else source.parent
    # With the old suffix, because a.jpg may lie beside a.png.
    pictures = {p: out / p.relative_to(folder).with_name(f'{p.name}.{kind}.png') for p in found}
    images = {path.resolve() for path in found}
    if spoilt := [path for path in pictures.values() if path.resolve() in images]:
        fail(
            f'--out {out} would overwrite {spoilt[0]}, an image to draw from: name another folder.'
        )
    return pictures


def find_class(wanted: str | None, classes: list[str]) -> int | None:
    """Return the index of a class given by name or index; of synonyms one is enough.

    Raises:
        SystemExit: If there is no such class, or several, with a message.
    """
    if wanted is None:
        return None
    names = [name.lower() for name in classes]
    fitting = [i for i, name in enumerate(names) if wanted.lower() in (name, *name.split(', '))]
    if not fitting and wanted.isdecimal() and int(wanted) < len(classes):
        fitting = [int(wanted)]
    if len(fitting) > 1:
        fail(f'--target-class {wanted} is the name of classes {some(fitting)}: give the index.')
    if not fitting:
        known = some((repr(name) for name in classes), 10)
        fail(
            f'--target-class {wanted} is no class: give one of {known}, or an index from 0 to '
            f'{len(classes) - 1}.'
        )
    return fitting[0]


def draw(trained: TrainedModel, sample: Sample, name: str, picture: Path, args) -> None:
    """Write the picture of one image."""
    classes = trained.classes
    if args.kind == 'features':
        draw_features(picture, name, sample.seen, trained.features(sample))
    elif args.kind == 'predictions' and args.task == 'mmpretrain':
        draw_scores(picture, name, sample.image, trained.scores(sample), classes)
    elif args.kind == 'predictions':
        scene = trained.scene(sample, args.score_thr)
        draw_prediction(
            picture,
            name,
            sample.image,
            scene,
            classes=classes,
            palette=trained.palette,
            score_thr=args.score_thr,
        )
    else:
        scores = trained.scores(sample)
        best = scores.argmax()
        label = best if args.label is None else args.label
        stage = trained.last_useful_stage(sample) if args.stage is None else args.stage
        heat = trained.activation_map(sample, label, args.method, stage)
        titles = (
            f'{name}\npredicted: {classes[best]} {scores[best]:.2f}',
            f'{CAM_METHODS[args.method]}, stage {stage}\nfor {classes[label]} {scores[label]:.2f}',
        )
        draw_activation(picture, sample.seen, heat, titles)


def draw_all(trained: TrainedModel, pictures: dict[Path, Path], args) -> list[str]:
    """Write every picture, say where it is, and return the images that were skipped and why."""
    skipped = []
    for image, picture in tqdm(pictures.items(), unit='image', disable=len(pictures) == 1):
        try:
            sample = trained.load(image)
        except ImageError as error:
            skipped.append(f'{image}: {error}')
            continue
        try:
            picture.parent.mkdir(parents=True, exist_ok=True)
            draw(trained, sample, image.name, picture, args)
        except OSError as error:
            fail(f'{picture} cannot be written: {error.strerror or error}. Name another --out.')
        tqdm.write(str(picture))
    return skipped


def main() -> None:
    args = parse_args()
    cfg = load_config(args, NEEDS)
    args.task = task_of(cfg)
    args.kind = choose_kind(args)
    device = choose_device(args.device)
    out = args.out or Path('work_dirs/visualize') / Path(args.config).stem
    pictures = find_images(args.images, out, args.kind)
    cfg.load_from = None
    refuse_problems(preflight.check(cfg, splits=(), checkpoint=args.checkpoint), args.config)
    try:
        with plain_errors(args.config):
            trained = TrainedModel(cfg, args.checkpoint, device)
        args.label = find_class(args.target_class, trained.classes)
        skipped = draw_all(trained, pictures, args)
    except ModelError as error:
        fail(f'{args.config}: {error}.')
    if skipped:
        fail('\n  '.join([f'{count(len(skipped), "image")} of {len(pictures)} skipped:', *skipped]))


if __name__ == '__main__':
    try:
        main()
    except KeyboardInterrupt as interrupt:
        stop('Interrupted.', interrupt)
