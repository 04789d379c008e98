"""Write the tables of models: docs/models.md, README.md and one README per folder of configs.

With configs as arguments, count only the models of those.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from catalogue import PAPERS, ROOT, Leaf, arxiv, difference, leaf_paths, link, released, table
from folder_pages import folder_pages
from mmengine.config import Config
from mmengine.logging import MMLogger
from tqdm import tqdm

from mmpoolformer.zoo.archs import ARCHS
from mmpoolformer.zoo.complexity import measure
from mmpoolformer.zoo.paper_results import ABLATIONS, MISPRINTS, OTHER_RECIPES, RESULTS

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
OTHERS = f"""\
## Published, with another recipe

The first paper compares with these backbones. Its numbers are those of {arxiv('2102.12122')},
reached in another way as far as is known. Our configs train these backbones as PoolFormer; what
that gives, nobody published. Parameters and MACs are counted from the configs.
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


def count(paths: Mapping[str, Path]) -> dict[str, Leaf]:
    """Count the model of every config, a classifier at the size of its released weights."""
    sizes = {model.config: (model.weights.img_size,) * 2 for model in released()}
    leaves = {}
    for name in tqdm(paths, desc='counting', unit='model', disable=None):
        cfg = Config.fromfile(paths[name])
        start = (cfg.model.backbone.get('init_cfg') or {}).get('checkpoint')
        leaves[name] = Leaf(paths[name], start, measure(cfg, sizes.get(name)))
    return leaves


def classifier_table(leaves: Mapping[str, Leaf]) -> str:
    rows = []
    for model in released():
        leaf = leaves[model.config]
        title = link(model.name, leaf.path, DOCUMENT)
        rows.append([title, leaf.params, leaf.macs, model.weights.top1])
    return table(['weights', 'parameters, M', 'MACs, G', 'ImageNet-1K top-1, %'], rows)


def ablation_table(leaves: Mapping[str, Leaf]) -> str:
    rows = []
    for name, published in ABLATIONS.items():
        leaf = leaves[name]
        title = link(difference(leaf.path), leaf.path, DOCUMENT)
        rows.append([title, leaf.params, leaf.macs, published.top1])
    return table(['variant', 'parameters, M', 'MACs, G', 'ImageNet-1K top-1, %'], rows)


def dense_table(method: str, names: Iterable[str], leaves: Mapping[str, Leaf]) -> str:
    _, metrics, schedule = METHODS[method]
    rows = []
    for name in names:
        leaf = leaves[name]
        backbone = name.removeprefix(f'{method}_').removesuffix(f'_{schedule}')
        result = RESULTS.get(name) or OTHER_RECIPES.get(name)
        scores = [result.metrics[metric] if result else '–' for metric in metrics]
        title = link(backbone, leaf.path, DOCUMENT)
        rows.append([title, leaf.params, leaf.macs, *scores])
    return table(['backbone', 'parameters, M', 'MACs, G', *metrics], rows)


def dense_tables(leaves: Mapping[str, Leaf]) -> tuple[dict[str, str], dict[str, str]]:
    """Return a table by method of what our recipe trains, and one of the comparison models."""
    ours, others = {}, {}
    for method, (title, _, schedule) in METHODS.items():
        names = [n for n in leaves if n.startswith(f'{method}_') and n.endswith(f'_{schedule}')]
        order = [*RESULTS, *OTHER_RECIPES, *names]  # Published ones first, as in the paper.
        names.sort(key=order.index)
        ours[title] = dense_table(method, [n for n in names if n not in OTHER_RECIPES], leaves)
        others[title] = dense_table(method, [n for n in names if n in OTHER_RECIPES], leaves)
    return ours, others


def document(leaves: Mapping[str, Leaf]) -> str:
    """Return docs/models.md."""
    number, _ = PAPERS['PoolFormer']
    parts = [
        INTRODUCTION,
        '## Classifiers\n',
        classifier_table(leaves),
        '## Ablations of PoolFormer-S12\n',
        f'Table 5 of {arxiv(number)}.\n',
        ablation_table(leaves),
    ]
    ours, others = dense_tables(leaves)
    for title, text in ours.items():
        parts += [f'## {title}\n', text]
    parts.append(OTHERS)
    for title, text in others.items():
        parts += [f'### {title}\n', text]
    return '\n'.join(parts)


def summary_table(leaves: Mapping[str, Leaf]) -> str:
    """Return the table of PoolFormers in the README, without links, so that its lines are short."""
    names = [name for name in ARCHS if name.startswith('poolformer_')]
    classifiers = [leaves[f'{name}_in1k'] for name in names]
    rows = [
        ['ImageNet-1K top-1, %', *(ARCHS[name].weights['in1k'].top1 for name in names)],
        ['parameters, M / MACs, G', *(f'{leaf.params} / {leaf.macs}' for leaf in classifiers)],
    ]
    for method, (title, metrics, schedule) in METHODS.items():
        dense = [f'{method}_{name}_{schedule}' for name in names]
        scores = []
        for name in dense:
            metric = RESULTS[name].metrics.values() if name in RESULTS else '–'
            scores.append(' / '.join(map(str, metric)))
        rows.append([f'{title}, {" / ".join(metrics)}', *scores])
        rows.append(['parameters, M', *(leaves[name].params for name in dense)])
    return table(['', *(name.removeprefix('poolformer_').upper() for name in names)], rows)


def contradictions(leaves: Mapping[str, Leaf]) -> list[str]:
    """Return published counts that differ from ours by more than their rounding."""
    found = []

    def compare(name: str, what: str, ours: float, most: float, published: float) -> None:
        # What is printed may have been rounded twice: 15.446, 15.45, 15.5.
        if name not in MISPRINTS and not ours - 0.055 <= published <= most + 0.055:
            found.append(f'{name}: {ours:.3f} {what}, published {published}')

    def compare_macs(name: str, published: float) -> None:
        # The published MACs of some models count norms, too: up to 0.8 % more.
        macs = leaves[name].complexity.macs / 1e9
        compare(name, 'GMACs', macs, macs * 1.008, published)

    def compare_params(name: str, published: float) -> None:
        trainable = leaves[name].complexity.trainable / 1e6
        compare(name, 'M parameters', trainable, trainable, published)

    for model in released():
        compare_macs(model.config, model.weights.gmacs)
    for name, published in ABLATIONS.items():
        compare_macs(name, published.gmacs)
        compare_params(name, published.params)
    for name, result in {**RESULTS, **OTHER_RECIPES}.items():
        compare_params(name, result.printed)
    return found


def texts(leaves: Mapping[str, Leaf]) -> dict[Path, str]:
    """Return what each file should hold."""
    before, rest = README.read_text(encoding='utf-8').split(MARKERS[0])
    after = rest[rest.index(MARKERS[1]) :]
    summary = before + MARKERS[0] + summary_table(leaves) + after
    return {DOCUMENT: document(leaves), README: summary, **folder_pages(leaves)}


def compare_or_write(path: Path, text: str, check: bool) -> list[str]:
    """Bring a file up to date; or return the lines that would change, where ``check`` is set."""
    old = path.read_text(encoding='utf-8') if path.is_file() else ''
    if old == text:
        return []
    name = str(path.relative_to(ROOT))
    if check:
        return [
            *difflib.unified_diff(
                old.splitlines(), text.splitlines(), name, 'recomputed', n=0, lineterm=''
            )
        ]
    path.write_text(text, encoding='utf-8')
    print(name)
    return []


def print_counts(configs: Iterable[Path], shape: tuple[int, int] | None) -> None:
    """Print sizes and costs of the models of some configs."""
    rows = []
    for path in configs:
        complexity = measure(Config.fromfile(path), shape)
        rows.append([path.stem, complexity.params, complexity.trainable, complexity.macs])
    print(table(['config', 'parameters', 'trainable', 'MACs'], rows), end='')


def main() -> None:
    args = parse_args()
    MMLogger.get_instance('mmengine').setLevel('WARNING')
    if args.configs:
        return print_counts(args.configs, args.shape)
    leaves = count(leaf_paths())
    problems = contradictions(leaves)
    for path, text in texts(leaves).items():
        problems += compare_or_write(path, text, args.check)
    if problems:
        sys.exit('\n'.join(problems))
    return None


if __name__ == '__main__':
    main()
