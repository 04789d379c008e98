"""The gate: entries that do not compute the same are not compared."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from benchmarks.workload import DTYPES, Workload

Tensors = Mapping[str, Tensor]
# Of maps and gradients in float32. What was seen is ten to a hundred times smaller.
_TOLERANCES = {'map': 1e-4, 'gradient': 1e-3}
# In half precision plain PyTorch is the measure: an entry may be off this much more than it is, or
# by this many rounding steps of the type.
_TIMES_PLAIN, _ROUNDING_STEPS = 3, 4


class DisagreementError(Exception):
    """An entry does not compute what the reference computes; the message says where."""


def computed(workload: Workload) -> dict[str, Tensor]:
    """Return what entries must agree on: maps and, in training mode, gradients.

    Parameters with the same role in the blocks of a stage have one vector of gradients: each alone
    can be a scalar, and by chance close to zero.
    """
    found = {f'map {i}': m for i, m in enumerate(workload.compute())}
    gradients = {n: p.grad for n, p in workload.module.named_parameters() if p.grad is not None}
    roles = {}
    for name, gradient in workload.to_ours(gradients).items() if gradients else ():
        # Pooling less identity cancels a constant: its gradient is zero but for rounding.
        if not name.endswith('norm1.bias'):
            role = re.sub(r'blocks\.\d+', 'blocks', name)
            roles.setdefault(f'gradient of {role}', []).append(gradient.flatten())
    return found | {role: torch.cat(parts) for role, parts in roles.items()}


def tolerances(plain: Tensors, exact: Tensors, dtype: str) -> dict[str, float]:
    """Return how far off each may be, given the reference in ``dtype`` and, exact, in float32."""
    if dtype == 'float32':
        return {what: _TOLERANCES[what.split()[0]] for what in exact}
    errors = {what: _relative_error(plain[what], tensor) for what, tensor in exact.items()}
    # Some gradients are small by chance, so all are measured by the one that is hardest to get.
    hardest = max((e for what, e in errors.items() if 'gradient' in what), default=0.0)
    errors |= {what: hardest for what in errors if 'gradient' in what}
    least = _ROUNDING_STEPS * torch.finfo(DTYPES[dtype]).eps
    return {what: max(least, _TIMES_PLAIN * error) for what, error in errors.items()}


def check(name: str, actual: Tensors, expected: Tensors, allowed: Mapping[str, float]) -> float:
    """Return the largest relative error of what the entry called ``name`` computed.

    Raises:
        DisagreementError: If an error is larger than allowed, or something is missing.
    """
    if odd := sorted(actual.keys() ^ expected.keys()):
        raise DisagreementError(f'{name} is not the reference: only one of them has a {odd[0]}')
    errors = [0.0]
    for what, tensor in expected.items():
        if actual[what].shape != tensor.shape:
            shapes = f'{tuple(actual[what].shape)} instead of {tuple(tensor.shape)}'
            raise DisagreementError(f'{name}: the {what} has the shape {shapes}')
        errors.append(_relative_error(actual[what], tensor))
        if not errors[-1] <= allowed[what]:  # Not a number is no agreement either.
            raise DisagreementError(
                f'{name} does not agree with the reference: the {what} is off by {errors[-1]:.1e} '
                f'of its size, where {allowed[what]:.1e} is allowed'
            )
    return max(errors)


def _relative_error(actual: Tensor, expected: Tensor) -> float:
    return float(torch.dist(actual.double(), expected.double()) / expected.double().norm())
