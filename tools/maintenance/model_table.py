"""Write the tables of models in docs/models.md and README.md, or count the models of configs."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import MMLogger
from tqdm import tqdm

from mmpoolformer.zoo.archs import ARCHS
from mmpoolformer.zoo.complexity import IMAGE_SIZES, Complexity, measure
from mmpoolformer.zoo.paper_results import ABLATIONS, MISPRINTS, RESULTS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT, README = ROOT / 'docs' / 'models.md', ROOT / 'README.md'
MARKERS = '<!-- by tools/maintenance/model_table.py -->\n', '<!-- end -->'
METHODS = {
    'retinanet': ('RetinaNet 1x', ('box AP',), '1x'),
    'mask_rcnn': ('Mask R-CNN 1x', ('box AP', 'mask AP'), '1x'),
    'fpn': ('Semantic FPN 40K', ('mIoU',), '40k'),
}
INTRODUCTION = """\
# Models

Written by `python tools/maintenance/model_table.py`; `--check` compares. Trainable parameters and
multiply-accumulates (MACs) are counted from the configs: MACs for one image, of 224x224 pixels
(384x384 where the name says so) for classifiers, 800x1280 for detectors, 512x512 for segmenters.
Convolutions, linear layers and attention count; a two-stage detector has 1000 boxes and 100 masks.
Accuracies are **published**, not measured by us; – means that nobody published one.

![Accuracy against multiply-accumulates and parameters](accuracy.png)

*Published ImageNet-1K accuracies at 224 px, drawn by `python tools/maintenance/plot_accuracy.py`.*
"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('configs', nargs='*', type=Path, help='only count the models of these')
    parser.add_argument(
        '--shape', nargs=2, type=int, metavar=('H', 'W'), help='image size for those, in pixels'
    )
    parser.add_argument(
        '--check', action='store_true', help='write nothing; status 1 if tables or counts are off'
    )
    return parser.parse_args()


def leaves() -> dict[str, Path]:
    """Return the configs by name."""
    return {path.stem: path for path in sorted(ROOT.glob('configs/*/**/*.py'))}


def count(configs: dict[str, Path]) -> dict[tuple[str, int], Complexity]:
    """Count every model of a table, by config and image width."""
    sizes = {name: {IMAGE_SIZES['mmpretrain'][1]} for name in ABLATIONS}
    for name, arch in ARCHS.items():
        sizes[f'{name}_in1k'] = {weights.img_size for weights in arch.weights.values()}
    for name, path in configs.items():
        if path.parent.name in ('detection', 'segmentation') and '_shapes' not in name:
            sizes[name] = {IMAGE_SIZES['mmdet' if path.parent.name == 'detection' else 'mmseg'][1]}
    counts = {}
    for name in tqdm(sizes, desc='counting', unit='model', disable=None):
        cfg = Config.fromfile(configs[name])
        for width in sizes[name]:
            square = cfg.default_scope == 'mmpretrain'
            counts[name, width] = measure(cfg, (width, width) if square else None)
    return counts


def table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a table in Markdown, numbers to the right."""
    header = list(header)
    lines = [header, ['---', *['---:'] * (len(header) - 1)], *rows]
    return ''.join(f'| {" | ".join(map(str, line))} |\n' for line in lines)


def link(text: str, target: Path, document: Path) -> str:
    """Return a link from ``document`` to another file of the repository."""
    return f'[{text}]({os.path.relpath(target, document.parent)})'


def size_and_cost(complexity: Complexity) -> tuple[str, str]:
    return f'{complexity.trainable / 1e6:.1f}', f'{complexity.macs / 1e9:.1f}'


def classifier_table(configs: dict[str, Path], counts: dict) -> str:
    rows = []
    for name, arch in ARCHS.items():
        config = f'{name}_in1k'
        for tag, weights in arch.weights.items():
            if weights.top1 is None:
                continue
            title = link(f'{name}.{tag}', configs[config], DOCUMENT)
            rows.append([title, *size_and_cost(counts[config, weights.img_size]), weights.top1])
    return table(['weights', 'parameters, M', 'MACs, G', 'ImageNet-1K top-1, %'], rows)


def ablation_table(configs: dict[str, Path], counts: dict) -> str:
    rows = []
    for name, published in ABLATIONS.items():
        first = configs[name].read_text(encoding='utf-8').splitlines()[0]
        what = first.partition('): ')[2].removesuffix('.') or 'PoolFormer-S12'
        cells = *size_and_cost(counts[name, 224]), published.top1
        rows.append([link(what, configs[name], DOCUMENT), *cells])
    return table(['variant', 'parameters, M', 'MACs, G', 'ImageNet-1K top-1, %'], rows)


def dense_table(method: str, configs: dict[str, Path], counts: dict) -> str:
    _, metrics, schedule = METHODS[method]
    names = [name for name, _ in counts if name.startswith(f'{method}_')]
    order = [*RESULTS, *names]  # Published ones first, as in the paper.
    rows = []
    for name in sorted(names, key=order.index):
        model = name.removeprefix(f'{method}_').removesuffix(f'_{schedule}')
        width = next(width for config, width in counts if config == name)
        result = RESULTS.get(name)
        scores = [result.metrics[metric] if result else '–' for metric in metrics]
        rows.append(
            [link(model, configs[name], DOCUMENT), *size_and_cost(counts[name, width]), *scores]
        )
    return table(['backbone', 'parameters, M', 'MACs, G', *metrics], rows)


def document(configs: dict[str, Path], counts: dict) -> str:
    """Return docs/models.md."""
    parts = [
        INTRODUCTION,
        '## Classifiers\n',
        classifier_table(configs, counts),
        '## Ablations of PoolFormer-S12\n',
        'Table 5 of [arXiv 2111.11418](https://arxiv.org/abs/2111.11418).\n',
        ablation_table(configs, counts),
    ]
    for method, (title, *_) in METHODS.items():
        parts += [f'## {title}\n', dense_table(method, configs, counts)]
    return '\n'.join(parts)


def summary_table(configs: dict[str, Path], counts: dict) -> str:
    """Return the table of PoolFormers in the README."""
    names = [name for name in ARCHS if name.startswith('poolformer_')]
    classifiers = [counts[f'{name}_in1k', 224] for name in names]
    rows = [
        ['ImageNet-1K top-1, %', *(ARCHS[name].weights['in1k'].top1 for name in names)],
        [
            'parameters, M / MACs, G',
            *(' / '.join(size_and_cost(complexity)) for complexity in classifiers),
        ],
    ]
    for method, (title, metrics, schedule) in METHODS.items():
        dense = [f'{method}_{name}_{schedule}' for name in names]
        scores, params = [], []
        for name in dense:
            metric = RESULTS[name].metrics.values() if name in RESULTS else '–'
            scores.append(link(' / '.join(map(str, metric)), configs[name], README))
            complexity = next(c for (config, _), c in counts.items() if config == name)
            params.append(size_and_cost(complexity)[0])
        rows += [[f'{title}, {" / ".join(metrics)}', *scores], ['parameters, M', *params]]
    return table(['', *(name.removeprefix('poolformer_').upper() for name in names)], rows)


def contradictions(counts: dict) -> list[str]:
    """Return published counts that differ from ours by more than their rounding."""
    found = []

    def compare(name: str, what: str, ours: float, most: float, published: float) -> None:
        # What is printed may have been rounded twice: 15.446, 15.45, 15.5.
        if name not in MISPRINTS and not ours - 0.055 <= published <= most + 0.055:
            found.append(f'{name}: {ours:.3f} {what}, published {published}')

    # The published MACs of some models count norms, too: up to 0.8 % more.
    for name, arch in ARCHS.items():
        for weights in arch.weights.values():
            macs = counts[f'{name}_in1k', weights.img_size].macs / 1e9
            compare(name, 'GMACs', macs, macs * 1.008, weights.gmacs)
    for name, published in ABLATIONS.items():
        complexity = counts[name, 224]
        macs, trainable = complexity.macs / 1e9, complexity.trainable / 1e6
        compare(name, 'GMACs', macs, macs * 1.008, published.gmacs)
        compare(name, 'M parameters', trainable, trainable, published.params)
    for (name, _), complexity in counts.items():
        if name in RESULTS:
            trainable = complexity.trainable / 1e6
            compare(name, 'M parameters', trainable, trainable, RESULTS[name].printed)
    return found


def main() -> None:
    args = parse_args()
    MMLogger.get_instance('mmengine').setLevel('WARNING')
    if args.configs:
        rows = []
        for path in args.configs:
            complexity = measure(Config.fromfile(path), args.shape)
            rows.append([path.stem, complexity.params, complexity.trainable, complexity.macs])
        print(table(['config', 'parameters', 'trainable', 'MACs'], rows), end='')
        return
    configs = leaves()
    counts = count(configs)
    readme = README.read_text(encoding='utf-8')
    before, rest = readme.split(MARKERS[0])
    after = rest[rest.index(MARKERS[1]) :]
    texts = {
        DOCUMENT: document(configs, counts),
        README: before + MARKERS[0] + summary_table(configs, counts) + after,
    }
    problems = contradictions(counts)
    for path, text in texts.items():
        if not args.check:
            path.write_text(text, encoding='utf-8')
            print(path.relative_to(ROOT))
            continue
        old = path.read_text(encoding='utf-8') if path.is_file() else ''
        problems += difflib.unified_diff(
            *(old.splitlines(), text.splitlines()),
            *(f'{path.relative_to(ROOT)}', 'recomputed'),
            lineterm='',
            n=0,
        )
    if problems:
        sys.exit('\n'.join(problems))


if __name__ == '__main__':
    main()
