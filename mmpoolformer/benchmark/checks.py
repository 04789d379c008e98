"""The gate: entries that do not compute the same are not compared."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

# Of features and gradients, relative to the size of the whole tensor. In float32 what was seen is
# a hundred times smaller; in the others the bound is a few times what plain PyTorch has.
TOLERANCES = {'float32': 1e-4, 'float16': 3e-2, 'bfloat16': 2e-1}


class Disagreement(Exception):
    """An entry does not compute what the reference computes; the message says where."""


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Return ``|actual - expected| / |expected|`` in the Euclidean norm."""
    expected = expected.double()
    return float((actual.double() - expected).norm() / expected.norm())


def check(
    name: str, actual: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float
) -> float:
    """Compare what an entry computed with what is expected.

    Args:
        name: Of the entry.
        actual: Tensors by what they are, e.g. ``'map of stage 0'``.
        expected: The same from the reference. Shapes may differ where the number of entries is the
            same: what is a matrix here is a 1x1 convolution there.
        tolerance: Largest relative error allowed.

    Returns:
        The largest relative error.

    Raises:
        Disagreement: If it is too large, or something is missing.
    """
    if actual.keys() != expected.keys():
        odd = sorted(actual.keys() ^ expected.keys())
        raise Disagreement(
            f'{name} and the reference do not compute the same: only one of them has {odd[0]}'
        )
    worst = 0.0
    for what, tensor in expected.items():
        if actual[what].numel() != tensor.numel():
            shapes = f'{tuple(actual[what].shape)} instead of {tuple(tensor.shape)}'
            raise Disagreement(f'{name}: the {what} is {shapes}')
        error = relative_error(actual[what].flatten(), tensor.flatten())
        if not error <= tolerance:  # Not a number is no agreement either.
            raise Disagreement(
                f'{name} does not agree with the reference: the {what} is off by {error:.1e} of '
                f'its size, where {tolerance:.0e} is allowed'
            )
        worst = max(worst, error)
    return worst
