"""Words for tests of the model browser: say what a front end says, wait for traits, find a row."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from xprim_widgets._base import View
from xprim_widgets.browser import ModelBrowser

__all__ = ["at", "has", "pull", "say", "until"]

_DEADLINE_S = 20


def until(view: View, holds: Callable[[], bool]) -> None:
    """Return when something holds that follows from traits; looked at whenever one of them changes."""
    changed = threading.Event()

    def note(_: object) -> None:
        changed.set()

    view.observe(note)
    try:
        while not holds():
            assert changed.wait(_DEADLINE_S), f"not within {_DEADLINE_S} s; the last error: {view.error}"
            changed.clear()
    finally:
        view.unobserve(note)


def say(view: View, op: str, **values: Any) -> None:
    """A word as the front end sends it."""
    view._hear(None, {"op": op, **values}, None)


def at(view: ModelBrowser, ref: str) -> int:
    names = [
        f"{name} {version}"
        for name, version in zip(view.catalogue["names"], view.catalogue["versions"], strict=True)
    ]
    return names.index(ref)


def has(view: ModelBrowser, ref: str) -> bool:
    return at(view, ref) in view.marks["installed"]


def pull(view: ModelBrowser, ref: str) -> None:
    say(view, "pull", ref=ref)
    until(view, lambda: has(view, ref) and not view.pulls)
