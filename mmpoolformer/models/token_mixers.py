"""Token mixers: ``mixer(dim, ...)`` is a module from ``(B, dim, H, W)`` to the same shape."""

from __future__ import annotations

from torch import Tensor, nn


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
        if not isinstance(pool_size, int) or pool_size < 1 or pool_size % 2 == 0:
            raise ValueError(
                f'pool_size={pool_size}: must be a positive odd integer such as 3, 5 or 7, '
                'an even window would change the size of the map'
            )
        self.pool = nn.AvgPool2d(
            pool_size, stride=1, padding=pool_size // 2, count_include_pad=False
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x) - x
