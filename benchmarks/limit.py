"""The machine's limit: how fast plain matrix products of a model's own sizes run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.settings import DTYPES, Setting

SECONDS = 0.15  # Per product.


@dataclass(frozen=True)
class Rate:
    """How fast one product ran, in operations (two per multiply-accumulate) per second."""

    method: str
    shape: tuple[int, int, int]
    rate: float


@dataclass(frozen=True)
class Limit:
    """What bounds the time of an iteration from below.

    Args:
        macs: Multiply-accumulates of an iteration, 3 times those of the forward pass in training.
        rates: Of all products.
    """

    macs: int
    rates: tuple[Rate, ...]

    @property
    def best(self) -> Rate:
        return max(self.rates, key=lambda rate: rate.rate)

    @property
    def seconds(self) -> float:
        return 2 * self.macs / self.best.rate


def measure_limit(setting: Setting, macs: int, maps: Iterable[tuple[int, ...]]) -> Limit:
    """Measure products at the sizes of a model's MLPs, C to 4 C channels and back, at every map.

    Args:
        setting: Type and device.
        macs: Multiply-accumulates of a forward pass.
        maps: Shapes ``(B, C, H, W)``.
    """
    rates = []
    with torch.inference_mode():
        for batch, channels, height, width in maps:
            for k, n in ((channels, 4 * channels), (4 * channels, channels)):
                x = torch.randn(batch, height, width, k).to(setting.device, DTYPES[setting.dtype])
                for method, product in _products(x, n).items():
                    seconds = _time(product, setting.on_cuda)
                    if seconds is not None:
                        shape = (batch * height * width, k, n)
                        rates.append(Rate(method, shape, 2 * x.numel() * n / seconds))
                del x, product
    return Limit(3 * macs if setting.trains else macs, tuple(rates))


def _products(x: Tensor, n: int) -> dict[str, Callable[[], Tensor]]:
    """Return the ways to multiply ``x``, ``(B, H, W, K)``, by a matrix ``(K, n)``."""
    k = x.shape[-1]
    # Random like the images: constants draw less power, and a GPU runs them faster.
    weight, bias = torch.randn(n, k).to(x), x.new_zeros(n)
    flat, matrix = x.view(-1, k), weight.t().contiguous()
    products = {'torch.mm': lambda: flat @ matrix, 'F.linear': lambda: F.linear(flat, weight, bias)}
    if x.is_cuda:
        return products
    image = x.permute(0, 3, 1, 2)
    kernel = weight[:, :, None, None].to(memory_format=torch.channels_last)
    products['1x1 convolution, channels-last'] = lambda: F.conv2d(image, kernel, bias)
    linear = getattr(torch.ops.mkldnn, '_linear_pointwise', None)
    if linear is not None:
        products['oneDNN linear'] = lambda: linear(flat, weight, bias, 'none', [], '')
    return products


def _time(product: Callable[[], Tensor], on_cuda: bool) -> float | None:
    """Return the median time of a product, ``None`` if it does not run on this machine."""
    wait = torch.cuda.synchronize if on_cuda else lambda: None
    try:
        product()
        wait()
    except (RuntimeError, NotImplementedError):
        return None
    # Many at a time on a GPU, where starting one takes longer than small ones run.
    times, count, end = [], 20 if on_cuda else 1, time.perf_counter() + SECONDS
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(count):
            product()
        wait()
        times.append((time.perf_counter() - start) / count)
    return float(np.median(times))
