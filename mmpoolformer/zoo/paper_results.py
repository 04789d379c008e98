"""Published results by config, standard library only.

From "MetaFormer Is Actually What You Need for Vision" (arXiv 2111.11418), tables 2 to 5, and the
authors' repository (sail-sg/poolformer), whose checkpoints load here as they are. Released
classifiers are in :mod:`mmpoolformer.zoo.archs`.

What stands in ``RESULTS`` and ``ABLATIONS`` was reached with the recipes of the configs. What
stands in ``OTHER_RECIPES`` was not, so no config claims it. Tables 3 and 4 quote it from the PVT
paper (arXiv 2102.12122), whose ResNets and ResNeXts were trained with SGD, as far as their recipes
are known. The code of that paper trains PVT's segmenters with the optimiser and schedule used here,
and reports other numbers: 36.6, 41.9 and 43.5 mIoU for Tiny, Small and Medium.
"""

from __future__ import annotations

from dataclasses import dataclass

_DRIVE = 'https://drive.usercontent.google.com/download?export=download&confirm=t&id='


@dataclass(frozen=True)
class Result:
    """What was published for the model of one config.

    Args:
        params: Parameters of the whole model, frozen ones included, recomputed by tests.
        printed: Trainable parameters in millions as the paper prints them.
        metrics: By name, in percent.
        weights: Address of the authors' checkpoint, None where they released none.
    """

    params: int
    printed: float
    metrics: dict[str, float]
    weights: str | None


def _retinanet(model, params, printed, box_ap, file=None) -> dict[str, Result]:
    metrics = {'box AP': box_ap}
    return {f'retinanet_{model}_1x': Result(params, printed, metrics, _address(file))}


def _mask_rcnn(model, params, printed, box_ap, mask_ap, file=None) -> dict[str, Result]:
    metrics = {'box AP': box_ap, 'mask AP': mask_ap}
    return {f'mask_rcnn_{model}_1x': Result(params, printed, metrics, _address(file))}


def _fpn(model, params, printed, miou, file=None) -> dict[str, Result]:
    metrics = {'mIoU': miou}
    return {f'fpn_{model}_40k': Result(params, printed, metrics, _address(file))}


def _address(file: str | None) -> str | None:
    return file and _DRIVE + file


RESULTS: dict[str, Result] = {
    **_retinanet('poolformer_s12', 21_653_044, 21.7, 36.2, '1GKx4jbxdO4ClagPXXt7CoomrV4pOpqul'),
    **_retinanet('poolformer_s24', 31_126_836, 31.1, 38.9, '1EjsWpdopem-xeLndPQnQcHp8aoEUHQXR'),
    **_retinanet('poolformer_s36', 40_600_628, 40.6, 39.5, '1EgJDCg7LXXnHdGdJaHyEnoBPm-fNG2bt'),
    **_mask_rcnn(
        'poolformer_s12', 31_570_608, 31.6, 37.3, 34.6, '1-GSkqaS3SovfCVDsH8CzS1DikPX3cFTY'
    ),
    **_mask_rcnn(
        'poolformer_s24', 41_044_400, 41.0, 40.1, 37.0, '10Br62EU-VErQq6rP67sf4qXJIBLOnmLT'
    ),
    **_mask_rcnn(
        'poolformer_s36', 50_518_192, 50.5, 41.0, 37.7, '1LyJxcO0fw2hwZg9Z--Zbjbw3W7U4JyqT'
    ),
    **_fpn('poolformer_s12', 15_669_846, 15.7, 37.2, '1BcqU1yU2IPkI7RtWEmIw-R8tqMGY_XBt'),
    **_fpn('poolformer_s24', 25_143_638, 23.2, 40.3, '1DO329W8eDrfgycHi7YagFWz7IyAb07Wl'),
    **_fpn('poolformer_s36', 34_617_430, 34.6, 42.0, '1Rd6XxBXLEYWH-70IMvF6UiVymaWA3gik'),
    **_fpn('poolformer_m36', 59_778_006, 59.8, 42.4, '1Xgk7FI3FpOW2__UQhnGf7UGUHA3UzTRq'),
    **_fpn('poolformer_m48', 77_078_934, 77.1, 42.7, '1KjeR_4Ue0QyslDimp3OYkRqeqNAwoAez'),
}

OTHER_RECIPES: dict[str, Result] = {
    **_retinanet('r18', 21_410_100, 21.3, 31.8),
    **_retinanet('r50', 37_968_692, 37.7, 36.3),
    **_retinanet('r101', 56_960_820, 56.7, 38.5),
    **_mask_rcnn('r18', 31_327_536, 31.2, 34.0, 31.2),
    **_mask_rcnn('r50', 44_396_336, 44.2, 38.0, 34.4),
    **_mask_rcnn('r101', 63_388_464, 63.2, 40.4, 36.4),
    **_fpn('r18', 15_446_006, 15.5, 32.9),
    **_fpn('r50', 28_514_806, 28.5, 36.7),
    **_fpn('r101', 47_506_934, 47.5, 38.8),
    **_fpn('x101-32x4d', 47_116_246, 47.1, 39.7),
    **_fpn('x101-64x4d', 86_393_814, 86.4, 40.2),
    **_fpn('pvt_tiny', 16_980_886, 17.0, 35.7),
    **_fpn('pvt_small', 28_237_462, 28.2, 39.8),
    **_fpn('pvt_medium', 47_959_702, 48.0, 41.6),
    **_fpn('pvt_large', 65_120_918, 65.1, 42.1),
}


@dataclass(frozen=True)
class Classifier:
    """What was published for one ImageNet-1K classifier of 224 px images.

    Args:
        params: Parameters in millions, frozen ones left out, as printed.
        gmacs: Multiply-accumulates per image in units of 1e9, as printed.
        top1: Top-1 accuracy in percent.
    """

    params: float
    gmacs: float
    top1: float


# Printed counts that the paper's own architecture does not give.
MISPRINTS = ('fpn_poolformer_s24_40k',)

# Table 5 of arXiv 2111.11418, by config; the first is what the others vary.
ABLATIONS: dict[str, Classifier] = {
    'poolformer_s12_in1k': Classifier(11.9, 1.8, 77.2),
    'poolformer_s12_identity_in1k': Classifier(11.9, 1.8, 74.3),
    'poolformer_s12_random_in1k': Classifier(11.9, 3.3, 75.8),
    'poolformer_s12_dwconv_in1k': Classifier(11.9, 1.8, 78.1),
    'poolformer_s12_pool5_in1k': Classifier(11.9, 1.8, 77.2),
    'poolformer_s12_pool7_in1k': Classifier(11.9, 1.8, 77.1),
    'poolformer_s12_pool9_in1k': Classifier(11.9, 1.8, 76.8),
    'poolformer_s12_layer_norm_in1k': Classifier(11.9, 1.8, 76.5),
    'poolformer_s12_batch_norm_in1k': Classifier(11.9, 1.8, 76.4),
    'poolformer_s12_no_norm_in1k': Classifier(11.9, 1.8, 46.1),
    'poolformer_s12_relu_in1k': Classifier(11.9, 1.8, 76.4),
    'poolformer_s12_silu_in1k': Classifier(11.9, 1.8, 77.2),
    'poolformer_s12_no_residual_in1k': Classifier(11.9, 1.8, 0.1),
    'poolformer_s12_no_mlp_in1k': Classifier(2.5, 0.2, 5.7),
    'poolformer_s12_pppa_in1k': Classifier(14.0, 1.9, 78.3),
    'poolformer_s12_ppaa_in1k': Classifier(16.5, 2.5, 81.0),
    'poolformer_s12_pppf_in1k': Classifier(11.9, 1.8, 77.5),
    'poolformer_s12_ppff_in1k': Classifier(12.2, 1.9, 77.9),
}

# Table 2 of arXiv 2111.11418: the models that PoolFormer is compared with, by their token mixers.
PEERS: dict[str, dict[str, Classifier]] = {
    'convolution': {
        'RSB-ResNet-18': Classifier(12, 1.8, 70.6),
        'RSB-ResNet-34': Classifier(22, 3.7, 75.5),
        'RSB-ResNet-50': Classifier(26, 4.1, 79.8),
        'RSB-ResNet-101': Classifier(45, 7.9, 81.3),
        'RSB-ResNet-152': Classifier(60, 11.6, 81.8),
    },
    'attention': {
        'DeiT-S': Classifier(22, 4.6, 79.8),
        'DeiT-B': Classifier(86, 17.5, 81.8),
        'PVT-Tiny': Classifier(13, 1.9, 75.1),
        'PVT-Small': Classifier(25, 3.8, 79.8),
        'PVT-Medium': Classifier(44, 6.7, 81.2),
        'PVT-Large': Classifier(61, 9.8, 81.7),
    },
    'spatial MLP': {
        'ResMLP-S12': Classifier(15, 3.0, 76.6),
        'ResMLP-S24': Classifier(30, 6.0, 79.4),
        'ResMLP-B24': Classifier(116, 23.0, 81.0),
        'gMLP-S': Classifier(20, 4.5, 79.6),
        'gMLP-B': Classifier(73, 15.8, 81.6),
    },
}
