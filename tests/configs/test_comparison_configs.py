"""The paper's comparison models differ from PoolFormer-S12 in nothing but the backbone."""

from decimal import ROUND_HALF_UP, Decimal

import pytest
import torch
import torchvision
from leaves import LEAVES, WARNINGS_OF_MMSEG, build, empty, load, read, trained_once
from mmengine.config import Config
from mmengine.runner.checkpoint import get_external_models, get_torchvision_models
from torch.nn.modules.batchnorm import _BatchNorm

from mmpoolformer import preflight
from mmpoolformer.zoo.paper_results import OTHER_RECIPES

pytestmark = WARNINGS_OF_MMSEG
PVT_LAYERS = {
    'tiny': (2, 2, 2, 2),
    'small': (3, 4, 6, 3),
    'medium': (3, 4, 18, 3),
    'large': (3, 8, 27, 3),
}
DETECTORS = [name for name in OTHER_RECIPES if name.endswith('_1x')]
SEGMENTERS = [name for name in OTHER_RECIPES if name.endswith('_40k')]


def reference_of(name: str) -> Config:
    """Return the config of PoolFormer-S12 with the same method."""
    method = next(method for method in ('retinanet', 'mask_rcnn', 'fpn') if name.startswith(method))
    return read(f'{method}_poolformer_s12_{name.rsplit("_", 1)[1]}')


def stages_of(backbone: torch.nn.Module) -> list[torch.nn.Module]:
    names = getattr(backbone, 'res_layers', None)
    return [getattr(backbone, name) for name in names] if names else list(backbone.layers)


@pytest.mark.smoke
@pytest.mark.parametrize('name', OTHER_RECIPES)
def test_everything_but_the_backbone_is_the_recipe_of_poolformer(name):
    cfg, reference = read(name).to_dict(), reference_of(name).to_dict()
    for config in (cfg, reference):
        del config['model']['neck']['in_channels']
        assert config['model'].pop('backbone')['init_cfg']['type'] == 'Pretrained'
    assert cfg == reference


@pytest.mark.smoke
@pytest.mark.parametrize('name', OTHER_RECIPES)
def test_parameters_are_those_of_the_paper(name):
    model = empty(name)
    assert sum(p.numel() for p in model.parameters()) == OTHER_RECIPES[name].params
    # mmcv's counter leaves out what is frozen, and prints two decimals: R18's 15.446 as 15.45.
    counted = sum(p.numel() for p in model.parameters() if p.requires_grad)
    shown = Decimal(f'{counted / 1e6:.2f}')
    assert str(shown.quantize(Decimal('0.1'), ROUND_HALF_UP)) == str(OTHER_RECIPES[name].printed)


@pytest.mark.parametrize('name', OTHER_RECIPES)
def test_neck_takes_the_maps_of_the_backbone(name):
    model = empty(name).eval()
    maps = model.neck(model.backbone(torch.empty(1, 3, 128, 192, device='meta')))
    strides = {'r': (8, 16, 32, 64, 128), 'm': (4, 8, 16, 32, 64), 'f': (4, 8, 16, 32)}[name[0]]
    assert [tuple(m.shape) for m in maps] == [
        (1, 256, -(-128 // stride), -(-192 // stride)) for stride in strides
    ]


@pytest.mark.parametrize('name', OTHER_RECIPES)
def test_first_line_states_the_published_result(name):
    metrics = [f'{value} {metric}' for metric, value in OTHER_RECIPES[name].metrics.items()]
    table = 3 if name in DETECTORS else 4
    first, *_ = LEAVES[name].read_text().splitlines()
    published = f'{", ".join(metrics)} (arXiv 2111.11418, table {table}).'
    assert first == f'# Published, probably with another recipe: {published}'


@pytest.mark.parametrize('name', DETECTORS)
def test_detectors_freeze_the_first_stage_and_all_statistics(name):
    backbone = empty(name).train().backbone
    frozen = {key.split('.')[0] for key, p in backbone.named_parameters() if not p.requires_grad}
    trained = {key.split('.')[0] for key, p in backbone.named_parameters() if p.requires_grad}
    assert frozen == {'conv1', 'bn1', 'layer1'}
    assert trained == {'layer2', 'layer3', 'layer4'}
    norms = [m for m in backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) >= 20
    assert not any(norm.training for norm in norms)


@pytest.mark.parametrize('name', SEGMENTERS)
def test_segmenters_freeze_nothing(name):
    backbone = empty(name).train().backbone
    assert all(p.requires_grad for p in backbone.parameters())
    assert all(m.training for m in backbone.modules())
    norms = [m for m in backbone.modules() if isinstance(m, _BatchNorm)]
    assert bool(norms) == ('pvt' not in name)
    if norms:
        with torch.device('meta'):  # As in distributed training: ``empty`` has plain batch norms.
            synced = build(load(name)).backbone
        kinds = {type(m) for m in synced.modules() if isinstance(m, _BatchNorm)}
        assert all(issubclass(kind, torch.nn.SyncBatchNorm) for kind in kinds)


@pytest.mark.parametrize('name', OTHER_RECIPES)
def test_weights_have_a_known_address(name):
    cfg = read(name)
    source, _, weights = cfg.model.backbone.init_cfg.checkpoint.partition('://')
    depth = {'r18': 'resnet18', 'r50': 'resnet50', 'r101': 'resnet101'}.get(name.split('_')[-2])
    if name in DETECTORS:
        assert (source, weights) == ('torchvision', depth)
        assert weights in get_torchvision_models()
    elif 'pvt' in name:
        size = name.split('_')[2]
        assert source == 'https'
        assert weights == f'github.com/whai362/PVT/releases/download/v2/pvt_{size}.pth'
        assert tuple(cfg.model.backbone.num_layers) == PVT_LAYERS[size]
    else:
        cardinality = name.split('_')[1].removeprefix('x101-').replace('-', '_')
        expected = f'{depth}_v1c' if depth else f'resnext101_{cardinality}'
        assert (source, weights) == ('open-mmlab', expected)
        assert weights in get_external_models()


@pytest.mark.parametrize('name', ['retinanet_r18_1x', 'retinanet_r50_1x', 'mask_rcnn_r101_1x'])
def test_torchvision_weights_fill_the_backbone(name):
    with torch.device('meta'):
        weights = torchvision.models.get_model(f'resnet{name.split("_")[-2][1:]}').state_dict()
    expected = empty(name).backbone.state_dict()
    assert {k: v.shape for k, v in weights.items() if not k.startswith('fc.')} == {
        k: v.shape for k, v in expected.items()
    }


def official_pvt(layers: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Return a PVT's state dict with the names and shapes of its authors' code, empty."""
    shapes: dict[str, tuple[int, ...]] = {'cls_token': (1, 1, 512)}
    for stage, dim, mlp, reduction, patch, tokens in zip(
        (1, 2, 3, 4), (64, 128, 320, 512), (8, 8, 4, 4), (8, 4, 2, 1), (4, 2, 2, 2),
        (56**2, 28**2, 14**2, 7**2 + 1), strict=True,
    ):  # fmt: skip
        before = (3, 64, 128, 320)[stage - 1]
        shapes[f'pos_embed{stage}'] = (1, tokens, dim)
        shapes[f'patch_embed{stage}.proj.weight'] = (dim, before, patch, patch)
        linear = {'attn.q': (dim, dim), 'attn.kv': (2 * dim, dim), 'attn.proj': (dim, dim)}
        linear |= {'mlp.fc1': (mlp * dim, dim), 'mlp.fc2': (dim, mlp * dim)}
        norms = ['norm1', 'norm2']
        if reduction > 1:
            linear['attn.sr'] = (dim, dim, reduction, reduction)
            norms.append('attn.norm')
        blocks = [f'block{stage}.{i}.' for i in range(layers[stage - 1])]
        shapes |= {f'{b}{key}.weight': shape for b in blocks for key, shape in linear.items()}
        shapes |= {f'{b}{key}.weight': (dim,) for b in blocks for key in norms}
        shapes[f'patch_embed{stage}.norm.weight'] = (dim,)
    shapes |= {'norm.weight': (512,), 'head.weight': (1000, 512)}
    biases = {k.replace('weight', 'bias'): s[:1] for k, s in shapes.items() if 'weight' in k}
    return {k: torch.empty(shape, device='meta') for k, shape in (shapes | biases).items()}


@pytest.mark.parametrize('size', PVT_LAYERS)
def test_official_pvt_weights_fill_the_backbone(size):
    from mmdet.models.backbones.pvt import pvt_convert

    converted = pvt_convert(official_pvt(PVT_LAYERS[size]))
    expected = empty(f'fpn_pvt_{size}_40k').backbone.state_dict()
    # mmdet loads them loosely: what did not fit would be one warning in the log.
    assert {k: v.shape for k, v in converted.items()} == {k: v.shape for k, v in expected.items()}


@pytest.mark.smoke
@pytest.mark.parametrize('name', OTHER_RECIPES)
def test_preflight_finds_only_what_it_finds_for_poolformer(name):
    cfg = read(name)
    assert preflight.check(cfg, splits=()) == []
    problems = preflight.check(cfg)  # There are no data here.
    assert problems == preflight.check(reference_of(name))
    assert len(problems) == 1


@pytest.mark.parametrize('name', OTHER_RECIPES)
def test_one_step_gives_every_trainable_parameter_a_gradient(name):
    model = trained_once(name)
    moved = [
        any(p.grad is not None and p.grad.any() for p in stage.parameters())
        for stage in stages_of(model.backbone)
    ]
    assert moved == [name in SEGMENTERS, True, True, True]
