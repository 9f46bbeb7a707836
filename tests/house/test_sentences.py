"""Every test says in one sentence what it holds."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path


def _tests(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
            yield node


def test_every_test_has_a_sentence(root: Path) -> None:
    """A test without a docstring is found here, by name."""
    paths = sorted([*(root / "tests").rglob("*.py"), *(root / "xprim_nb" / "testing").rglob("*.py")])
    found = [(path, test) for path in paths for test in _tests(path)]
    assert len(found) > 1
    silent = [
        f"{path.relative_to(root)}:{test.lineno} {test.name}"
        for path, test in found
        if not ast.get_docstring(test)
    ]
    assert silent == []
