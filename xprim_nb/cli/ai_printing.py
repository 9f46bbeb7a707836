"""An answer on stdout, piece by piece as it comes, and a prompt from stdin.

Source: spec 4 §Faces; spec 6 §Faces.
"""

from __future__ import annotations

import contextlib
import queue
import sys
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, TypeVar

from xprim_nb.cli import ai_documents, words
from xprim_nb.cli.ai_progress import TICK_S, waiting
from xprim_nb.cli.session import Session
from xprim_nb.errors import ConfigError, XprimError

if TYPE_CHECKING:
    from xprim_nb._bridge import Handle
    from xprim_nb.cli.ai_progress import Waiting
    from xprim_nb.scheduling.values import GenerateProgress

__all__ = ["Printed", "prompt_from_stdin", "streamed"]

_T = TypeVar("_T")

# An answer that does not stop by then has cost its worker; what came is printed all the same.
_CLEANUP_S = 5.0


def prompt_from_stdin() -> str:
    """What stdin holds, without the last line's end, which `echo` adds and nobody means.

    Raises:
        ConfigError: It is no UTF-8.
    """
    data = sys.stdin.buffer.read()
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"The prompt on stdin is no UTF-8: {error.reason} at byte {error.start}.", subject="prompt"
        ) from error
    return text.removesuffix("\n").removesuffix("\r")


class Printed:
    """What was printed of an answer; nothing under `--json`, whose document has all of it."""

    def __init__(self, session: Session) -> None:
        self._is_silent, self._is_terminal = session.as_json, sys.stdout.isatty()
        self._last, self._chars = "", 0

    def add(self, text: str) -> None:
        """Print a piece."""
        if text and not self._is_silent:
            words.stream(text, harmless=self._is_terminal)
            self._last, self._chars = text, self._chars + len(text)

    def catch_up(self, whole: str) -> None:
        """Print what of a text was not printed yet: an interrupt may come between taking a piece and printing it."""
        self.add(whole[self._chars :])

    def end(self, *, is_whole: bool) -> None:
        """End the line. Behind a whole answer a pipe's reader finds exactly one line's end that is not the model's."""
        wanted = (is_whole or bool(self._last)) and not (self._is_terminal and self._last.endswith("\n"))
        if wanted and not self._is_silent:
            words.stream("\n", harmless=False)


def streamed(session: Session, begin: Callable[[Callable[[str], object]], Handle[_T]], out: Printed) -> _T:
    """The result of an answer that is printed as it comes; an interrupt ends it, and prints what came until then.

    Args:
        session: Whose output it is.
        begin: Begins the answer, which tells each piece of its text to what it is given.
        out: What is printed.
    """
    pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    handle = begin(pieces.put)
    try:
        handle.add_done_callback(lambda _: pieces.put(None))
        with waiting(session) as shown:
            while (text := _next_piece(pieces, handle, shown)) is not None:
                shown.end()
                out.add(text)
            result = handle.result()
    except KeyboardInterrupt:
        _stop_printing(session, handle, out)
        raise
    out.end(is_whole=True)
    return result


def _next_piece(pieces: queue.SimpleQueue[str | None], handle: Handle[Any], shown: Waiting) -> str | None:
    """The next piece; None behind the last."""
    while True:
        try:
            return pieces.get(timeout=TICK_S)
        except queue.Empty:
            shown.show(handle.snapshot())


def _stop_printing(session: Session, handle: Handle[Any], out: Printed) -> None:
    """End the answer, and print what came until then."""
    handle.cancel()
    with contextlib.suppress(CancelledError, TimeoutError, XprimError):  # what became of it is told below
        handle.result(_CLEANUP_S)
    progress: GenerateProgress | None = handle.snapshot()
    if progress is not None:
        out.catch_up(progress.text)
    out.end(is_whole=False)
    if progress is not None and progress.tokens:
        session.stopped = f"stopped after {words.count(progress.tokens, 'token')}"
        session.answer(ai_documents.stopped(progress))
