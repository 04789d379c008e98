"""How what is wrong with a checkpoint is said."""

from __future__ import annotations

from collections.abc import Iterable


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read, or does not fit; the message says why and what to do."""


def first_keys(keys: Iterable[str], count: int = 3) -> str:
    """Join the first few keys for a message."""
    keys = list(keys)
    return ', '.join(keys[:count]) + (', …' if len(keys) > count else '')
