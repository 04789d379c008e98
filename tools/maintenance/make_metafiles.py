"""Write the model index that mim reads, from the tables of published numbers."""

from __future__ import annotations

from pathlib import Path

import yaml

from mmpoolformer.zoo.archs import ARCHS
from mmpoolformer.zoo.paper_results import RESULTS

ROOT = Path(__file__).resolve().parents[2]
HEADER = '# Written by tools/maintenance/make_metafiles.py from mmpoolformer/{}.py.\n'
PAPERS = {
    'PoolFormer': ('2111.11418', 'MetaFormer Is Actually What You Need for Vision'),
    'MetaFormer baselines': ('2210.13452', 'MetaFormer Baselines for Vision'),
    # ResNet, ResNeXt and PVT: their own papers have other results.
    'Comparison models': ('2111.11418', 'MetaFormer Is Actually What You Need for Vision'),
}


def collection(name: str) -> dict:
    """Return the entry of a paper."""
    number, title = PAPERS[name]
    paper = {'URL': f'https://arxiv.org/abs/{number}', 'Title': title}
    return {'Name': name, 'README': 'README.md', 'Paper': paper}


def dense_models(folder: str, dataset: str) -> list[dict]:
    """Return the entries of the detectors or segmenters whose configs are in ``folder``."""
    tasks = {'box AP': 'Object Detection', 'mask AP': 'Instance Segmentation'}
    models = []
    for config, result in RESULTS.items():
        if not (ROOT / folder / f'{config}.py').is_file():
            continue
        models.append(
            {
                'Name': config,
                'In Collection': 'PoolFormer' if '_poolformer_' in config else 'Comparison models',
                'Config': f'{folder}/{config}.py',
                'Metadata': {'Parameters': result.params, 'Training Data': dataset},
                'Results': [
                    {
                        'Task': tasks.get(metric, 'Semantic Segmentation'),
                        'Dataset': dataset,
                        'Metrics': {metric: value},
                    }
                    for metric, value in result.metrics.items()
                ],
                **({'Weights': result.weights} if result.weights else {}),
            }
        )
    return models


def classifiers() -> list[dict]:
    """Return one entry for each released classifier with a published accuracy."""
    models = []
    for name, arch in ARCHS.items():
        for tag, weights in arch.weights.items():
            if weights.top1 is None:
                continue
            config = f'configs/classification/{name}_{tag}.py'
            models.append(
                {
                    'Name': f'{name}.{tag}',
                    **({'Config': config} if (ROOT / config).is_file() else {}),
                    'In Collection': 'PoolFormer'
                    if name.startswith('poolformer_')
                    else 'MetaFormer baselines',
                    'Metadata': {
                        'FLOPs': round(weights.gmacs * 1e9),
                        'Parameters': arch.params,
                        'Image Size': weights.img_size,
                        'Training Data': 'ImageNet-1K',
                    },
                    'Results': [
                        {
                            'Task': 'Image Classification',
                            'Dataset': 'ImageNet-1K',
                            'Metrics': {'Top 1 Accuracy': weights.top1},
                        }
                    ],
                    'Weights': weights.url,
                }
            )
    return models


def files() -> dict[str, str]:
    """Return the content of every file, by its path in the repository."""
    metafiles = {
        'configs/classification/metafile.yml': (
            'zoo/archs',
            {'Collections': [*map(collection, PAPERS)], 'Models': classifiers()},
        ),
        'configs/detection/metafile.yml': (
            'zoo/paper_results',
            {'Models': dense_models('configs/detection', 'COCO')},
        ),
        'configs/segmentation/metafile.yml': (
            'zoo/paper_results',
            {'Models': dense_models('configs/segmentation', 'ADE20K')},
        ),
    }
    metafiles['model-index.yml'] = ('zoo/archs', {'Import': list(metafiles)})
    return {
        path: HEADER.format(table) + yaml.safe_dump(content, sort_keys=False)
        for path, (table, content) in metafiles.items()
    }


def main() -> None:
    for path, text in files().items():
        target = ROOT / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding='utf-8')
        print(path)


if __name__ == '__main__':
    main()
