"""Published detection and segmentation results: one row per config, standard library only.

From "MetaFormer Is Actually What You Need for Vision" (arXiv 2111.11418), tables 3 and 4, and the
authors' repository (sail-sg/poolformer), whose checkpoints load here as they are. Results of the
classifiers are in :mod:`mmpoolformer.archs`.
"""

from __future__ import annotations

from dataclasses import dataclass

_DRIVE = 'https://drive.usercontent.google.com/download?export=download&confirm=t&id='


@dataclass(frozen=True)
class Result:
    """What was published for one config.

    Args:
        params: Parameters of the whole model, recomputed by tests.
        metrics: By name, in percent.
        weights: Address of the authors' checkpoint.
    """

    params: int
    metrics: dict[str, float]
    weights: str


def _rows(method: str, schedule: str, metrics: tuple[str, ...], rows: dict) -> dict[str, Result]:
    return {
        f'{method}_poolformer_{size}_{schedule}': Result(
            params, dict(zip(metrics, values, strict=True)), _DRIVE + file
        )
        for size, (params, values, file) in rows.items()
    }


RESULTS: dict[str, Result] = {
    **_rows(
        'retinanet',
        '1x',
        ('box AP',),
        {
            's12': (21_653_044, (36.2,), '1GKx4jbxdO4ClagPXXt7CoomrV4pOpqul'),
            's24': (31_126_836, (38.9,), '1EjsWpdopem-xeLndPQnQcHp8aoEUHQXR'),
            's36': (40_600_628, (39.5,), '1EgJDCg7LXXnHdGdJaHyEnoBPm-fNG2bt'),
        },
    ),
    **_rows(
        'mask_rcnn',
        '1x',
        ('box AP', 'mask AP'),
        {
            's12': (31_570_608, (37.3, 34.6), '1-GSkqaS3SovfCVDsH8CzS1DikPX3cFTY'),
            's24': (41_044_400, (40.1, 37.0), '10Br62EU-VErQq6rP67sf4qXJIBLOnmLT'),
            's36': (50_518_192, (41.0, 37.7), '1LyJxcO0fw2hwZg9Z--Zbjbw3W7U4JyqT'),
        },
    ),
    **_rows(
        'fpn',
        '40k',
        ('mIoU',),
        {
            's12': (15_669_846, (37.2,), '1BcqU1yU2IPkI7RtWEmIw-R8tqMGY_XBt'),
            's24': (25_143_638, (40.3,), '1DO329W8eDrfgycHi7YagFWz7IyAb07Wl'),
            's36': (34_617_430, (42.0,), '1Rd6XxBXLEYWH-70IMvF6UiVymaWA3gik'),
            'm36': (59_778_006, (42.4,), '1Xgk7FI3FpOW2__UQhnGf7UGUHA3UzTRq'),
            'm48': (77_078_934, (42.7,), '1KjeR_4Ue0QyslDimp3OYkRqeqNAwoAez'),
        },
    ),
}
