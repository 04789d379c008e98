"""Every config is parsed, built and trained for one step; no data, weights or network needed."""

import re

import pytest
from leaves import LARGE, LEAVES, ROOT, WARNINGS_OF_MMSEG, empty, load, read, trained_once
from mmengine.registry import HOOKS, TRANSFORMS, DefaultScope

from mmpoolformer import ARCHS
from mmpoolformer.zoo.paper_results import ABLATIONS, OTHER_RECIPES

pytestmark = WARNINGS_OF_MMSEG
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
CLASSIFIERS += [f'{name}_384_in1k' for name in LARGE]
BASELINES = [
    f'{method}_{model}_{schedule}'
    for method, schedule in (('retinanet', '1x'), ('mask_rcnn', '1x'), ('fpn', '40k'))
    for model in ('poolformerv2_s12', 'identityformer_s12', 'convformer_s18', 'caformer_s18')
]
# All rows of the first paper's tables; of the later families one of each kind, as their depth
# changes nothing in the wiring. Comparison models and later classifiers have test files of their
# own; the set drops the baseline of the ablations, which is a classifier, too.
STEPPED = sorted(
    {*PAPER, *SHAPES, *BASELINES, *ABLATIONS, 'randformer_s12_in1k'}
    | {name for name in CLASSIFIERS if name.startswith('poolformer_')}
)


def test_leaves_are_the_ones_expected_and_their_names_unique():
    paths = [path for path in ROOT.glob('configs/**/*.py') if '_base_' not in path.parts]
    assert len({path.name for path in paths}) == len(paths)
    by_folder = {
        'dense': {p.stem for p in paths if p.parent.name in ('detection', 'segmentation')},
        'classification': {p.stem for p in paths if p.parent.name == 'classification'},
        'ablations': {p.stem for p in paths if p.parent.name == 'ablations'},
    }
    assert by_folder['dense'] == {*PAPER, *SHAPES, *BASELINES, *OTHER_RECIPES}
    assert by_folder['classification'] == {*CLASSIFIERS}
    assert by_folder['ablations'] == {*ABLATIONS} - {'poolformer_s12_in1k'}


@pytest.mark.smoke
@pytest.mark.parametrize('name', [name for name in LEAVES if 'former' in name])
def test_builds_with_matching_widths_and_exact_parameters(name):
    cfg, model = read(name), empty(name)
    backbone = model.backbone
    if 'neck' in cfg.model and 'in_channels' in cfg.model.neck:
        assert tuple(cfg.model.neck.in_channels) == backbone.out_channels
    if name in PAPER:
        assert sum(p.numel() for p in model.parameters()) == PAPER[name]
    assert backbone.arch is ARCHS[re.search(r'[a-z]+former(?:v2)?_[a-z]\d+', name)[0]]
    assert backbone.frozen_stages == -1
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert all(name.endswith('token_mixer.random_matrix') for name in frozen)
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
    assert {'mmpoolformer.SeedHook', 'mmpoolformer.InterruptHook'} <= {h.type for h in hooks}


@pytest.mark.parametrize(
    'name',
    [pytest.param(n, marks=pytest.mark.smoke if n in SHAPES else ()) for n in STEPPED],
)
def test_one_step_gives_every_parameter_a_gradient(name):
    model = trained_once(name)
    # A wired-up backbone learns from the loss: its first and last weights move. Without residual
    # connections the LayerScales of 1e-5 leave nothing of it, which is what the paper found.
    if 'no_residual' in name:
        assert model.head.fc.bias.grad.any()
        return
    assert model.backbone.stem.conv.weight.grad.any()
    last = model.backbone.stages[3].blocks[-1]
    assert last.mlp is None or last.mlp.fc2.weight.grad.any()
