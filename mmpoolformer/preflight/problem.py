"""What the check hands back, and the words it is written in. Standard library only."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WIDTH = 100  # columns of the shown text: wide enough for a path, narrow enough for half a screen


@dataclass(frozen=True)
class Problem:
    """One thing that would stop a run or silently spoil it.

    Args:
        what: What is wrong: the value found, and what is allowed.
        cure: What to do about it. Indented lines are commands or lists and are never wrapped.

    Example:
        >>> Problem('The batch size is 0.', 'Use 1 or more.').cure
        'Use 1 or more.'
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


def bullets(items: Sequence[str], at_most: int = 12) -> str:
    """Return one indented line per item, the rest counted.

    Example:
        >>> print(bullets(['a', 'b', 'c'], at_most=2))
          a
          … and 2 more
    """
    if len(items) > at_most:
        items = [*items[: at_most - 1], f'… and {len(items) - at_most + 1} more']
    return '\n'.join(f'  {item}' for item in items)


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
        head = f'{number:>3}. '
        lines = [line for text in (problem.what, problem.cure) for line in _wrap(text)]
        parts.append(head + ('\n' + ' ' * len(head)).join(lines))
    return '\n\n'.join(parts)


def _wrap(text: str) -> list[str]:
    """Wrap prose, but leave indented lines whole: they are pasted into a shell."""
    lines = []
    for line in text.splitlines():
        whole = line.startswith(' ') or not line
        lines += (
            [line]
            if whole
            else textwrap.wrap(line, WIDTH - 5, break_long_words=False, break_on_hyphens=False)
        )
    return lines
