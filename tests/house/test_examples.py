"""The examples in docstrings run, and print what they say."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_FOLDERS = (_ROOT / "xprim_nb", _ROOT / "widgets" / "xprim_widgets")
_PROMPT = re.compile(r"^\s*>>> ", re.MULTILINE)


def _modules_with_examples() -> list[str]:
    names = []
    for folder in _FOLDERS:
        for path in sorted(folder.rglob("*.py")):
            if _PROMPT.search(path.read_text(encoding="utf-8")):
                parts = path.relative_to(folder.parent).with_suffix("").parts
                names.append(".".join(parts).removesuffix(".__init__"))
    return names


def test_some_modules_have_examples() -> None:
    """The collection below is not empty by mistake."""
    assert "xprim_nb" in _modules_with_examples()


@pytest.mark.parametrize("name", _modules_with_examples())
def test_examples_of_a_module(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each example prints what its docstring promises, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0
