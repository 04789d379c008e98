"""The gate: entries that do not compute the same are not compared."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from benchmarks.settings import DTYPES
from benchmarks.workload import Workload

# In float32. What was seen is ten to a hundred times smaller.
TOLERANCES = {'map': 1e-4, 'gradient': 1e-3}
# In half precision plain PyTorch is the measure: an entry may be off this much more than it is, or
# by this many rounding steps of the type.
TIMES_PLAIN, ROUNDING_STEPS = 3, 4


class DisagreementError(Exception):
    """An entry does not compute what the reference computes; the message says where."""


def computed(workload: Workload) -> dict[str, Tensor]:
    """Return what entries must agree on: maps and, in training mode, gradients.

    Parameters with the same role in the blocks of a stage have one vector of gradients: each alone
    can be a scalar, and by chance close to zero.
    """
    found = {f'map {i}': m for i, m in enumerate(workload.compute())}
    roles = {}
    for name, gradient in workload.gradients().items():
        # Pooling less identity cancels a constant: its gradient is zero but for rounding.
        if not name.endswith('norm1.bias'):
            role = re.sub(r'blocks\.\d+', 'blocks', name)
            roles.setdefault(f'gradient of {role}', []).append(gradient.flatten())
    return found | {role: torch.cat(gradients) for role, gradients in roles.items()}


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Return ``|actual - expected| / |expected|`` in the Euclidean norm."""
    expected = expected.double()
    return float((actual.double() - expected).norm() / expected.norm())


def tolerances(
    plain: Mapping[str, Tensor], exact: Mapping[str, Tensor], dtype: str
) -> dict[str, float]:
    """Return the largest relative error allowed of each tensor.

    Args:
        plain: What the reference computes in ``dtype``.
        exact: The same in float32.
        dtype: One of :data:`benchmarks.settings.DTYPES`.
    """
    if dtype == 'float32':
        return {what: TOLERANCES[_kind(what)] for what in exact}
    errors = {what: relative_error(plain[what], tensor) for what, tensor in exact.items()}
    # Some gradients are small by chance, so all are measured by the one that is hardest to get.
    largest = max((e for what, e in errors.items() if _kind(what) == 'gradient'), default=0.0)
    least = ROUNDING_STEPS * torch.finfo(DTYPES[dtype]).eps
    return {
        what: max(least, TIMES_PLAIN * (largest if _kind(what) == 'gradient' else error))
        for what, error in errors.items()
    }


def _kind(what: str) -> str:
    return what.partition(' ')[0]


def check(
    name: str,
    actual: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    allowed: Mapping[str, float],
) -> float:
    """Compare what an entry computed with what is expected.

    Args:
        name: Of the entry.
        actual: From :func:`computed`.
        expected: The same from the reference.
        allowed: Largest relative error of each.

    Returns:
        The largest relative error.

    Raises:
        DisagreementError: If it is too large, or something is missing.
    """
    if odd := sorted(actual.keys() ^ expected.keys()):
        raise DisagreementError(
            f'{name} does not compute what the reference does: only one of them has a {odd[0]}'
        )
    worst = 0.0
    for what, tensor in expected.items():
        if actual[what].shape != tensor.shape:
            shapes = f'{tuple(actual[what].shape)} instead of {tuple(tensor.shape)}'
            raise DisagreementError(f'{name}: the {what} has the shape {shapes}')
        error = relative_error(actual[what], tensor)
        if not error <= allowed[what]:  # Not a number is no agreement either.
            raise DisagreementError(
                f'{name} does not agree with the reference: the {what} is off by {error:.1e} of '
                f'its size, where {allowed[what]:.1e} is allowed'
            )
        worst = max(worst, error)
    return worst
