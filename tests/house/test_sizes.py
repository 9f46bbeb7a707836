"""The walls: no module over 400 lines, no function over 60, no class over 250, no ESM over 250.

A waiver is one line with its reason, `# house: <reason>`, on the `def` or `class` line or a module's first.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

_MODULE_WALL, _FUNCTION_WALL, _CLASS_WALL, _ESM_WALL = 400, 60, 250, 250
_WAIVER = re.compile(r"# house: \S+")
_FOLDERS = ("xprim_nb", "widgets", "tests")


def _waived(lines: list[str], number: int) -> bool:
    return bool(lines) and bool(_WAIVER.search(lines[number - 1]))


def _too_large(source: str) -> Iterator[tuple[int, str]]:
    lines = source.splitlines()
    if len(lines) > _MODULE_WALL and not _waived(lines, 1):
        yield 1, f"module of {len(lines)} lines"
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                wall = _FUNCTION_WALL
            case ast.ClassDef():
                wall = _CLASS_WALL
            case _:
                continue
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length > wall and not _waived(lines, node.lineno):
            yield node.lineno, f"{node.name} of {length} lines"


def test_python_stays_below_the_walls(root: Path) -> None:
    """No module, class or function of the project is larger than a reader can hold."""
    paths = [
        path
        for folder in _FOLDERS
        for path in sorted((root / folder).rglob("*.py"))
        if not {"node_modules", ".venv"} & set(path.parts)
    ]
    assert len(paths) > 10
    found = [
        f"{path.relative_to(root)}:{number} {what}"
        for path in paths
        for number, what in _too_large(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_esm_stays_below_its_wall(root: Path) -> None:
    """No view's ESM is longer than 250 lines."""
    found = {
        str(path.relative_to(root)): lines
        for path in sorted((root / "widgets").rglob("*.js"))
        if "node_modules" not in path.parts
        and (lines := len(path.read_text(encoding="utf-8").splitlines())) > _ESM_WALL
    }
    assert found == {}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1\n" * 401, ["module of 401 lines"]),
        ("x = 1  # house: a table\n" + "x = 1\n" * 400, []),
        ("def f():\n" + "    x = 1\n" * 60, ["f of 61 lines"]),
        ("async def f():\n" + "    x = 1\n" * 59, []),
        ("def f():  # house: one decision tree\n" + "    x = 1\n" * 60, []),
        ("def f():  # house:\n" + "    x = 1\n" * 60, ["f of 61 lines"]),
        ("class C:\n" + "    x = 1\n" * 250, ["C of 251 lines"]),
    ],
)
def test_a_wall_is_noticed(source: str, expected: list[str]) -> None:
    """What is too large is found, what has a reasoned waiver is not."""
    assert [what for _, what in _too_large(source)] == expected
