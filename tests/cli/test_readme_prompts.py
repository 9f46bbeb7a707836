"""The README's commands for prompts do what they say, as typed."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from xprim_nb.cli.main import xprim

from .conftest import Runner

pytestmark = pytest.mark.timeout(300)  # a worker starts in half a second; on a loaded machine in many

_README = Path(__file__).parents[2] / "README.md"
_LINES = [
    shlex.split(line, comments=True)[1:]
    for line in _README.read_text(encoding="utf-8").splitlines()
    if line.startswith("xprim prompts ")
]


def test_there_are_some() -> None:
    """Every verb that the section is about is shown there."""
    assert {line[1] for line in _LINES} >= {"ask", "resolve", "explain", "lint", "analyze", "cache"}


@pytest.mark.parametrize("line", _LINES, ids=" ".join)
def test_each_of_them_works(
    run: Runner, line: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A line that is copied from the README ends well, with the demo registry and the files that it names."""
    monkeypatch.delenv("XPRIM_MODELS_REGISTRY_URL")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.md").write_text("Write what a reader needs, and no word more.")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("a = 1\n")
    done = run(*line, command=xprim)
    assert done.exit_code == 0, done.output
    if line[1] == "ask":
        assert done.stdout.strip()
        assert "kept" not in done.stderr
