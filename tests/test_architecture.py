"""The rooms of the package: who may import whom, and in which style."""

import ast
from collections import defaultdict
from pathlib import Path

from processes import ROOT

PACKAGE = 'mmpoolformer'
# From the ground up: a room imports rooms that stand before it, never one behind.
FLOORS = [
    ['registry', 'mmcv_operators', 'config_reading', 'zoo', 'vis', 'datasets', 'ops'],
    ['checkpoint'],
    ['models', 'preflight'],
    ['inference', 'engine', 'finetuning'],
    ['tools', 'benchmarks'],
]
# Within a floor, too, nobody imports his neighbour.
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}


def files():
    """Yield every file and the room it is in."""
    for path in sorted((ROOT / PACKAGE).rglob('*.py')):
        if path.parent.name != '.mim':
            yield path, path.relative_to(ROOT / PACKAGE).parts[0].removesuffix('.py')
    for room in ('tools', 'benchmarks'):
        for path in sorted((ROOT / room).rglob('*.py')):
            yield path, room


def imported(path: Path):
    """Yield the full names that a file imports, and how many dots stand before them."""
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, 0
        elif isinstance(node, ast.ImportFrom):
            if node.module == PACKAGE:
                for alias in node.names:
                    yield f'{PACKAGE}.{alias.name}', node.level
            else:
                yield node.module or '', node.level


def test_imports_point_down_and_are_absolute():
    wrong, rooms = [], set()
    for path, room in files():
        rooms.add(room)
        for name, dots in imported(path):
            where = f'{path.relative_to(ROOT)}: {name}'
            if dots:
                wrong.append(f'{where} is relative')
            package, _, rest = name.partition('.')
            target = rest.split('.')[0] if package == PACKAGE else package
            if target not in LEVEL or room not in LEVEL or target == room:
                continue
            if LEVEL[target] >= LEVEL[room]:
                wrong.append(f'{where} points up or sideways')
    assert not wrong, '\n'.join(wrong)
    assert rooms >= set(LEVEL)


def test_the_ground_floor_knows_little():
    """The tables need nothing installed, pictures no torch, operations no OpenMMLab package."""
    found = defaultdict(set)
    for path, room in files():
        for name, _ in imported(path):
            found[room, path.stem].add(name.split('.')[0])
    assert not found['zoo', 'archs'] & {'torch', 'numpy', 'mmengine'}
    libraries = {'mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain'}
    assert not any(names & libraries for (room, _), names in found.items() if room == 'ops')
    drawing = set.union(*(names for (room, _), names in found.items() if room == 'vis'))
    assert drawing & {'matplotlib'}
    assert not drawing & (libraries | {'torch'})


def test_nothing_is_splatted():
    splats = []
    for path, _ in files():
        text = path.read_text(encoding='utf-8')
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call):
                for argument in node.args:
                    if isinstance(argument, ast.Starred) and isinstance(
                        argument.value, (ast.Tuple, ast.List)
                    ):
                        splats.append(f'{path}:{argument.lineno}')
    assert not splats, splats
