"""`%%generate`: the cell is the prompt, and what the model writes is shown as it comes.

In a notebook one output changes in place, at most ten times a second; in a terminal the text is printed. Before the
first token it says what is waited for. The answer is drawn by the cell's own thread, so that an interrupt finds it.

Source: spec 4 §Faces (`%%generate MODEL [options]`).
"""

from __future__ import annotations

import argparse
import contextlib
import keyword
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display

from xprim_nb._text import clean, format_count
from xprim_nb.errors import XprimError
from xprim_nb.magics import ai_faces, bars
from xprim_nb.magics.ai_options import settings_of
from xprim_nb.magics.naming import cell_named, model_named
from xprim_nb.scheduling.values import GenerateProgress, Reply, Timings

if TYPE_CHECKING:
    from xprim_nb._bridge import Handle
    from xprim_nb.magics.extension import Extension

__all__ = ["generate"]

_publish: Callable[..., object] = display  # IPython's has no types

# Spec 3: updates are coalesced to ten a second. Each carries the whole text: of a long one there are fewer.
_INTERVAL_S = 0.1
_CHARS_PER_S = 200_000
# As long as the handle itself gives an interrupted answer for its clean-up.
_CLEANUP_S = 5.0


def generate(extension: Extension, asked: argparse.Namespace, cell: str) -> Reply:
    """The answer that a cell asks for, shown while it comes.

    Raises:
        UsageError: The options contradict each other.
        KeyboardInterrupt: The cell was interrupted; what came is shown, and the model stays loaded.
        XprimError: See `Engine.generate`.
    """
    shell = extension.shell
    if asked.name is not None and (not asked.name.isidentifier() or keyword.iskeyword(asked.name)):
        raise UsageError(f"%%generate: --as {asked.name}: that is no name of a variable")
    options = _options(shell, asked, cell)
    handle = extension.kit.ai.generate(model_named(asked), **options)
    live = (_InNotebook if getattr(shell, "kernel", None) is not None else _InTerminal)()
    try:
        reply = _followed(handle, live)
    except KeyboardInterrupt as stop:
        _stopped(shell, asked, handle, live, stop)
        raise
    except CancelledError as error:
        live.fail(_progress(handle), "was stopped")
        raise XprimError(f"{handle.describe} was stopped.", hint="Run the cell again.") from error
    except BaseException:
        progress = _progress(handle)
        live.fail(progress, f"failed after {_counted(progress)}" if progress.tokens else "no answer")
        raise
    live.end(reply)
    if asked.name is not None:
        shell.user_ns[asked.name] = reply
    extension.views.told(reply)
    return reply


def _options(shell: InteractiveShell, asked: argparse.Namespace, cell: str) -> dict[str, Any]:
    """The options of `Engine.generate`."""
    text = cell.removesuffix("\n")  # every cell ends its last line, and nobody means it
    settings = settings_of(asked)
    names = ("max_tokens", "temperature", "top_p", "top_k", "seed", "stop", "loras", "priority", "install")
    options = {name: getattr(asked, name) for name in names}
    if asked.timeout is not None:
        options["timeout"] = None if math.isinf(asked.timeout) else asked.timeout
    if asked.chat or asked.system is not None or asked.messages is not None:
        options["messages"] = _messages(shell, asked, text)
    else:
        options["prompt"] = text
    return {**settings, **options, "note": cell_named(shell)}


def _messages(shell: InteractiveShell, asked: argparse.Namespace, text: str) -> list[Any]:
    """The conversation: the system's message, what was said before, and the cell, where there is something in it."""
    before: Sequence[Any] = ()
    if asked.messages is not None:
        if asked.messages not in shell.user_ns:
            raise UsageError(f"%%generate: --messages {asked.messages}: there is no variable of that name")
        before = shell.user_ns[asked.messages]
        if isinstance(before, str | bytes | Mapping) or not isinstance(before, Sequence):
            raise UsageError(
                f"%%generate: --messages {asked.messages}: it is no list of messages, but {type(before).__name__}"
            )
    system = [{"role": "system", "content": asked.system}] if asked.system is not None else []
    said = [{"role": "user", "content": text}] if text.strip() or not before else []
    return [*system, *before, *said]


def _followed(handle: Handle[Reply], live: _InNotebook | _InTerminal) -> Reply:
    while not handle.done:
        progress = _progress(handle)
        live.show(progress)
        wait_s = max(_INTERVAL_S, len(progress.text) / _CHARS_PER_S)
        with contextlib.suppress(TimeoutError):  # a limit that the engine itself passed is raised below
            return handle.result(wait_s)
    return handle.result()


def _stopped(
    shell: InteractiveShell,
    asked: argparse.Namespace,
    handle: Handle[Reply],
    live: _InNotebook | _InTerminal,
    stop: KeyboardInterrupt,
) -> None:
    """Show and keep what came until the interrupt."""
    handle.cancel()  # again, in case the interrupt came while drawing
    with contextlib.suppress(Exception, CancelledError):  # what became of it is shown
        handle.result(_CLEANUP_S)
    progress = _progress(handle)
    line = f"stopped after {_counted(progress)}" if progress.tokens else "stopped before the first token"
    if asked.name is not None and progress.tokens:
        shell.user_ns[asked.name] = Reply(
            progress.text,
            progress.model,
            "cancelled",
            tokens=progress.tokens,
            timings=Timings(total_s=progress.elapsed_s),
        )
    live.fail(progress, line)
    told = f"{handle.describe}: {line}"
    # IPython shows this instead of the frames between the cell and here, which explain nothing.
    stop._render_traceback_ = lambda: [told]  # type: ignore[attr-defined]  # IPython's hook


def _progress(handle: Handle[Reply]) -> GenerateProgress:
    found = handle.snapshot()
    assert isinstance(found, GenerateProgress), "the verb has one from the start"
    return found


def _counted(progress: GenerateProgress) -> str:
    return format_count(progress.tokens, "token")


class _InNotebook:
    """One output of the cell, changed in place."""

    def __init__(self) -> None:
        self._id = uuid4().hex
        self._shown: tuple[str, str] | None = None

    def show(self, progress: GenerateProgress) -> None:
        """What is waited for, or what came so far."""
        line = bars.answering(progress)
        html = ai_faces.partial_html(progress, line) if progress.text else bars.answering_html(progress)
        self._put(ai_faces.partial_text(progress, line), html)

    def fail(self, progress: GenerateProgress, line: str) -> None:
        """What came, and how it ended."""
        line = f"{progress.model}: {line}"
        self._put(ai_faces.partial_text(progress, line), ai_faces.partial_html(progress, line))

    def end(self, reply: Reply) -> None:
        """The whole answer."""
        self._put(
            ai_faces.reply_text(reply),
            ai_faces.reply_html(reply),
            **{"text/markdown": ai_faces.reply_markdown(reply)},
        )

    def _put(self, text: str, html: str, **others: str) -> None:
        if (text, html) == self._shown and not others:
            return
        bundle = {"text/plain": text, "text/html": html, **others}
        _publish(bundle, raw=True, display_id=self._id, update=self._shown is not None)
        self._shown = text, html


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
        sys.stdout.write(f"[{clean(progress.model)}: {line}]\n")

    def end(self, reply: Reply) -> None:
        """What came since; the stamp is shown as the cell's value."""
        self._print(reply.text)
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
