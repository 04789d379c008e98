"""What the PyTorch implementations share: layout, chunks, statistics, products, gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from mmpoolformer.ops.dispatch import is_transformed

# Bytes of a temporary that stays in the last-level cache of a CPU, and is large enough for matrix
# products at full speed; 2**18 to 2**25 were measured.
CACHED = 2**23

# With fewer rows than this oneDNN is slower than MKL.
_FEW_ROWS = 64
# Numbers whose sum of squares is formed in fp32; such sums are added in double precision.
_SUMMED = 2**18
# Whether a product of matrices in half precision can be fp32: since PyTorch 2.8.
_WIDENS = 'dtype' in torch.ops.aten.mm.overloads()


def as_rows(x: Tensor) -> Tensor:
    """Return ``(B, C, H, W)`` as ``(B, H * W, C)``, without copying if it is channels-last."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def as_map(rows: Tensor, size: tuple[int, int]) -> Tensor:
    """Return ``(B, H * W, C)`` as a channels-last ``(B, C, H, W)``."""
    return rows.unflatten(1, size).permute(0, 3, 1, 2)


def in_cheaper_format(x: Tensor, weight: Tensor) -> Tensor:
    """Return the map that a convolution takes, in the memory format that costs fewer copies.

    Convolutions bring the kernel to the format of the map, several times in a training step; where
    the map is smaller, the map is what should be copied.
    """
    if is_transformed() or x.device.type != 'cpu' or not weight.is_contiguous():
        return x
    return x.contiguous() if x.numel() < weight.numel() else x


def chunks(rows: Tensor, width: int, itemsize: int) -> Iterator[tuple[slice, slice]]:
    """Cut ``(B, N, C)`` into samples and positions.

    On a GPU there is one chunk: a kernel per chunk would cost more than it brings.

    Args:
        rows: The map.
        width: Numbers per position of what should stay in the cache.
        itemsize: Bytes of each.
    """
    batch, positions = rows.shape[:2]
    if rows.device.type != 'cpu':
        yield slice(0, batch), slice(0, positions)
        return
    most = max(CACHED // (width * itemsize), 16)
    samples = max(most // positions, 1)
    parts = -(-positions // most)
    for first in range(0, batch, samples):
        for part in range(parts):
            # Equal parts: each new shape costs the matrix library a new kernel.
            step = -(-positions // parts)
            yield (
                slice(first, min(first + samples, batch)),
                slice(part * step, min((part + 1) * step, positions)),
            )


def statistics(rows: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return mean and ``1 / sqrt(variance + eps)`` of each sample, ``(B,)``, fp32 or wider.

    Args:
        rows: ``(B, N, C)``, contiguous.
        eps: Added to the variance.
    """
    if rows.device.type != 'cpu' or rows.dtype == torch.float64:
        inner = torch.promote_types(rows.dtype, torch.float32)
        variance, mean = torch.var_mean(rows.to(inner), (1, 2), correction=0)
        return mean, (variance + eps).rsqrt()
    # torch.var_mean takes ten times as long as these two passes.
    moments = [_moments(sample.flatten()) for sample in rows]
    mean, variance = torch.tensor(moments, dtype=torch.float64).T
    return mean.float(), (variance + eps).rsqrt().float()


def _moments(values: Tensor) -> tuple[float, float]:
    """Return mean and variance; sums over parts are in double precision."""
    count, parts = values.numel(), values.split(_SUMMED)
    mean = sum(part.sum(dtype=torch.float32).item() for part in parts) / count
    square = sum(torch.dot(wide, wide).item() for wide in map(Tensor.float, parts)) / count
    variance = square - mean**2
    if variance < 1e-2 * square:  # The difference has lost digits.
        centred = (part.float() - mean for part in parts)
        variance = sum(torch.dot(part, part).item() for part in centred) / count
    return mean, variance


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, act: str = 'none') -> Tensor:
    """Return ``act(x @ weight.T + bias)`` for ``act`` of ``'none'``, ``'gelu'`` or ``'relu'``."""
    if _has_onednn(x) and len(x) >= _FEW_ROWS:
        # oneDNN applies the activation while the product is in registers; F.linear would call
        # MKL, which takes twice as long on some processors.
        approximation = 'none' if act == 'gelu' else ''
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, act, [], approximation)
    x = F.linear(x, weight, bias)
    return {'none': lambda h: h, 'gelu': F.gelu, 'relu': F.relu}[act](x)


def outer(a: Tensor, b: Tensor) -> Tensor:
    """Return ``a.T @ b``, a sum over all rows, in fp32 or wider: fp16 could not hold it."""
    if _has_onednn(a):
        return _outer_by_onednn(a, b).float()
    if _WIDENS and a.is_cuda and a.dtype in (torch.float16, torch.bfloat16):
        return torch.mm(a.T, b, out_dtype=torch.float32)
    wide = torch.promote_types(a.dtype, torch.float32)
    return a.to(wide).T @ b.to(wide)


def _outer_by_onednn(a: Tensor, b: Tensor) -> Tensor:
    widths = a.shape[1], b.shape[1]
    if len(a) >= max(widths):
        # The weight gradient of a 1x1 convolution: it reads both as they are.
        a_map, b_map = (rows[None, None].permute(0, 3, 1, 2) for rows in (a, b))
        _, product, _ = torch.ops.aten.convolution_backward(
            a_map,
            b_map,
            a.new_empty(*widths, 1, 1),
            bias_sizes=None,
            stride=[1, 1],
            padding=[0, 0],
            dilation=[1, 1],
            transposed=False,
            output_padding=[0, 0],
            groups=1,
            output_mask=[False, True, False],
        )
        return product[:, :, 0, 0]
    # A linear layer with columns as its rows; it needs a copy, of the smaller one.
    if widths[0] <= widths[1]:
        return linear(a.T.contiguous(), b.T)
    return linear(b.T.contiguous(), a.T).T.contiguous()


def needed_gradients(
    grads: Sequence[Tensor | None], parameters: Sequence[Tensor | None], needed: Sequence[bool]
) -> list[Tensor | None]:
    """Return each gradient in its parameter's type and shape, ``None`` where none is needed."""
    return [
        grad.to(parameter.dtype).view_as(parameter) if need and grad is not None else None
        for grad, parameter, need in zip(grads, parameters, needed, strict=True)
    ]


def _has_onednn(x: Tensor) -> bool:
    return (
        x.device.type == 'cpu'
        and x.dtype in (torch.float32, torch.bfloat16)
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and hasattr(torch.ops.mkldnn, '_linear_pointwise')
    )
