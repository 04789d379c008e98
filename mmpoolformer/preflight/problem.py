"""What the check hands back, and the words it is written in. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that would stop a run or silently spoil it.

    Args:
        what: What is wrong: the value found, and what is allowed.
        cure: What to do about it. Indented lines are commands or lists.
    """

    what: str
    cure: str


def count(number: int, noun: str, plural: str = '') -> str:
    """Return a number with its noun.

    Example:
        >>> count(1, 'class', 'classes'), count(3, 'image')
        ('1 class', '3 images')
    """
    return f'{number:,} {noun if number == 1 else plural or noun + "s"}'


def some(items: Iterable[object], at_most: int = 5) -> str:
    """Join the first few items and count the rest.

    Example:
        >>> some(['a', 'b', 'c', 'd'], at_most=2)
        'a, b and 2 more'
    """
    shown = [str(item) for item in items]
    if len(shown) <= at_most:
        return ', '.join(shown)
    return f'{", ".join(shown[:at_most])} and {len(shown) - at_most} more'


def report(problems: Sequence[Problem], config_name: str) -> str:
    """Write the problems as the text a user reads in the terminal.

    Args:
        problems: The result of ``check``.
        config_name: The config as the user typed it.

    Returns:
        The text, without a newline at the end; empty when there is no problem.

    Example:
        >>> print(report([Problem('The batch size is 0.', 'Use 1 or more.')], 'a.py'))
        a.py cannot run yet:
        <BLANKLINE>
          1. The batch size is 0.
             Use 1 or more.
    """
    if not problems:
        return ''
    parts = [f'{config_name} cannot run yet:']
    for number, problem in enumerate(problems, 1):
        text = f'{problem.what}\n{problem.cure}'.replace('\n', '\n     ')
        parts.append(f'{number:>3}. {text}')
    return '\n\n'.join(parts)
