"""`--wait`: one display that follows a pull, drawn by the cell's own thread.

Source: spec 3 §Magics; research notebook §4 (what background threads print lands in another cell).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from IPython.core.interactiveshell import InteractiveShell

from xprim_nb._bridge import Handle
from xprim_nb.errors import XprimError
from xprim_nb.magics import faces
from xprim_nb.magics.in_place import InPlace
from xprim_nb.magics.views import View

__all__ = ["wait_for", "wait_quietly"]

_T = TypeVar("_T")

# Five times a second looks alive, and is far below what floods a front end.
_INTERVAL_S = 0.2
# Below this nobody wonders whether anything happens.
_INSTANT_S = 0.5
# As long as the handle itself gives an interrupted pull for its clean-up.
_CLEANUP_S = 5.0


class _Display:
    """One output of one cell, changed in place; in a terminal, one line."""

    def __init__(self, shell: InteractiveShell, handle: Handle[Any]) -> None:
        self._handle = handle
        self._view: View | None = None
        self._is_kernel = getattr(shell, "kernel", None) is not None
        self._output = InPlace()

    def open(self, show: Callable[[], View | None] | None) -> None:
        """Show it for the first time."""
        self._view = show() if show is not None else None
        self.draw()

    def draw(self) -> None:
        """Show how far it is now."""
        if self._view is not None:  # it follows by itself
            return
        if self._is_kernel:
            self._output.put(
                {"text/plain": faces.handle_text(self._handle), "text/html": faces.handle_html(self._handle)}
            )
        elif sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{faces.handle_text(self._handle)}")
            sys.stderr.flush()

    def end(self) -> None:
        """Show how it ended."""
        if self._view is not None:
            self._view.settle()
        self.draw()
        if not self._is_kernel and sys.stderr.isatty():
            sys.stderr.write("\n")


def wait_quietly(shell: InteractiveShell, handle: Handle[_T], view: View | None = None) -> _T:
    """The same for what mostly takes an instant: nothing is shown unless it takes longer.

    Raises:
        KeyboardInterrupt, XprimError: As `wait_for` does.
    """
    try:
        return handle.result(_INSTANT_S)
    except TimeoutError:
        return wait_for(shell, handle, lambda: view)


def wait_for(
    shell: InteractiveShell, handle: Handle[_T], show: Callable[[], View | None] | None = None
) -> _T:
    """The result of a pull, or of work like it, which is shown until it has ended: in the view that `show` opens, if any.

    Raises:
        KeyboardInterrupt: The cell was interrupted; the pull has stopped, and what it fetched is kept.
        XprimError: The pull failed, or somebody else has cancelled it.
    """
    shown = _Display(shell, handle)
    try:
        shown.open(show)  # the first takes a moment, in which an interrupt means the work, too
        while not handle.done:
            with contextlib.suppress(TimeoutError):
                handle.result(_INTERVAL_S)
            shown.draw()
    except KeyboardInterrupt as stop:
        handle.cancel()  # again, in case the interrupt came while opening or drawing
        with contextlib.suppress(Exception):  # what became of it is shown below
            handle.result(_CLEANUP_S)
        shown.end()
        line = faces.handle_text(handle)
        # IPython shows this instead of the frames between the cell and here, which explain nothing.
        stop._render_traceback_ = lambda: [line]  # type: ignore[attr-defined]  # IPython's hook
        raise
    except CancelledError as error:
        shown.end()
        raise XprimError(
            f"{handle.describe} was stopped.", hint="Run it again: what was fetched is kept."
        ) from error
    except BaseException:
        shown.end()
        raise
    shown.end()
    return handle.result()
