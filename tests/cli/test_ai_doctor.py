"""`xprim ai doctor`: a line for each part, and an answer whatever is found."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from click.testing import Result

from xprim_nb.errors import ConfigError
from xprim_nb.manager.probing import Said

Ai = Callable[..., Result]


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three parts: one in order, one with advice, one that fails."""

    def fails() -> Said:
        raise ConfigError("It cannot work.", hint="Change it.")

    checks: Any = ModuleType("xprim_nb.manager.engine_checks")
    checks.probes = lambda _: {
        "devices": lambda: ("ok", "one of them \x1b[31m", ""),
        "backend x": lambda: ("look at this", "half of it", "Run `xprim ai load x`."),
        "ledger": fails,
    }
    monkeypatch.setitem(sys.modules, "xprim_nb.manager.engine_checks", checks)


@pytest.mark.usefixtures("parts")
def test_lines(ai: Ai) -> None:
    """Each part is a line with its verdict in words, advice stands below, and the exit code is 0."""
    done = ai("doctor")
    assert (done.exit_code, done.stdout.splitlines()) == (
        0,
        [
            "ok      devices    one of them \\x1b[31m",
            "look    backend x  half of it",
            "                   → Run `xprim ai load x`.",
            "BROKEN  ledger     It cannot work.",
            "                   → Change it.",
        ],
    )


@pytest.mark.usefixtures("parts")
def test_document(ai: Ai) -> None:
    """The document has the same, part by part."""
    found = json.loads(ai("doctor", "--json").stdout)["doctor"]
    assert [(each["part"], each["verdict"]) for each in found] == [
        ("devices", "ok"),
        ("backend x", "look at this"),
        ("ledger", "broken"),
    ]
    assert found[2]["advice"] == "Change it."
