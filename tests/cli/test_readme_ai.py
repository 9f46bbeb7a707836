"""The README's commands for models that run are commands."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tests.fake_engine import MODEL, FakeEngine
from xprim_nb.scheduling.plan import ResidencyPlan

_README = Path(__file__).parents[2] / "README.md"
_LINES = [
    shlex.split(line, comments=True)[2:]
    for line in _README.read_text(encoding="utf-8").splitlines()
    if line.startswith("xprim ai ")
]


def test_there_are_some() -> None:
    """Every verb that the section is about is shown there."""
    assert {line[0] for line in _LINES} >= {"run", "plan", "ps", "load", "timeline", "doctor"}


@pytest.mark.parametrize("line", [line for line in _LINES if line[0] != "doctor"], ids=" ".join)
def test_each_of_them_is_understood(ai: Callable[..., Result], engine: FakeEngine, line: list[str]) -> None:
    """A line that is copied from the README does what it says, on an engine that has the model."""
    engine.plan_value = ResidencyPlan(MODEL, "resident", device="cpu")
    told = [word for word in line if word != "--hold"]  # which waits for Ctrl-C
    done = ai(*told)
    assert done.exit_code == 0, done.output
    named = [each for each in line if "/" in each]
    assert all(
        engine.asked({"run": "generate"}.get(line[0], line[0]))["model"] == each.replace("@", " ")
        for each in named
    )
