"""Published results by config, standard library only.

From "MetaFormer Is Actually What You Need for Vision" (arXiv 2111.11418), tables 2 to 5, and the
authors' repository (sail-sg/poolformer), whose checkpoints load here as they are. Released
classifiers are in :mod:`mmpoolformer.zoo.archs`.

The models that tables 3 and 4 compare with stand there with the numbers of the PVT paper (arXiv
2102.12122). Their configs here train them as PoolFormer is trained; the ResNets' numbers were
probably reached in another way: see the configs of r50.
"""

from __future__ import annotations

from dataclasses import dataclass

_DRIVE = 'https://drive.usercontent.google.com/download?export=download&confirm=t&id='


@dataclass(frozen=True)
class Result:
    """What was published for one config.

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


def _rows(method: str, schedule: str, metrics: tuple[str, ...], rows: dict) -> dict[str, Result]:
    return {
        f'{method}_{model}_{schedule}': Result(
            *(params, printed, dict(zip(metrics, values, strict=True))),
            weights=_DRIVE + file if file else None,
        )
        for model, (params, printed, values, file) in rows.items()
    }


RESULTS: dict[str, Result] = {
    **_rows(
        'retinanet',
        '1x',
        ('box AP',),
        {
            'poolformer_s12': (21_653_044, 21.7, (36.2,), '1GKx4jbxdO4ClagPXXt7CoomrV4pOpqul'),
            'poolformer_s24': (31_126_836, 31.1, (38.9,), '1EjsWpdopem-xeLndPQnQcHp8aoEUHQXR'),
            'poolformer_s36': (40_600_628, 40.6, (39.5,), '1EgJDCg7LXXnHdGdJaHyEnoBPm-fNG2bt'),
            'r18': (21_410_100, 21.3, (31.8,), None),
            'r50': (37_968_692, 37.7, (36.3,), None),
            'r101': (56_960_820, 56.7, (38.5,), None),
        },
    ),
    **_rows(
        'mask_rcnn',
        '1x',
        ('box AP', 'mask AP'),
        {
            'poolformer_s12': (31_570_608, 31.6, (37.3, 34.6), '1-GSkqaS3SovfCVDsH8CzS1DikPX3cFTY'),
            'poolformer_s24': (41_044_400, 41.0, (40.1, 37.0), '10Br62EU-VErQq6rP67sf4qXJIBLOnmLT'),
            'poolformer_s36': (50_518_192, 50.5, (41.0, 37.7), '1LyJxcO0fw2hwZg9Z--Zbjbw3W7U4JyqT'),
            'r18': (31_327_536, 31.2, (34.0, 31.2), None),
            'r50': (44_396_336, 44.2, (38.0, 34.4), None),
            'r101': (63_388_464, 63.2, (40.4, 36.4), None),
        },
    ),
    **_rows(
        'fpn',
        '40k',
        ('mIoU',),
        {
            'poolformer_s12': (15_669_846, 15.7, (37.2,), '1BcqU1yU2IPkI7RtWEmIw-R8tqMGY_XBt'),
            'poolformer_s24': (25_143_638, 23.2, (40.3,), '1DO329W8eDrfgycHi7YagFWz7IyAb07Wl'),
            'poolformer_s36': (34_617_430, 34.6, (42.0,), '1Rd6XxBXLEYWH-70IMvF6UiVymaWA3gik'),
            'poolformer_m36': (59_778_006, 59.8, (42.4,), '1Xgk7FI3FpOW2__UQhnGf7UGUHA3UzTRq'),
            'poolformer_m48': (77_078_934, 77.1, (42.7,), '1KjeR_4Ue0QyslDimp3OYkRqeqNAwoAez'),
            'r18': (15_446_006, 15.5, (32.9,), None),
            'r50': (28_514_806, 28.5, (36.7,), None),
            'r101': (47_506_934, 47.5, (38.8,), None),
            'x101-32x4d': (47_116_246, 47.1, (39.7,), None),
            'x101-64x4d': (86_393_814, 86.4, (40.2,), None),
            'pvt_tiny': (16_980_886, 17.0, (35.7,), None),
            'pvt_small': (28_237_462, 28.2, (39.8,), None),
            'pvt_medium': (47_959_702, 48.0, (41.6,), None),
            'pvt_large': (65_120_918, 65.1, (42.1,), None),
        },
    ),
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
