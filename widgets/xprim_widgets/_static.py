"""The static twin of a view: an output of its own beside the live one, which is shown where the live one is not.

A JupyterLab that opens a saved notebook without its kernel says "model not found" in place of a widget, and looks at
none of the other forms in the same output. So there the twin is an output of its own, kept up to date while the kernel
lives, and a rule of style shows one of the two: the live one where it is alive, the twin where it is not.

Source: spec 3 §Views ("static HTML and text"), issue 4 ("a saved notebook without a kernel shows the static form").
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from IPython.display import display

from xprim_nb._bridge import home_loop

__all__ = ["Twin", "has_twins", "keeps_cells", "static_only"]

_publish: Callable[..., object] = display  # IPython's has no types

# A twin is there for later: soon after the last change is early enough, and a running pull changes all the time.
_SETTLED_S, _AT_LEAST_S = 2.0, 15.0

# Variables that a kernel has from who started it: a Jupyter server, VS Code, Colab. nbclient sets none.
_FRONT_ENDS = ("JPY_SESSION_NAME", "VSCODE_", "COLAB_")

_CHILD = ".jp-OutputArea-child"
# What Lab puts in place of a view that it does not find, or not yet: a panel with nothing but words in it.
_PANEL = ">.jp-OutputArea-output.lm-Panel"
# The output after a twin holds the live view; no other output is ever hidden.
_ONE_OF_TWO = (
    f"{_CHILD}:has(.xprim-twin):has(+ {_CHILD} .xprim-view){{display:none}}"
    f"{_CHILD}:has(.xprim-twin)+{_CHILD}:has({_PANEL}):not(:has({_PANEL}>*)){{display:none}}"
)


def static_only() -> bool:
    """True where only the static form is wanted: `XPRIM_NB_STATIC=1`, for documentation builds."""
    return os.environ.get("XPRIM_NB_STATIC", "") not in ("", "0")


def keeps_cells() -> bool:
    """True where an output is kept as it is when its cell ends: in documentation builds, and where a program runs it."""
    return static_only() or not any(name.startswith(_FRONT_ENDS) for name in os.environ)


def has_twins() -> bool:
    """True where a Jupyter server started the kernel: its front ends follow the rule. Others get one output."""
    return "JPY_SESSION_NAME" in os.environ and "VSCODE_PID" not in os.environ


class Twin:
    """The static form of one view.

    Args:
        to_html: Makes its HTML.
        to_text: Makes its text.
    """

    def __init__(self, to_html: Callable[[], str], to_text: Callable[[], str]) -> None:
        self._html, self._text = to_html, to_text
        self._id = uuid4().hex
        self._live: dict[str, Any] | None = None
        self._alone = False
        self._shown: dict[str, str] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._since = 0.0

    def bundle(self) -> dict[str, str]:
        """Its HTML and its text."""
        return {"text/html": f'<div class="xprim-static">{self._html()}</div>', "text/plain": self._text()}

    def show(self, live: dict[str, Any] | None = None, *, alone: bool = False) -> None:
        """Publish it.

        Args:
            live: The live forms, to stand in the same output; without, the live view is the next output.
            alone: There is no live view.
        """
        self._live, self._alone, self._shown = live, alone, self.bundle()
        _publish(self._dressed(self._shown), raw=True, display_id=self._id)

    def changed(self) -> None:
        """What it shows has changed: it follows when that has settled, unless a live view would be drawn anew by it."""
        if self._shown is not None and self._live is None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                home_loop().loop().call_soon_threadsafe(self._arm)

    def settle(self) -> None:
        """Bring it up to date."""
        fresh = self.bundle()
        if self._shown is not None and fresh != self._shown:
            self._shown = fresh
            _publish(self._dressed(fresh), raw=True, display_id=self._id, update=True)

    def close(self) -> None:
        """Bring it up to date for the last time: from now on it is what is left of the view."""
        if self._live is not None:
            self._live = {}
            self._shown = {}
        if self._shown is not None:
            self.settle()
            self._shown = None

    def _arm(self) -> None:
        now = time.monotonic()
        if self._timer is None:
            self._since = now
        else:
            self._timer.cancel()
        wait = max(0.0, min(_SETTLED_S, self._since + _AT_LEAST_S - now))
        self._timer = asyncio.get_running_loop().call_later(wait, self._later)

    def _later(self) -> None:
        self._timer = None
        asyncio.get_running_loop().run_in_executor(None, self.settle)

    def _dressed(self, bundle: dict[str, str]) -> dict[str, Any]:
        if self._live is not None:
            return {**self._live, **bundle}
        if self._alone:
            return {**bundle}
        html = f'<style>{_ONE_OF_TWO}</style><div class="xprim-twin">{bundle["text/html"]}</div>'
        return {**bundle, "text/html": html}
