"""Token mixers: ``mixer(dim, ...)`` is a module from ``(B, dim, H, W)`` to the same shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmpoolformer.models.layers import build_activation, init_truncated


class Pooling(nn.Module):
    """Average pooling minus its input, the token mixer of PoolFormer (paper, Algorithm 1).

    The input is subtracted because the block adds it back as a residual. Positions outside the
    map do not count towards the average.

    Args:
        dim: Channels; pooling has no parameters and ignores it.
        pool_size: Side of the window, odd so that the map keeps its size.

    Raises:
        ValueError: If ``pool_size`` is not a positive odd integer.

    Example:
        >>> Pooling(dim=1)(torch.ones(1, 1, 4, 4)).abs().max()
        tensor(0.)
    """

    def __init__(self, dim: int, pool_size: int = 3) -> None:
        super().__init__()
        _check_window('pool_size', pool_size)
        self.pool = nn.AvgPool2d(
            pool_size, stride=1, padding=pool_size // 2, count_include_pad=False
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x) - x


def _check_window(name: str, size: int) -> None:
    """Raise ValueError for a window that would change the size of the map."""
    if not isinstance(size, int) or size < 1 or size % 2 == 0:
        raise ValueError(
            f'{name}={size}: must be a positive odd integer such as 3, 5 or 7, '
            'an even window would change the size of the map'
        )


class _FixedSizeMixer(nn.Module):
    """Mixes tokens by one matrix for all channels, made for maps of one size.

    Args:
        size: Height and width, or side, of those maps.
        interpolate: Whether to resample the matrix, seen as ``(h, w, h', w')``, for maps of another
            size; otherwise these are an error.

    Raises:
        ValueError: In ``forward``, for maps of another size without ``interpolate``.
    """

    def __init__(self, size: int | tuple[int, int], interpolate: bool) -> None:
        super().__init__()
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        self.tokens = self.size[0] * self.size[1]
        self.interpolate = interpolate

    def _fit(self, matrix: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the matrix for maps of ``size``; its rows keep their sums, on average."""
        if size == self.size:
            return matrix
        if not self.interpolate:
            raise ValueError(
                f'{type(self).__name__} was made for maps of {self.size}, this one is {size}: feed '
                'images of the size it was made for, or set interpolate=True'
            )
        return resample_tokens(matrix, self.size, size) * (self.tokens / (size[0] * size[1]))


class RandomMixing(_FixedSizeMixer):
    """Mix all tokens with one fixed random matrix, whose rows sum to 1 (arXiv 2111.11418, table 5).

    Args:
        dim: Channels; the same matrix serves all of them.
        size: Height and width, or side, of the maps it is made for.
        interpolate: Whether to resample the matrix, seen as ``(h, w, h', w')``, for maps of another
            size; otherwise these are an error.

    Raises:
        ValueError: In ``forward``, for maps of another size without ``interpolate``.
    """

    def __init__(self, dim: int, size: int | tuple[int, int], interpolate: bool = False) -> None:
        super().__init__(size, interpolate)
        matrix = torch.rand(self.tokens, self.tokens).softmax(dim=-1)
        self.random_matrix = nn.Parameter(matrix, requires_grad=False)
        # The matrix for the last other size, and what it was made of.
        self._resampled: tuple[tuple, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        size = tuple(x.shape[2:])
        matrix = self.random_matrix if size == self.size else self._matrix_for(size)
        return (x.flatten(2) @ matrix.to(x.dtype).T).unflatten(2, size)

    def _matrix_for(self, size: tuple[int, int]) -> Tensor:
        """Return the matrix resampled to ``size``; that of the last call is kept."""
        matrix = self.random_matrix
        keep = not (torch.compiler.is_compiling() or matrix.is_inference())
        made_of = (size, matrix.data_ptr(), matrix._version) if keep else None
        if keep and self._resampled is not None and self._resampled[0] == made_of:
            return self._resampled[1]
        fitted = self._fit(matrix, size).detach()
        fitted = fitted / fitted.sum(dim=-1, keepdim=True)
        if keep:
            self._resampled = made_of, fitted
        return fitted


class SpatialFC(_FixedSizeMixer):
    """Mix all tokens with one learnable matrix and a bias per token (arXiv 2111.11418, table 5).

    Args:
        dim: Channels; the same matrix serves all of them.
        size: Height and width, or side, of the maps it is made for.
        interpolate: Whether to resample matrix and bias for maps of another size; otherwise these
            are an error.

    Raises:
        ValueError: In ``forward``, for maps of another size without ``interpolate``.
    """

    def __init__(self, dim: int, size: int | tuple[int, int], interpolate: bool = False) -> None:
        super().__init__(size, interpolate)
        self.fc = nn.Linear(self.tokens, self.tokens)
        init_truncated(self)

    def forward(self, x: Tensor) -> Tensor:
        size = tuple(x.shape[2:])
        weight, bias = self._fit(self.fc.weight, size), self.fc.bias
        if size != self.size:
            bias = F.interpolate(bias.view(1, 1, *self.size), size, mode='bilinear').flatten()
        return F.linear(x.flatten(2), weight, bias).unflatten(2, size)


def resample_tokens(matrix: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Resample a matrix between tokens, seen as ``(h, w, h', w')``, bilinearly in both pairs.

    Args:
        matrix: ``(h·w, h·w)`` for ``old`` = (h, w).
        old: Height and width it is for.
        new: Height and width wanted.
    """
    columns = F.interpolate(matrix.unflatten(1, old)[:, None], new, mode='bilinear')
    rows = columns.flatten(1).T.unflatten(1, old)[:, None]
    return F.interpolate(rows, new, mode='bilinear').flatten(1).T


class SepConv(nn.Module):
    """Inverted separable convolution of MobileNetV2, the mixer of ConvFormer (arXiv 2210.13452).

    Args:
        dim: Channels.
        expansion: Inner channels over ``dim``.
        kernel_size: Side of the depthwise kernel, odd.
        act_cfg: Activation after the first 1x1 convolution.

    Raises:
        ValueError: If ``kernel_size`` is not a positive odd integer.
    """

    def __init__(
        self,
        dim: int,
        expansion: float = 2.0,
        kernel_size: int = 7,
        act_cfg: dict | None = None,
    ) -> None:
        super().__init__()
        _check_window('kernel_size', kernel_size)
        inner = int(dim * expansion)
        self.pwconv1 = nn.Conv2d(dim, inner, 1, bias=False)
        self.act1 = build_activation(act_cfg or dict(type='StarReLU'))
        self.dwconv = nn.Conv2d(
            inner, inner, kernel_size, padding=kernel_size // 2, groups=inner, bias=False
        )
        self.pwconv2 = nn.Conv2d(inner, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.pwconv2(self.dwconv(self.act1(self.pwconv1(x))))


class DepthwiseConv(nn.Module):
    """One filter per channel (arXiv 2111.11418, table 5).

    Args:
        dim: Channels.
        kernel_size: Side of the filters, odd.

    Raises:
        ValueError: If ``kernel_size`` is not a positive odd integer.
    """

    def __init__(self, dim: int, kernel_size: int = 3) -> None:
        super().__init__()
        _check_window('kernel_size', kernel_size)
        self.conv = nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Attention(nn.Module):
    """Multi-head self-attention among all positions, the mixer of CAFormer's last stages.

    Args:
        dim: Channels, a multiple of ``head_dim``.
        head_dim: Channels per head.

    Raises:
        ValueError: If ``dim`` is no multiple of ``head_dim``.
    """

    def __init__(self, dim: int, head_dim: int = 32) -> None:
        super().__init__()
        if dim % head_dim:
            raise ValueError(
                f'dim={dim}, head_dim={head_dim}: the channels must be a multiple of head_dim'
            )
        self.head_dim = head_dim
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        tokens = x.flatten(2).transpose(1, 2)
        qkv = self.qkv(tokens).unflatten(2, (3, -1, self.head_dim)).permute(2, 0, 3, 1, 4)
        # Never holds the (tokens, tokens) matrix.
        mixed = F.scaled_dot_product_attention(*qkv.unbind()).transpose(1, 2).flatten(2)
        return self.proj(mixed).transpose(1, 2).unflatten(2, size)


class Identity(nn.Identity):
    """Mix nothing: each position keeps its token."""

    def __init__(self, dim: int) -> None:
        super().__init__()


TOKEN_MIXERS: dict[str, type[nn.Module]] = {
    mixer.__name__: mixer
    for mixer in (Attention, DepthwiseConv, Identity, Pooling, RandomMixing, SepConv, SpatialFC)
}


def build_token_mixer(mixer: Mapping | Callable[[int], nn.Module], dim: int) -> nn.Module:
    """Build a token mixer from a config such as ``dict(type='Pooling', pool_size=5)``.

    Args:
        mixer: A config, whose type is one of :data:`TOKEN_MIXERS`, or a builder ``dim -> module``.
        dim: Channels.

    Raises:
        ValueError: If there is no mixer of that type.
    """
    if not isinstance(mixer, Mapping):
        return mixer(dim)
    options = dict(mixer)
    kind = options.pop('type', None)
    if kind not in TOKEN_MIXERS:
        raise ValueError(f'token mixer {kind!r}: choose one of {sorted(TOKEN_MIXERS)}')
    return TOKEN_MIXERS[kind](dim, **options)
