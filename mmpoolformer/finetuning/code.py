"""Values as the Python of a config, laid out as a formatter would."""

from __future__ import annotations

from collections.abc import Mapping

WIDTH = 100


class Name(str):
    """A name or an expression, written as it stands."""

    __slots__ = ()


def assignment(name: str, value: object) -> str:
    """Return ``name = value`` in lines that are not too long.

    Example:
        >>> assignment('model', {'bbox_head': {'num_classes': 2}})
        'model = dict(bbox_head=dict(num_classes=2))'
    """
    return f'{name} = {as_code(value, used=len(name) + 3)}'


def as_code(value: object, indent: int = 0, used: int = 0) -> str:
    """Return ``value`` as code.

    Args:
        value: Numbers, texts, dicts with names as keys, lists and tuples of such.
        indent: Columns before the line that it begins in.
        used: Columns of that line that are taken before and behind it.
    """
    line = _in_line(value)
    if len(line) + indent + used <= WIDTH or not isinstance(value, (Mapping, list, tuple)):
        return line
    inner, lines = indent + 4, []
    entries = value.items() if isinstance(value, Mapping) else ((None, item) for item in value)
    for key, item in entries:
        start = '' if key is None else f'{key}='
        lines.append(f'{" " * inner}{start}{as_code(item, inner, len(start) + 1)},')
    opening, closing = _brackets(value)
    return '\n'.join([opening, *lines, f'{" " * indent}{closing}'])


def _in_line(value: object) -> str:
    if isinstance(value, Name):
        return str(value)
    if not isinstance(value, (Mapping, list, tuple)):
        return repr(value)
    opening, closing = _brackets(value)
    if isinstance(value, Mapping):
        items = [f'{key}={_in_line(item)}' for key, item in value.items()]
    else:
        items = [_in_line(item) for item in value]
    comma = ',' if isinstance(value, tuple) and len(value) == 1 else ''
    return f'{opening}{", ".join(items)}{comma}{closing}'


def _brackets(value: object) -> tuple[str, str]:
    if isinstance(value, Mapping):
        return 'dict(', ')'
    return ('(', ')') if isinstance(value, tuple) else ('[', ']')
