"""Pictures of single images: what a model finds in them, what it looks at, and its features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mmpoolformer.vis.scene import DPI, Scene, draw_scene

# Longer side of an image in the picture: small ones are enlarged, huge ones reduced.
_SHORTEST, _LONGEST = 520, 1040
# Narrower panels have no room for their titles.
_NARROWEST = 3.0  # inches


@dataclass
class FeatureMap:
    """One output of a backbone for one image.

    Args:
        stage: Index of the stage.
        stride: Input pixels per step, ``None`` if the backbone does not say.
        values: ``(C, h, w)``.
        size: Height and width of the input, in pixels, padding included.
    """

    stage: int
    stride: int | None
    values: np.ndarray
    size: tuple[int, int]


def draw_prediction(
    path: str | Path,
    name: str,
    image: np.ndarray,
    scene: Scene,
    classes: Sequence[str],
    palette: Sequence[tuple[int, int, int]],
    score_thr: float,
) -> None:
    """Write an image beside what was found in it.

    Args:
        path: The png to write.
        name: How to call the image.
        image: RGB, ``(H, W, 3)``, 0 to 255.
        scene: What was found.
        classes: Names of the classes.
        palette: RGB colour of each class, 0 to 255.
        score_thr: The score from which on boxes were kept, for the title.
    """
    colours = np.array(palette) / 255
    fig, (left, right) = _two_panels(image)
    left.set_title(_shorten(name))
    draw_scene(right, scene, classes, colours, named=True)
    if scene.label_map is None:
        number = len(scene.boxes)
        right.set_title(
            f'{number} object{"" if number == 1 else "s"} of score {score_thr:g} or more'
        )
    else:
        right.set_title('segmentation')
        _add_legend(fig, scene.label_map, classes, colours)
    fig.savefig(path, dpi=DPI)


def draw_scores(
    path: str | Path, name: str, image: np.ndarray, scores: np.ndarray, classes: Sequence[str]
) -> None:
    """Write an image beside its five highest scores.

    Args:
        path: The png to write.
        name: How to call the image.
        image: RGB, ``(H, W, 3)``, 0 to 255.
        scores: ``(classes,)``, 0 to 1.
        classes: Names of the classes.
    """
    best = np.argsort(scores)[::-1][:5]
    fig = Figure(figsize=(8, 4), layout='constrained')
    left, right = fig.subplots(1, 2)
    _show(left, image)
    left.set_title(_shorten(name))
    bars = right.barh(range(len(best)), scores[best], color='tab:blue')
    right.bar_label(bars, [f'{score:.2f}' for score in scores[best]], padding=3)
    right.set_yticks(range(len(best)), [_shorten(classes[i], 20) for i in best])
    right.invert_yaxis()
    right.set(xlim=(0, 1.15), xticks=[], title='highest scores')
    right.spines[['top', 'right', 'bottom']].set_visible(False)
    fig.savefig(path, dpi=DPI)


def draw_activation(
    path: str | Path, image: np.ndarray, heat: np.ndarray, titles: tuple[str, str]
) -> None:
    """Write an image beside itself under a heat map.

    Args:
        path: The png to write.
        image: RGB, ``(H, W, 3)``, 0 to 255.
        heat: ``(H, W)``, 0 to 1.
        titles: Those of the two panels.
    """
    fig, axes = _two_panels(image)
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title('\n'.join(_shorten(line) for line in title.splitlines()))
    axes[1].imshow(heat, cmap='jet', alpha=0.5, vmin=0, vmax=1, interpolation='bilinear')
    fig.savefig(path, dpi=DPI)


def draw_features(
    path: str | Path,
    name: str,
    image: np.ndarray,
    features: Sequence[FeatureMap],
    channels: int = 3,
) -> None:
    """Write a row of magnitudes per stage: mean over all channels, then the strongest channels.

    Args:
        path: The png to write.
        name: How to call the image.
        image: RGB, ``(H, W, 3)``, 0 to 255.
        features: What a backbone gave for it; padding is cut off.
        channels: How many single channels to draw.
    """
    height, width = image.shape[:2]
    aspect = float(np.clip(height / width, 0.4, 2.5))
    rows = len(features)
    fig = Figure(
        figsize=(2.1 * (1.4 + 1 + channels), rows * (2.0 * aspect + 0.5)), layout='constrained'
    )
    grid = fig.add_gridspec(rows, 2 + channels, width_ratios=[1.4, *[1] * (1 + channels)])
    original = fig.add_subplot(grid[:, 0])
    _show(original, image)
    original.set_title(f'{_shorten(name, 26)}\n{height} × {width} pixels', fontsize=10)
    for row, feature in enumerate(features):
        strength = np.abs(feature.values)
        strongest = np.argsort(strength.mean(axis=(1, 2)))[::-1][:channels]
        shape = ' × '.join(map(str, feature.values.shape))
        stride = f', stride {feature.stride}' if feature.stride else ''
        maps = {f'stage {feature.stage}{stride}\n{shape}: mean |x|': strength.mean(axis=0)}
        maps |= {f'channel {i}': strength[i] for i in strongest}
        for column, (title, values) in enumerate(maps.items(), start=1):
            axis = fig.add_subplot(grid[row, column])
            # In input pixels, so that the padding can be cut off.
            padded_height, padded_width = feature.size
            axis.imshow(values, extent=(0, padded_width, padded_height, 0), interpolation='nearest')
            axis.set(xlim=(0, width), ylim=(height, 0))
            _bare(axis)
            axis.set_title(title, fontsize=9)
    fig.savefig(path, dpi=DPI)


def _two_panels(image: np.ndarray) -> tuple[Figure, np.ndarray]:
    """Return a figure that shows the image twice, above each other if it is wide."""
    height, width = image.shape[:2]
    scale = np.clip(max(height, width), _SHORTEST, _LONGEST) / max(height, width) / DPI
    rows, columns = (2, 1) if width > 1.6 * height else (1, 2)
    size = (
        columns * max(width * scale, _NARROWEST) + 0.2,
        rows * (height * scale + 0.6) + 0.2,
    )
    fig = Figure(figsize=size, layout='constrained')
    axes = fig.subplots(rows, columns)
    for axis in axes:
        _show(axis, image)
    return fig, axes


def _show(axis: Axes, image: np.ndarray) -> None:
    axis.imshow(image)
    _bare(axis)


def _bare(axis: Axes) -> None:
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def _add_legend(
    fig: Figure, label_map: np.ndarray, classes: Sequence[str], colours: np.ndarray
) -> None:
    """Name the colours of the classes that are there, the largest first."""
    labels, counts = np.unique(label_map[label_map < len(colours)], return_counts=True)
    shares = dict(zip(labels, counts / label_map.size, strict=True))
    handles = []
    for i in sorted(shares, key=shares.get, reverse=True)[:12]:
        if classes[i] != 'background':
            share = f'{shares[i]:.0%}' if shares[i] >= 0.01 else '< 1%'
            handles.append(Patch(color=colours[i], label=f'{_shorten(classes[i], 20)} {share}'))
    if handles:
        columns = max(1, int(fig.get_figwidth() / 1.5))
        fig.legend(handles=handles, loc='outside lower center', ncols=columns, frameon=False)


def _shorten(text: str, length: int = 36) -> str:
    """Cut the middle out of a long text: both ends of a file's name tell files apart."""
    if len(text) <= length:
        return text
    return f'{text[: length // 2 - 1]}…{text[-(length - length // 2) :]}'
