"""What happens around the matrix products: functions that launch one or two kernels each.

Maps are rows of channels, ``(B, N, C)``, contiguous; ``p`` has the parameters, contiguous.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from mmpoolformer.ops.channel_mlp import triton_kernels as kernels
from mmpoolformer.ops.channel_mlp.arguments import MLPParameters, Options
from mmpoolformer.ops.triton_statistics import part_statistics, width_of

# Eight numbers per thread: 16 bytes in half precision, the widest load there is.
_TILE = 1024
_FLAT = 2048
# Programs per sample and column of tiles that there are at least before programs get more rows.
_PROGRAMS = 64


def normalise(
    x: Tensor, p: MLPParameters, options: Options, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return the normalised rows, ``(B, N, C)``, and mean and rstd.

    The statistics are ``(B, 2)``, or ``(B, N, 2)`` if they are taken per position.
    """
    normed = torch.empty_like(x, dtype=dtype)
    shape = (*x.shape[:2], 2) if options.per_position else (len(x), 2)
    statistics = x.new_empty(shape, dtype=torch.float32)
    grid, _, sizes = _tiling(x, whole_rows=options.per_position, walk=True)
    tensors = x, normed, p.norm_weight, p.norm_bias, statistics
    if options.per_position:
        kernels.normalise_positions_kernel[grid](*tensors, options.eps, *sizes)
    else:
        parts, length = part_statistics(x)
        kernels.normalise_samples_kernel[grid](*tensors, parts, length, options.eps, *sizes)
    return normed, statistics


def activate(hidden: Tensor, out: Tensor, p: MLPParameters) -> None:
    """Write GELU, or StarReLU if it has a scale, of ``hidden`` to ``out``."""
    size = hidden.numel()
    grid = (triton.cdiv(size, _FLAT),)
    if p.act_scale is None:
        kernels.gelu_kernel[grid](hidden, out, size, _FLAT)
    else:
        kernels.star_relu_kernel[grid](hidden, out, p.act_scale, p.act_bias, size, _FLAT)


def add_branch(x: Tensor, branch: Tensor, out: Tensor, p: MLPParameters) -> None:
    """Write ``res_scale * x + drop_factor * layer_scale * branch``, ``(B, N, C)``, to ``out``.

    ``out`` may be ``x``.
    """
    grid, _, sizes = _tiling(x)
    factors = p.layer_scale, p.res_scale, p.drop_factor
    kernels.add_branch_kernel[grid](x, branch, out, *factors, *sizes)


def branch_gradient(
    grad: Tensor, x: Tensor | None, p: MLPParameters, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the branch's gradient before and after LayerScale, and sums over all rows.

    They are ``drop_factor * grad`` and that times ``layer_scale``, ``(B, N, C)`` in ``dtype``, and
    the sums of the former and, unless ``x`` is ``None``, of ``grad * x``, ``(1 or 2, C)``.
    """
    plain = scaled = grad
    if p.drop_factor is not None or grad.dtype != dtype:
        plain = scaled = torch.empty_like(grad, dtype=dtype)
    if p.layer_scale is not None:
        scaled = torch.empty_like(grad, dtype=dtype)
    grid, programs, sizes = _tiling(grad, walk=True)
    partial = _partial_sums(grad, programs, 1 if x is None else 2)
    written = None if plain is grad else plain, None if scaled is plain else scaled, partial
    kernels.branch_gradient_kernel[grid](grad, x, *written, p.layer_scale, p.drop_factor, *sizes)
    return plain, scaled, partial.sum((0, 1))


def activate_backward(hidden: Tensor, grad: Tensor, p: MLPParameters) -> tuple[Tensor, Tensor]:
    """Return the activated layer, ``(N, hidden)``, and sums over rows, ``(1 or 3, hidden)``.

    ``hidden`` is the layer before its activation, whose gradient overwrites ``grad``, that of the
    activated layer. The sums are those of the gradients of ``hidden`` and, with StarReLU, of
    ``act_scale`` and ``act_bias``.
    """
    activated = torch.empty_like(hidden)
    grid, programs, sizes = _tiling(hidden[None], walk=True)
    partial = _partial_sums(hidden[None], programs, 1 if p.act_scale is None else 3)
    maps = hidden, grad, activated, partial
    if p.act_scale is None:
        kernels.gelu_backward_kernel[grid](*maps, *sizes)
    else:
        kernels.star_relu_backward_kernel[grid](*maps, p.act_scale, p.act_bias, *sizes)
    return activated, partial.sum((0, 1))


def norm_sums(
    x: Tensor, grad: Tensor, statistics: Tensor, p: MLPParameters, per_position: bool
) -> tuple[Tensor, Tensor]:
    """Return the normalised rows once more, and sums over the positions of each sample.

    The rows, ``(B, N, C)``, have the type of ``grad``, which is their gradient; the sums are those
    of ``grad`` and of ``grad * (x - mean) * rstd``, ``(B, 2, C)``.
    """
    normed = torch.empty_like(grad)
    grid, programs, sizes = _tiling(x, walk=True)
    partial = _partial_sums(x, programs, 2)
    tensors = x, grad, normed, partial, statistics, p.norm_weight, p.norm_bias
    kernels.norm_sums_kernel[grid](*tensors, *sizes, per_position)
    return normed, partial.sum(1)


def norm_backward(
    x: Tensor,
    normed_grad: Tensor,
    grad: Tensor,
    statistics: Tensor,
    means: Tensor | None,
    p: MLPParameters,
) -> Tensor:
    """Return the gradient of ``x``, ``(B, N, C)``.

    Args:
        x: The input.
        normed_grad: Gradient of the normalised rows.
        grad: Gradient of the output.
        statistics: As returned by :func:`normalise`.
        means: ``(B, 2)``: the means over each sample of ``g = normed_grad * norm_weight`` and of
            ``g * (x - mean) * rstd``; ``None`` for a norm per position, which takes its own.
        p: The parameters.
    """
    out = torch.empty_like(x)
    grid, _, sizes = _tiling(x, whole_rows=means is None)
    tensors = x, normed_grad, grad, out, statistics, means, p.norm_weight, p.res_scale
    kernels.norm_backward_kernel[grid](*tensors, *sizes, means is None)
    return out


class _Tiling(NamedTuple):
    """How a map, ``(B, N, C)``, is cut."""

    grid: tuple[int, int]  # Programs in a sample, and samples.
    programs: int  # Programs in a sample one above the other.
    # Positions, channels, tiles that a program walks down if it walks, rows and columns of a tile.
    sizes: tuple[int, ...]


def _tiling(x: Tensor, whole_rows: bool = False, walk: bool = False) -> _Tiling:
    """Cut a map into tiles; with ``whole_rows`` each has all channels."""
    batch, tokens, channels = x.shape
    columns = triton.next_power_of_2(channels) if whole_rows else width_of(channels, 64)
    rows = max(_TILE // columns, 1)
    # More rows per program mean fewer partial sums.
    steps = min(max(tokens // (_PROGRAMS * rows), 1), 16) if walk else 1
    programs = triton.cdiv(tokens, rows * steps)
    sizes = (tokens, channels, steps, rows, columns) if walk else (tokens, channels, rows, columns)
    return _Tiling((programs * triton.cdiv(channels, columns), batch), programs, sizes)


def _partial_sums(x: Tensor, programs: int, kinds: int) -> Tensor:
    return x.new_empty((len(x), programs, kinds, x.shape[2]), dtype=torch.float32)
