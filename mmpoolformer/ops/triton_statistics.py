"""What the Triton implementations share: statistics of a sample in two stages, and tuning.

First each program reduces one part of a sample to a mean and a sum of squared distances from it.
Whatever kernel needs the statistics then joins the parts itself, which saves a launch. No stage
uses atomics or E[x²] - E[x]²: the result is the same in every run, and exact for a large mean.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

# Most parts of a sample: enough programs for one image, few enough that joining them is cheap.
MOST_PARTS = tl.constexpr(256)
_BLOCK = 4096


class Parts(NamedTuple):
    """Statistics of the parts of each sample."""

    values: Tensor  # (B, 2, MOST_PARTS), fp32: mean, and sum of squared distances from it.
    length: int  # Numbers in a part; the last one of a sample may have fewer.


def part_statistics(x: Tensor) -> Parts:
    """Reduce each sample in parts.

    The parts depend on the size of a sample only, so a sample gets the same result in any batch.

    Args:
        x: ``(B, C, H, W)`` without gaps: contiguous or channels-last.
    """
    size = x[0].numel()
    blocks = triton.cdiv(size, _BLOCK)
    length = triton.cdiv(blocks, min(MOST_PARTS.value, triton.cdiv(blocks, 2))) * _BLOCK
    values = torch.empty((len(x), 2, MOST_PARTS.value), dtype=torch.float32, device=x.device)
    grid = (triton.cdiv(size, length), len(x))
    _reduce_part[grid](x, values, size, length, block=_BLOCK, num_warps=8)
    return Parts(values, length)


@triton.jit
def _reduce_part(x, values, size, length, block: tl.constexpr):
    """Run Welford's update in each lane, then join the lanes."""
    part, sample = tl.program_id(0), tl.program_id(1)
    x += sample.to(tl.int64) * size
    lanes = tl.arange(0, block)
    count = tl.zeros([block], tl.float32)
    mean = tl.zeros([block], tl.float32)
    squares = tl.zeros([block], tl.float32)
    for step in range(length // block):
        offsets = part * length + step * block + lanes
        inside = offsets < size
        value = tl.load(x + offsets, mask=inside, other=0.0).to(tl.float32)
        distance = tl.where(inside, value - mean, 0.0)
        mean += distance * (1.0 / (step + 1.0))
        squares += distance * (value - mean)
        count += tl.where(inside, 1.0, 0.0)
    _, centre = _join(count, mean, lanes)
    squares = tl.sum(squares + count * (mean - centre) * (mean - centre), axis=0)
    values += sample * 2 * MOST_PARTS + part
    tl.store(values, centre)
    tl.store(values + MOST_PARTS, squares)


@triton.jit
def join_parts(values, sample, size, length, eps):
    """Return mean and ``1 / sqrt(variance + eps)`` of a sample of ``size`` numbers."""
    part = tl.arange(0, MOST_PARTS)
    count = tl.minimum(size - part.to(tl.int64) * length, length)
    inside = count > 0
    count = tl.where(inside, count, 0).to(tl.float32)
    values += sample * 2 * MOST_PARTS + part
    means = tl.load(values, mask=inside, other=0.0)
    squares = tl.load(values + MOST_PARTS, mask=inside, other=0.0)
    total, mean = _join(count, means, part)
    squares = tl.sum(squares + count * (means - mean) * (means - mean), axis=0)
    return mean, 1.0 / tl.sqrt_rn(squares / total + eps)


@triton.jit
def _join(count, means, index):
    """Return the sum of the counts and the mean of all."""
    # Relative to the first mean: the sum of large means would lose the digits that differ.
    first = tl.sum(tl.where(index == 0, means, 0.0), axis=0)
    total = tl.sum(count, axis=0)
    return total, first + tl.sum(count * (means - first), axis=0) / total


# Under TRITON_INTERPRET=1 Triton makes no JITFunction: NumPy then runs the kernels on the CPU.
INTERPRETED = not isinstance(_reduce_part, triton.JITFunction)


def tuned(configs: list[triton.Config], key: list[str]) -> Callable:
    """Decorate a kernel that is tuned once per ``key`` and machine; the interpreter never tunes.

    Only kernels without sums over programs or lanes are tuned: another tile would add in another
    order, and two runs would differ.
    """
    configs = configs[:1] if INTERPRETED else configs
    return triton.autotune(configs, key=key, cache_results=True)


def size_class(x: Tensor) -> int:
    """Return a number that is equal for maps of similar size, so that few sizes are tuned."""
    return x.numel().bit_length() // 2


def width_of(channels: int, most: int) -> int:
    """Return the number of channels in a tile, a power of two."""
    return min(triton.next_power_of_2(channels), most)
