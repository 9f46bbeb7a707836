"""An answer while it comes: one output that changes in place, or text that is printed.

It is drawn by the cell's own thread, so that an interrupt finds it.

Source: spec 4 §Faces; spec 3 §Magics.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Protocol, TypeVar

from IPython.core.interactiveshell import InteractiveShell

from xprim_nb._text import clean, format_count
from xprim_nb.errors import XprimError
from xprim_nb.magics import ai_faces, bars
from xprim_nb.magics.in_place import InPlace
from xprim_nb.scheduling.values import GenerateProgress

if TYPE_CHECKING:
    from xprim_nb._bridge import Handle

__all__ = ["Live", "answered", "live_for"]

_T = TypeVar("_T")

# Spec 3: updates are coalesced to ten a second. Each carries the whole text: of a long one there are fewer.
_INTERVAL_S = 0.1
_CHARS_PER_S = 200_000
# As long as the handle itself gives an interrupted answer for its clean-up.
_CLEANUP_S = 5.0


class Live(Protocol):
    """Where an answer is shown while it comes."""

    def show(self, progress: GenerateProgress) -> None:
        """What is waited for, or what came so far."""

    def fail(self, progress: GenerateProgress, line: str) -> None:
        """What came, and how it ended."""

    def end(self, text: str, bundle: Mapping[str, str]) -> None:
        """The whole answer: its text, and its faces by MIME type."""


def live_for(shell: InteractiveShell) -> Live:
    """Where the cell that runs shows its answer."""
    return (_InNotebook if getattr(shell, "kernel", None) is not None else _InTerminal)()


def answered(
    handle: Handle[_T], live: Live, *, on_stop: Callable[[GenerateProgress], object] | None = None
) -> _T:
    """The result of work that answers, shown until it is there; `live.end` is the caller's.

    Args:
        handle: The work.
        live: Where it is shown.
        on_stop: Told what came until an interrupt.

    Raises:
        KeyboardInterrupt: The cell was interrupted; what came is shown.
        XprimError: The work failed, or somebody else has cancelled it.
    """
    try:
        return _followed(handle, live)
    except KeyboardInterrupt as stop:
        _stopped(handle, live, stop, on_stop)
        raise
    except CancelledError as error:
        live.fail(_progress(handle), "was stopped")
        raise XprimError(f"{handle.describe} was stopped.", hint="Run the cell again.") from error
    except BaseException:
        progress = _progress(handle)
        live.fail(progress, f"failed after {_counted(progress)}" if progress.tokens else "no answer")
        raise


def _followed(handle: Handle[_T], live: Live) -> _T:
    while not handle.done:
        progress = _progress(handle)
        live.show(progress)
        wait_s = max(_INTERVAL_S, len(progress.text) / _CHARS_PER_S)
        with contextlib.suppress(TimeoutError):  # a limit that the engine itself passed is raised below
            return handle.result(wait_s)
    return handle.result()


def _stopped(
    handle: Handle[_T],
    live: Live,
    stop: KeyboardInterrupt,
    on_stop: Callable[[GenerateProgress], object] | None,
) -> None:
    """Show what came until the interrupt."""
    handle.cancel()  # again, in case the interrupt came while drawing
    with contextlib.suppress(Exception, CancelledError):  # what became of it is shown
        handle.result(_CLEANUP_S)
    progress = _progress(handle)
    line = f"stopped after {_counted(progress)}" if progress.tokens else "stopped before the first token"
    if on_stop is not None:
        on_stop(progress)
    live.fail(progress, line)
    told = f"{handle.describe}: {line}"
    # IPython shows this instead of the frames between the cell and here, which explain nothing.
    stop._render_traceback_ = lambda: [told]  # type: ignore[attr-defined]  # IPython's hook


def _progress(handle: Handle[_T]) -> GenerateProgress:
    found = handle.snapshot()
    assert isinstance(found, GenerateProgress), "the verb has one from the start"
    return found


def _counted(progress: GenerateProgress) -> str:
    return format_count(progress.tokens, "token")


def _of(progress: GenerateProgress, line: str) -> str:
    return f"{progress.model}: {line}" if progress.model else line


class _InNotebook:
    """One output of the cell, changed in place."""

    def __init__(self) -> None:
        self._output = InPlace()
        self._shown: Mapping[str, str] | None = None

    def show(self, progress: GenerateProgress) -> None:
        """What is waited for, or what came so far."""
        line = bars.answering(progress)
        html = ai_faces.partial_html(progress, line) if progress.text else bars.answering_html(progress)
        self._put({"text/plain": ai_faces.partial_text(progress, line), "text/html": html})

    def fail(self, progress: GenerateProgress, line: str) -> None:
        """What came, and how it ended."""
        line = _of(progress, line)
        html = ai_faces.partial_html(progress, line)
        self._put({"text/plain": ai_faces.partial_text(progress, line), "text/html": html})

    def end(self, text: str, bundle: Mapping[str, str]) -> None:
        """The whole answer, as `bundle` has it."""
        self._put(bundle)

    def _put(self, bundle: Mapping[str, str]) -> None:
        if bundle == self._shown:
            return
        self._output.put(bundle)
        self._shown = bundle


class _InTerminal:
    """The text on stdout as it comes; what is waited for is a line on stderr, where that is a terminal."""

    def __init__(self) -> None:
        self._chars = 0
        self._last, self._line = "", ""

    def show(self, progress: GenerateProgress) -> None:
        """What is waited for, or what came since."""
        if progress.text:
            self._print(progress.text)
            return
        self._say(bars.answering(progress))

    def fail(self, progress: GenerateProgress, line: str) -> None:
        """What came, and how it ended."""
        self._print(progress.text)
        self._end_line()
        sys.stdout.write(f"[{clean(_of(progress, line))}]\n")

    def end(self, text: str, bundle: Mapping[str, str]) -> None:
        """What came since; the line below it is shown with the cell's value."""
        self._print(text)
        self._end_line()

    def _print(self, text: str) -> None:
        new, self._chars = text[self._chars :], max(self._chars, len(text))
        if new:
            self._say("")
            sys.stdout.write(clean(new))
            sys.stdout.flush()
            self._last = new

    def _end_line(self) -> None:
        self._say("")
        if self._last and not self._last.endswith("\n"):
            sys.stdout.write("\n")

    def _say(self, line: str) -> None:
        if line != self._line and sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{clean(line)}")
            sys.stderr.flush()
        self._line = line
