"""What happens around the matrix products: functions that launch one or two kernels each.

Maps are rows of channels, ``(B, N, C)``, contiguous.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from mmpoolformer.ops.channel_mlp import triton_kernels as kernels
from mmpoolformer.ops.triton_statistics import MOST_PARTS, part_statistics, width_of

# Eight numbers per thread: 16 bytes in half precision, the widest load there is.
_TILE = 1024
_FLAT = 2048


def normalise(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    dtype: torch.dtype,
    per_position: bool,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Return the normalised rows, ``(B, N, C)``, and mean and rstd.

    The statistics are ``(B, 2)``, or ``(B, N, 2)`` if they are taken per position.
    """
    batch, tokens, channels = x.shape
    normed = torch.empty_like(x, dtype=dtype)
    shape = (batch, tokens, 2) if per_position else (batch, 2)
    statistics = x.new_empty(shape, dtype=torch.float32)
    parts, length = (None, 0) if per_position else part_statistics(x)
    rows, columns, grid, steps = _tiling(x, per_position, walk=True)
    kernels.normalise_kernel[grid](
        *(x, normed, weight, bias, parts, statistics, tokens, channels, length, eps, steps),
        *(per_position, MOST_PARTS, rows, columns),
    )
    return normed, statistics


def activate(
    hidden: Tensor, out: Tensor, act_scale: Tensor | None, act_bias: Tensor | None
) -> None:
    """Write GELU, or StarReLU if it has a scale, of ``hidden`` to ``out``."""
    size = hidden.numel()
    kernels.activate_kernel[(triton.cdiv(size, _FLAT),)](
        hidden, out, act_scale, act_bias, size, _FLAT
    )


def add_branch(
    x: Tensor,
    branch: Tensor,
    out: Tensor,
    layer_scale: Tensor | None,
    res_scale: Tensor | None,
    drop_factor: Tensor | None,
) -> None:
    """Write ``res_scale * x + drop_factor * layer_scale * branch``, ``(B, N, C)``, to ``out``.

    ``out`` may be ``x``.
    """
    rows, columns, grid, _ = _tiling(x)
    kernels.add_branch_kernel[grid](
        x, branch, out, layer_scale, res_scale, drop_factor, *x.shape[1:], rows, columns
    )


def branch_gradient(
    grad: Tensor,
    x: Tensor | None,
    layer_scale: Tensor | None,
    drop_factor: Tensor | None,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradient without and with LayerScale, and sums over all rows.

    Args:
        grad: Gradient of the output, ``(B, N, C)``.
        x: The input, if the sum of ``grad * x`` is wanted.
        layer_scale: ``(C,)``.
        drop_factor: ``(B,)``.
        dtype: That of the matrix products.

    Returns:
        ``drop_factor * grad`` and the same times ``layer_scale``, ``(B, N, C)``, and the sums of
        the former and, with ``x``, of ``grad * x``, ``(1 or 2, C)``.
    """
    plain = scaled = grad
    if drop_factor is not None or grad.dtype != dtype:
        plain = scaled = torch.empty_like(grad, dtype=dtype)
    if layer_scale is not None:
        scaled = torch.empty_like(grad, dtype=dtype)
    rows, columns, grid, steps = _tiling(grad, walk=True)
    partial = _partial_sums(grad, grid, columns, 1 if x is None else 2)
    kernels.branch_gradient_kernel[grid](
        *(grad, x, None if plain is grad else plain, None if scaled is plain else scaled, partial),
        *(layer_scale, drop_factor, *grad.shape[1:], steps, rows, columns),
    )
    return plain, scaled, partial.sum((0, 1))


def activate_backward(hidden: Tensor, grad: Tensor, act_scale, act_bias) -> tuple[Tensor, Tensor]:
    """Return the activated layer and sums over rows; ``grad`` becomes that of ``hidden``.

    Args:
        hidden: Before the activation, ``(N, hidden)``.
        grad: Gradient of the activated layer, overwritten.
        act_scale: ``(1,)``, or ``None`` for GELU.
        act_bias: ``(1,)``, or ``None`` for GELU.

    Returns:
        ``(N, hidden)``, and ``(3, hidden)``: the sums of the gradients of ``hidden``, of
        ``act_scale`` and of ``act_bias``; GELU has the first only.
    """
    activated = torch.empty_like(hidden)
    rows, columns, grid, steps = _tiling(hidden[None], walk=True)
    partial = _partial_sums(hidden[None], grid, columns, 1 if act_scale is None else 3)
    kernels.activate_backward_kernel[grid](
        hidden, grad, activated, partial, act_scale, act_bias, *hidden.shape, steps, rows, columns
    )
    return activated, partial.sum((0, 1))


def norm_sums(
    x: Tensor,
    grad: Tensor,
    statistics: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    per_position: bool,
) -> tuple[Tensor, Tensor]:
    """Return the normalised rows once more, and sums over the positions of each sample.

    Args:
        x: The input, ``(B, N, C)``.
        grad: Gradient of the normalised rows.
        statistics: As returned by :func:`normalise`.
        weight: ``(C,)``.
        bias: ``(C,)``.
        per_position: Whether there are statistics for each position.

    Returns:
        ``(B, N, C)`` in the type of ``grad``, and ``(B, 2, C)``: the sums of ``grad`` and of
        ``grad * (x - mean) * rstd``.
    """
    normed = torch.empty_like(grad)
    rows, columns, grid, steps = _tiling(x, walk=True)
    partial = _partial_sums(x, grid, columns, 2)
    kernels.norm_sums_kernel[grid](
        *(x, grad, normed, partial, statistics, weight, bias, *x.shape[1:], steps),
        *(per_position, rows, columns),
    )
    return normed, partial.sum(1)


def norm_backward(
    x: Tensor,
    normed_grad: Tensor,
    grad: Tensor,
    statistics: Tensor,
    means: Tensor | None,
    weight: Tensor,
    res_scale: Tensor | None,
) -> Tensor:
    """Return the gradient of ``x``, ``(B, N, C)``.

    Args:
        x: The input.
        normed_grad: Gradient of the normalised rows.
        grad: Gradient of the output.
        statistics: As returned by :func:`normalise`.
        means: ``(B, 2)``: the means over each sample of ``g = normed_grad * weight`` and of
            ``g * (x - mean) * rstd``; ``None`` for a norm per position, which takes its own.
        weight: ``(C,)``.
        res_scale: ``(C,)``.
    """
    out = torch.empty_like(x)
    rows, columns, grid, _ = _tiling(x, means is None)
    kernels.norm_backward_kernel[grid](
        *(x, normed_grad, grad, out, statistics, means, weight, res_scale, *x.shape[1:]),
        *(means is None, rows, columns),
    )
    return out


def _tiling(
    x: Tensor, whole_rows: bool = False, walk: bool = False
) -> tuple[int, int, tuple[int, int], int]:
    """Return rows and columns of a tile, the grid, and how many tiles a program walks down."""
    batch, tokens, channels = x.shape
    columns = triton.next_power_of_2(channels) if whole_rows else width_of(channels, 64)
    rows = max(_TILE // columns, 1)
    # At least 64 programs per sample and column; more rows per program mean fewer partial sums.
    steps = min(max(tokens // (64 * rows), 1), 16) if walk else 1
    programs = triton.cdiv(tokens, rows * steps) * triton.cdiv(channels, columns)
    return rows, columns, (programs, batch), steps


def _partial_sums(x: Tensor, grid: tuple, columns: int, kinds: int) -> Tensor:
    programs = grid[0] // triton.cdiv(x.shape[2], columns)
    return x.new_empty((x.shape[0], programs, kinds, x.shape[2]), dtype=torch.float32)
