"""Probes are asked beside each other: what fails or hangs is a line, and keeps nobody waiting."""

from __future__ import annotations

import threading
import time

from xprim_nb.errors import ConfigError
from xprim_nb.manager.probing import Said, ask, guarded


def test_each_is_told_in_order() -> None:
    """An error of ours is told with its hint, any other by its name; the others answer all the same."""

    def ours() -> Said:
        raise ConfigError("It cannot work.", hint="Change it.")

    def other() -> Said:
        raise ZeroDivisionError("by zero")

    found = ask({"a": ours, "b": other, "c": lambda: ("ok", "fine", "")}, 5.0)
    assert list(found.items()) == [
        ("a", ("broken", "It cannot work.", "Change it.")),
        ("b", ("broken", "could not be looked at: ZeroDivisionError: by zero", "")),
        ("c", ("ok", "fine", "")),
    ]
    assert ask({}, 1.0) == {}
    assert guarded(ours)[0] == "broken"


def test_one_that_hangs_is_left_behind() -> None:
    """A probe that does not return costs no more than the patience."""
    release = threading.Event()

    def hangs() -> Said:
        release.wait()
        return "ok", "", ""

    begun = time.monotonic()
    found = ask({"hangs": hangs, "fine": lambda: ("ok", "fine", "")}, 1.5)
    release.set()
    assert time.monotonic() - begun < 15
    assert found["hangs"][:2] == ("broken", "has not answered within 1.5 s")
    assert found["fine"] == ("ok", "fine", "")
