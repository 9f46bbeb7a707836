"""Errors of ours as a short card: what, where, what to do; the traceback one click away.

The cell still fails: the reply says so, and an `error` output without a traceback stands under the card.

Source: spec 3 §Magics.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from html import escape
from types import TracebackType
from typing import TYPE_CHECKING

from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display

from xprim_nb._text import clean
from xprim_nb.errors import XprimError
from xprim_nb.magics import crash_card
from xprim_nb.magics.wording import in_notebook

if TYPE_CHECKING:
    from xprim_nb.workers.values import CrashReport

__all__ = ["html_card", "show_ours", "text_card"]

_publish: Callable[..., object] = display  # IPython's has no types

# More nobody reads at a glance; all of it is one click away.
_MESSAGE_CHARS, _WHERE_CHARS, _MOST_LINES = 600, 200, 8

_STYLE = (
    "border-left:4px solid var(--jp-error-color1,#d32f2f);padding:.4em .9em;margin:.2em 0;"
    "background:var(--jp-layout-color1,transparent);color:var(--jp-ui-font-color1,inherit);"
    "overflow-wrap:anywhere"  # a name of a thousand letters shall not widen the page
)


def show_ours(shell: InteractiveShell) -> Callable[[], None]:
    """Show `XprimError`s as cards from now on; the result ends it.

    A handler that somebody else has set keeps its own exceptions.
    """
    before, handler_before = shell.custom_exceptions, shell.CustomTB

    def show(
        shell: InteractiveShell,
        kind: type[BaseException],
        error: BaseException,
        trace: TracebackType | None,
        tb_offset: int | None = None,
    ) -> list[str]:
        if not isinstance(error, XprimError):
            shown: list[str] = handler_before(kind, error, trace, tb_offset)
            return shown
        return _show(shell, kind, error, trace)

    def end() -> None:
        if shell.CustomTB is ours:  # somebody who came later takes precedence
            shell.custom_exceptions, shell.CustomTB = before, handler_before

    set_handler: Callable[..., object] = shell.set_custom_exc  # IPython's has no types
    set_handler((XprimError, *before), show)
    ours = shell.CustomTB
    return end


class _Said(Exception):
    """What stands under the card, in place of a message that may be pages long."""


def _show(
    shell: InteractiveShell, kind: type[BaseException], error: XprimError, trace: TracebackType | None
) -> list[str]:
    # What `%tb` and `%debug` look at.
    sys.last_type, sys.last_value, sys.last_traceback = kind, error, trace
    if getattr(shell, "kernel", None) is None:  # a terminal shows no HTML
        shell._showtraceback(kind, error, text_card(error).splitlines())
        return []
    full = "".join(traceback.format_exception(kind, error, trace))
    _publish({"text/plain": text_card(error), "text/html": html_card(error, full)}, raw=True)
    # Front ends without a traceback show this as one line of text.
    shell._showtraceback(error.kind, _Said(_cut(_facts(error)[0].partition("\n")[0], _WHERE_CHARS)), [])
    return []


def _facts(error: XprimError) -> tuple[str, str, str]:
    where = error.subject if error.subject and error.subject not in error.message else ""
    # Parts of them may come from a registry or a server.
    return clean(in_notebook(error.message)), clean(where), clean(in_notebook(error.hint))


def _cut(text: str, most: int) -> str:
    """The beginning of a text, and how much there is of it, where a card has no room for all."""
    head = "\n".join(text.splitlines()[:_MOST_LINES])[:most]
    return (
        text
        if len(head) >= len(text.rstrip("\n"))
        else f"{head.rstrip()} … ({len(text):,} characters in all)"
    )


def text_card(error: XprimError) -> str:
    """The card as text."""
    message, where, hint = _facts(error)
    lines = [
        f"{error.kind.__name__}: {_cut(message, _MESSAGE_CHARS)}",
        f"where: {_cut(where, _WHERE_CHARS)}" if where else "",
        f"hint: {_cut(hint, _MESSAGE_CHARS)}" if hint else "",
        crash_card.text(report) if (report := _report(error)) is not None else "",
    ]
    return "\n".join(line for line in lines if line)


def html_card(error: XprimError, full_traceback: str) -> str:
    """The card as HTML, readable in light and dark themes."""
    message, where, hint = _facts(error)
    shown = _cut(message, _MESSAGE_CHARS), _cut(where, _WHERE_CHARS), _cut(hint, _MESSAGE_CHARS)
    parts = [f"<strong>{escape(error.kind.__name__)}</strong> <span>{escape(shown[0])}</span>"]
    parts += [f"<div>Where: <code>{escape(shown[1])}</code></div>"] if where else []
    parts += [f"<div>What to do: {escape(shown[2])}</div>"] if hint else []
    if (report := _report(error)) is not None:
        parts.append(f'<div style="margin-top:.4em">{crash_card.html(report)}</div>')
    if shown != (message, where, hint):
        parts.append(_folded("All of it", "\n\n".join(each for each in (message, where, hint) if each)))
    # It quotes the message, and so whatever a server said.
    parts.append(_folded("Traceback", clean(full_traceback)))
    return f'<div class="xprim-error" role="alert" style="{_STYLE}">{"".join(parts)}</div>'


def _report(error: XprimError) -> CrashReport | None:
    """What is known of the worker whose end it tells of."""
    report = getattr(error, "report", None)
    return report if crash_card.is_report(report) else None


def _folded(title: str, text: str) -> str:
    return (
        f"<details><summary>{title}</summary>"
        f'<pre style="white-space:pre-wrap;max-height:30em;overflow:auto">{escape(text)}</pre></details>'
    )
