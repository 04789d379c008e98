"""The README of each folder of configs: method, diagram, table, command."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from catalogue import PAPERS, ROOT, Leaf, arxiv, difference, link, released, table

from mmpoolformer.zoo.paper_results import ABLATIONS, OTHER_RECIPES, RESULTS

FIRST_PAPER, _ = PAPERS['PoolFormer']
COLUMNS = ('config', 'starts from', 'published', 'source', 'parameters, M')

DETECTION = """\
# Detectors

RetinaNet ([arXiv 1708.02002](https://arxiv.org/abs/1708.02002)) and Mask R-CNN
([arXiv 1703.06870](https://arxiv.org/abs/1703.06870)) find objects on the maps of a feature
pyramid (FPN); Mask R-CNN also outlines them. *MetaFormer Is Actually What You Need for Vision*
([arXiv 2111.11418](https://arxiv.org/abs/2111.11418), section 4.2) trains both on COCO with
PoolFormers for backbones: 12 epochs of 16 images, AdamW, learning rate 1e-4.

```
image ──> stem, stage 0 ──> stage 1 ──> stage 2 ──> stage 3      backbone, pretrained on ImageNet
               H/4            H/8         H/16        H/32
                │              │           │           │
               P2 <────────── P3 <─────── P4 <─────── P5         FPN, 256 channels each

RetinaNet     P3 to P7 ──> class and box at every anchor
Mask R-CNN    P2 to P6 ──> proposals ──> RoIAlign from P2 to P5 ──> class, box and mask of each
```

"With another recipe" are the paper's comparison models: table 3 quotes their numbers, and the
configs here train them as PoolFormer. `_shapes` is the built-in data set.
"""
SEGMENTATION = """\
# Segmenters

Semantic FPN ([arXiv 1901.02446](https://arxiv.org/abs/1901.02446)) brings all maps of a feature
pyramid (FPN) to one size and adds them. *MetaFormer Is Actually What You Need for Vision*
([arXiv 2111.11418](https://arxiv.org/abs/2111.11418), section 4.3) trains it on ADE20K with
PoolFormers for backbones: 40 000 iterations of 32 images, AdamW, learning rate 2e-4.

```
image ──> stem, stage 0 ──> stage 1 ──> stage 2 ──> stage 3      backbone, pretrained on ImageNet
               H/4            H/8         H/16        H/32
                │              │           │           │
               P2 <────────── P3 <─────── P4 <─────── P5         FPN, 256 channels each
                │              │           │           │
               x1             x2          x4          x8         convolutions and upsampling
                └──────────────┴───── + ───┴───────────┘
                                      │
                     H/4, 128 channels ──> 1x1 convolution ──> class of every pixel
```

"With another recipe" are the paper's comparison models: table 4 quotes their numbers, and the
configs here train them as PoolFormer. `_shapes` is the built-in data set.
"""
CLASSIFICATION = """\
# Classifiers

A MetaFormer alternates token mixers, which mix positions, with MLPs, which mix channels.
*MetaFormer Is Actually What You Need for Vision*
([arXiv 2111.11418](https://arxiv.org/abs/2111.11418)) finds that pooling is mixer enough;
*MetaFormer Baselines for Vision* ([arXiv 2210.13452](https://arxiv.org/abs/2210.13452)) tries even
simpler mixers, and better ones. Both train on ImageNet-1K for 300 epochs, with AdamW or LAMB.

```
image ──> stem ──> stage 0 ──> stage 1 ──> stage 2 ──> stage 3 ──> average ──> class
                     H/4         H/8         H/16        H/32

block of a stage:  x ──> + mixer(norm(x)) ──> + MLP(norm(x)) ──>

PoolFormer, V2     pooling     pooling     pooling     pooling
IdentityFormer     identity    identity    identity    identity
RandFormer         identity    identity    random      random
ConvFormer         convolution convolution convolution convolution
CAFormer           convolution convolution attention   attention
```

All train from scratch; the weights are what the authors released, and the config is what evaluates
them: `python tools/test.py CONFIG WEIGHTS`. The configs of 384 px are for evaluation: they would
train as those of 224 px. Weights after ImageNet-21K are no result of a recipe here.
"""
ABLATION = """\
# Ablations

Table 5 of *MetaFormer Is Actually What You Need for Vision*
([arXiv 2111.11418](https://arxiv.org/abs/2111.11418)) changes one part of PoolFormer-S12 at a time.
The paper's point: almost any token mixer will do, but not a block without norm, residual connection
or MLP.

```
x ──> norm ──> token mixer ──> + ──> norm ──> MLP ──> + ──>
 └──────── residual ──────────┘ └────── residual ────┘
```

All train from scratch, as [PoolFormer-S12](../poolformer_s12_in1k.py) does, for 300 epochs on
ImageNet-1K. Weights were released for PoolFormer-S12 only.
"""


class Page(NamedTuple):
    """What a README holds.

    Args:
        text: Method and diagram.
        header: Of the table.
        rows: Returns its rows from all configs and the path of the README.
        example: The config in the command.
    """

    text: str
    header: tuple[str, ...]
    rows: Callable[[Mapping[str, Leaf], Path], Iterable[Iterable[object]]]
    example: str


def dense_rows(leaves: Mapping[str, Leaf], readme: Path) -> list[list[str]]:
    """Return the rows of detectors or segmenters by method, published ones first."""
    table_number = {'detection': 3, 'segmentation': 4}[readme.parent.name]
    names = [name for name, leaf in leaves.items() if leaf.path.parent == readme.parent]
    order = [*RESULTS, *OTHER_RECIPES, *names]
    rows = []
    for name in sorted(names, key=lambda name: (name.startswith('mask_rcnn'), order.index(name))):
        published, source = 'none', '–'
        if result := RESULTS.get(name) or OTHER_RECIPES.get(name):
            published = ', '.join(f'{value} {metric}' for metric, value in result.metrics.items())
            published += ', with another recipe' if name in OTHER_RECIPES else ''
            source = f'{arxiv(FIRST_PAPER)}, table {table_number}'
        leaf = leaves[name]
        title = link(name, leaf.path, readme)
        rows.append([title, shown(leaf.start), published, source, leaf.params])
    return rows


def shown(start: str | None) -> str:
    """Return what stands in a table for the checkpoint that a backbone starts from."""
    if start is None:
        return 'none: from scratch'
    return f'[{Path(start).name}]({start})' if start.startswith('https://') else f'`{start}`'


def classifier_rows(leaves: Mapping[str, Leaf], readme: Path) -> list[list[str]]:
    """Return a row for each released classifier, and one for the built-in data set."""
    rows = []
    for model in released():
        leaf = leaves[model.config]
        title = link(model.config, leaf.path, readme)
        weights = f'`metaformer://{model.name}`'
        published = f'{model.weights.top1}{", after ImageNet-21K" if "in21k" in model.name else ""}'
        rows.append([title, weights, published, arxiv(PAPERS[model.paper][0]), leaf.params])
    shapes = leaves['poolformer_s12_shapes']
    title = link('poolformer_s12_shapes', shapes.path, readme)
    return [*rows, [title, 'none', 'none', '–', shapes.params]]


def ablation_rows(leaves: Mapping[str, Leaf], readme: Path) -> list[list[object]]:
    """Return the rows of table 5."""
    source = f'{arxiv(FIRST_PAPER)}, table 5'
    rows = []
    for name, published in ABLATIONS.items():
        leaf = leaves[name]
        title = link(name, leaf.path, readme)
        rows.append([title, difference(leaf.path), published.top1, source, leaf.params])
    return rows


TOP1 = 'published top-1, %'
PAGES = {
    'detection': Page(DETECTION, COLUMNS, dense_rows, 'retinanet_poolformer_s12_1x'),
    'segmentation': Page(SEGMENTATION, COLUMNS, dense_rows, 'fpn_poolformer_s12_40k'),
    'classification': Page(
        CLASSIFICATION,
        ('config', 'weights', TOP1, *COLUMNS[3:]),
        classifier_rows,
        'poolformer_s12_in1k',
    ),
    'classification/ablations': Page(
        ABLATION,
        ('config', 'variant', TOP1, *COLUMNS[3:]),
        ablation_rows,
        'poolformer_s12_identity_in1k',
    ),
}


def folder_pages(leaves: Mapping[str, Leaf]) -> dict[Path, str]:
    """Return the README of each folder by its path."""
    pages = {}
    for folder, page in PAGES.items():
        readme = ROOT / 'configs' / folder / 'README.md'
        command = f'bash tools/dist_train.sh configs/{folder}/{page.example}.py 8'
        parts = [
            page.text,
            table(page.header, page.rows(leaves, readme), texts=4),
            f'Train on eight GPUs, from the root of the repository:\n\n```bash\n{command}\n```\n',
            'Parameters are counted, the published numbers are not ours. This page is written by\n'
            '`python tools/maintenance/model_table.py`.\n',
        ]
        pages[readme] = '\n'.join(parts)
    return pages
