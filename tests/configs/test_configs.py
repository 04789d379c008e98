"""Every config is parsed, built and trained for one step; no data, weights or network needed."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import HOOKS, MODELS, TRANSFORMS, DefaultScope
from mmengine.structures import InstanceData, PixelData

from mmpoolformer import ARCHS
from mmpoolformer.zoo.paper_results import ABLATIONS, RESULTS

# Defaults of mmseg, which its own configs use, too.
pytestmark = [
    pytest.mark.filterwarnings('ignore:Default ``avg_non_ignore``:UserWarning'),
    pytest.mark.filterwarnings('ignore:`reduce_zero_label` will be deprecated:UserWarning'),
]
ROOT = Path(__file__).parents[2]
LEAVES = {
    path.stem: path for path in sorted(ROOT.glob('configs/**/*.py')) if '_base_' not in path.parts
}
SIZES = ('s12', 's24', 's36', 'm36', 'm48')
# Parameters of the whole model: 80 classes of COCO, 150 of ADE20K.
PARAMETERS = {
    'retinanet_poolformer_{}_1x': (21_653_044, 31_126_836, 40_600_628, 66_342_772, 83_643_700),
    'mask_rcnn_poolformer_{}_1x': (31_570_608, 41_044_400, 50_518_192, 75_678_768, 92_979_696),
    'fpn_poolformer_{}_40k': (15_669_846, 25_143_638, 34_617_430, 59_778_006, 77_078_934),
}
SHAPES = [f'{method}_poolformer_s12_shapes' for method in ('retinanet', 'mask_rcnn', 'fpn')]
SHAPES.append('retinanet_poolformer_s12_shapes_transfer')
PAPER = {
    name.format(size): count
    for name, counts in PARAMETERS.items()
    for size, count in zip(SIZES, counts, strict=True)
}
CLASSIFIERS = [f'{name}_in1k' for name in ARCHS] + ['poolformer_s12_shapes']
COMPARED = [name for name, result in RESULTS.items() if result.weights is None]
BASELINES = [
    f'{method}_{model}_{schedule}'
    for method, schedule in (('retinanet', '1x'), ('mask_rcnn', '1x'), ('fpn', '40k'))
    for model in ('poolformerv2_s12', 'identityformer_s12', 'convformer_s18', 'caformer_s18')
]
# All rows of the first paper's tables; of the later families one of each kind, as their depth
# changes nothing in the wiring. The comparison models have a test file of their own.
STEPPED = [
    *(*PAPER, *SHAPES, *BASELINES, *ABLATIONS),
    *(name for name in CLASSIFIERS if name.startswith('poolformer_')),
    *(f'{name}_in1k' for name in ('poolformerv2_s12', 'randformer_s12', 'caformer_s18')),
]
STEPPED = list(dict.fromkeys(STEPPED))  # The baseline of the ablations is a classifier, too.


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Data and weights could only be found by accident: none are here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))


def load(name: str) -> Config:
    cfg = Config.fromfile(LEAVES[name])
    cfg.model.backbone.init_cfg = None
    return cfg


def build(cfg: Config) -> torch.nn.Module:
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return MODELS.build(cfg.model)


def test_leaves_are_the_ones_expected_and_their_names_unique():
    paths = [path for path in ROOT.glob('configs/**/*.py') if '_base_' not in path.parts]
    assert len({path.name for path in paths}) == len(paths)
    by_folder = {
        'dense': {p.stem for p in paths if p.parent.name in ('detection', 'segmentation')},
        'classification': {p.stem for p in paths if p.parent.name == 'classification'},
        'ablations': {p.stem for p in paths if p.parent.name == 'ablations'},
    }
    assert by_folder['dense'] == {*PAPER, *SHAPES, *BASELINES, *COMPARED}
    assert by_folder['classification'] == {*CLASSIFIERS}
    assert by_folder['ablations'] == {*ABLATIONS} - {'poolformer_s12_in1k'}
    assert [len(names) for names in by_folder.values()] == [46, 29, 17]


@pytest.mark.smoke
@pytest.mark.parametrize('name', [name for name in LEAVES if 'former' in name])
def test_builds_with_matching_widths_and_exact_parameters(name):
    cfg = load(name)
    with torch.device('meta'):  # Counting needs no memory, and no random numbers.
        model = build(cfg)
    backbone = model.backbone
    if 'neck' in cfg.model and 'in_channels' in cfg.model.neck:
        assert tuple(cfg.model.neck.in_channels) == backbone.out_channels
    if name in PAPER:
        assert sum(p.numel() for p in model.parameters()) == PAPER[name]
    assert backbone.arch is ARCHS[re.search(r'[a-z]+former(?:v2)?_[a-z]\d+', name)[0]]
    assert backbone.frozen_stages == -1
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert all(name.endswith('.random_matrix') for name in frozen)
    assert bool(frozen) == ('rand' in name)
    rate = backbone.arch.drop_path_rate if name.endswith('_in1k') else 0.0
    rates = [m.drop_prob for m in backbone.modules() if type(m).__name__ == 'DropPath']
    assert max(rates, default=0.0) == rate
    assert bool(rates) == (rate > 0)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if name in ABLATIONS:
        assert abs(trainable / 1e6 - ABLATIONS[name].params) < 0.051
    elif name.endswith('_in1k'):
        assert trainable == backbone.arch.params


# The other leaves inherit these parts.
@pytest.mark.parametrize(
    'name',
    [
        *SHAPES,
        *(n for n in PAPER if '_s12_' in n),
        *(n for n in CLASSIFIERS if re.search('s1[28]', n)),
    ],
)
def test_pipelines_and_hooks_exist(name):
    cfg = load(name)
    built = 0
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        for split in ('train', 'val', 'test'):
            for transform in cfg[f'{split}_dataloader'].dataset.pipeline:
                TRANSFORMS.build(transform)
                built += 1
        hooks = list(cfg.default_hooks.values())
        # Visualization hooks want a visualizer when they are built, so looking them up must do.
        with HOOKS.switch_scope_and_registry(None) as registry:
            assert [hook.type for hook in hooks if registry.get(hook.type) is None] == []
    assert built >= (7 if name == 'poolformer_s12_shapes' else 10)
    assert {'mmpoolformer.EpochSeedHook', 'mmpoolformer.InterruptHook'} <= {h.type for h in hooks}


def detection_batch(num_classes: int, with_masks: bool) -> dict:
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    rng = np.random.default_rng(0)
    inputs, samples = [], []
    for boxes in ([[8, 8, 40, 48], [30, 20, 90, 60]], [[0, 0, 64, 64]]):
        sample = DetDataSample(metainfo={'img_shape': (64, 96), 'ori_shape': (64, 96)})
        sample.set_metainfo({'scale_factor': (1.0, 1.0), 'img_id': len(samples)})
        labels = torch.from_numpy(rng.integers(num_classes, size=len(boxes)))
        truth = InstanceData(bboxes=torch.tensor(boxes, dtype=torch.float32), labels=labels)
        if with_masks:
            masks = np.zeros((len(boxes), 64, 96), dtype=np.uint8)
            for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
                mask[y1:y2, x1:x2] = 1
            truth.masks = BitmapMasks(masks, 64, 96)
        sample.gt_instances = truth
        samples.append(sample)
        inputs.append(torch.from_numpy(rng.integers(256, size=(3, 64, 96), dtype=np.uint8)))
    return {'inputs': inputs, 'data_samples': samples}


def segmentation_batch(num_classes: int, size: int) -> dict:
    from mmseg.structures import SegDataSample

    rng = np.random.default_rng(0)
    inputs, samples = [], []
    for _ in range(2):
        sample = SegDataSample(metainfo={'img_shape': (size, size), 'ori_shape': (size, size)})
        labels = torch.from_numpy(rng.integers(num_classes, size=(1, size, size)))
        labels[:, :8] = 255  # void
        sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
        inputs.append(torch.from_numpy(rng.integers(256, size=(3, size, size), dtype=np.uint8)))
    return {'inputs': inputs, 'data_samples': samples}


def classification_batch(num_classes: int, size: int) -> dict:
    from mmpretrain.structures import DataSample

    rng = np.random.default_rng(0)
    labels = [0, num_classes - 1] * 4  # Enough that drop path leaves one of them in the last block.
    inputs = [
        torch.from_numpy(rng.integers(256, size=(3, size, size), dtype=np.uint8)) for _ in labels
    ]
    samples = [DataSample().set_gt_label(label) for label in labels]
    return {'inputs': inputs, 'data_samples': samples}


def batch_for(cfg: Config) -> dict:
    if cfg.model.type == 'ImageClassifier':
        # Random matrices and spatial FC are made for one size; the others need not wait for it.
        text = cfg.pretty_text
        fixed = any(word in text for word in ('RandomMixing', 'SpatialFC', 'RandFormer'))
        return classification_batch(cfg.model.head.num_classes, 224 if fixed else 64)
    if cfg.model.type == 'EncoderDecoder':
        cfg.model.data_preprocessor.size = (64, 64)  # The paper's 512 would take seconds.
        return segmentation_batch(cfg.model.decode_head.num_classes, 64)
    if cfg.model.type == 'MaskRCNN':
        return detection_batch(cfg.model.roi_head.mask_head.num_classes, with_masks=True)
    return detection_batch(cfg.model.bbox_head.num_classes, with_masks=False)


@pytest.mark.parametrize(
    'name',
    [pytest.param(n, marks=pytest.mark.smoke if n in SHAPES else ()) for n in STEPPED],
)
def test_one_step_gives_every_parameter_a_gradient(name):
    torch.manual_seed(0)
    cfg = load(name)
    batch = batch_for(cfg)
    model = revert_sync_batchnorm(build(cfg))  # As the tools do without several processes.
    model.init_weights()
    model.train()
    losses = model(**model.data_preprocessor(batch, training=True), mode='loss')
    loss, parts = model.parse_losses(losses)
    assert loss.isfinite()
    assert loss > 0
    assert len(parts) > 1 or cfg.model.type == 'ImageClassifier'
    loss.backward()
    missing = [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    # A wired-up backbone learns from the loss: its first and last weights move. Without residual
    # connections the LayerScales of 1e-5 leave nothing of it, which is what the paper found.
    if 'no_residual' in name:
        assert model.head.fc.bias.grad.any()
        return
    assert model.backbone.stem.conv.weight.grad.any()
    last = model.backbone.stages[3].blocks[-1]
    assert last.mlp is None or last.mlp.fc2.weight.grad.any()
