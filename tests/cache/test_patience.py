"""How long a pull waits for others: as long as they write, and not much longer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xprim_nb.cache import patience
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.patience import Patience

_OWN, _OTHER = "a" * 64, "b" * 64


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(patience.time, "monotonic", lambda: self.now)

    def passes(self, seconds: float) -> None:
        """Let time go by."""
        self.now += seconds


@pytest.mark.parametrize(("name", "over"), [(_OTHER, False), (_OWN, True)])
def test_who_writes_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, over: bool
) -> None:
    """A file of another unfinished pull that changes each minute is a sign of life; the own one's is not."""
    clock, layout = Clock(monkeypatch), Layout(tmp_path, ".xprim")
    file = layout.partials / name / "tree" / "deep" / "a"
    file.parent.mkdir(parents=True)
    asked = Patience(layout, _OWN)
    for minute in range(10):
        file.write_bytes(b"x")
        os.utime(file, (minute, minute))  # a file server's clock may say anything
        assert asked.is_over() is (over and minute >= 2)
        clock.passes(60)


def test_who_is_silent_is_waited_for_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After two silent minutes it is over and stays so, which is logged once; no unfinished pull at all is silence too."""
    clock, asked = Clock(monkeypatch), Patience(Layout(tmp_path, ".xprim"), _OWN)
    answers = []
    for _ in range(5):
        answers.append(asked.is_over())
        clock.passes(59)
    assert answers == [False, False, False, True, True]
    assert caplog.text.count("do not go on") == 1
