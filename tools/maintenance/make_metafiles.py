"""Write the model index that mim reads, from the tables of published numbers."""

from __future__ import annotations

import yaml
from catalogue import PAPERS, ROOT, Released, leaf_paths, released

from mmpoolformer.zoo.paper_results import RESULTS, Result

HEADER = '# Written by tools/maintenance/make_metafiles.py from mmpoolformer/zoo/{}.py.\n'
TASKS = {
    'box AP': 'Object Detection',
    'mask AP': 'Instance Segmentation',
    'mIoU': 'Semantic Segmentation',
    'Top 1 Accuracy': 'Image Classification',
}


def collection(name: str) -> dict:
    """Return the entry of a paper."""
    number, title = PAPERS[name]
    paper = {'URL': f'https://arxiv.org/abs/{number}', 'Title': title}
    return {'Name': name, 'README': 'README.md', 'Paper': paper}


def results(dataset: str, metrics: dict[str, float]) -> list[dict]:
    """Return one entry for each published number."""
    return [
        {'Task': TASKS[metric], 'Dataset': dataset, 'Metrics': {metric: value}}
        for metric, value in metrics.items()
    ]


def dense_model(name: str, result: Result, config: str) -> dict:
    """Return the entry of a detector or segmenter."""
    dataset = 'COCO' if 'detection' in config else 'ADE20K'
    return {
        'Name': name,
        'In Collection': 'PoolFormer',
        'Config': config,
        'Metadata': {'Parameters': result.params, 'Training Data': dataset},
        'Results': results(dataset, result.metrics),
        'Weights': result.weights,
    }


def classifier(row: Released, config: str) -> dict:
    """Return the entry of a released classifier.

    A config of 224 px claims only what its own recipe gives, so weights that have also seen
    ImageNet-21K are entered without it. A config of 384 px is for evaluation, with either weights.
    """
    claimed = row.trained or row.weights.img_size == 384
    data = ['ImageNet-21K', 'ImageNet-1K'] if 'in21k' in row.name else 'ImageNet-1K'
    return {
        'Name': row.name,
        **({'Config': config} if claimed else {}),
        'In Collection': row.paper,
        'Metadata': {
            'FLOPs': round(row.weights.gmacs * 1e9),
            'Parameters': row.arch.params,
            'Image Size': row.weights.img_size,
            'Training Data': data,
        },
        'Results': results('ImageNet-1K', {'Top 1 Accuracy': row.weights.top1}),
        'Weights': row.weights.url,
    }


def files() -> dict[str, str]:
    """Return the content of every file, by its path in the repository."""
    configs = {name: path.relative_to(ROOT).as_posix() for name, path in leaf_paths().items()}
    classifiers = [classifier(row, configs[row.config]) for row in released()]
    dense = [dense_model(name, result, configs[name]) for name, result in RESULTS.items()]
    metafiles = {
        'configs/classification/metafile.yml': (
            'archs',
            {'Collections': [*map(collection, PAPERS)], 'Models': classifiers},
        )
    }
    for folder in ('configs/detection', 'configs/segmentation'):
        models = [model for model in dense if model['Config'].startswith(folder)]
        metafiles[f'{folder}/metafile.yml'] = ('paper_results', {'Models': models})
    metafiles['model-index.yml'] = ('archs', {'Import': list(metafiles)})
    return {
        path: HEADER.format(source) + yaml.safe_dump(content, sort_keys=False)
        for path, (source, content) in metafiles.items()
    }


def main() -> None:
    for path, text in files().items():
        (ROOT / path).write_text(text, encoding='utf-8')
        print(path)


if __name__ == '__main__':
    main()
