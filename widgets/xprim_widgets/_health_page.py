"""The static twin of the health view: the same rows, as HTML without scripts and as text. Pure.

Source: spec 3 §Views ("static HTML and text").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

from xprim_nb._text import format_bytes, format_count
from xprim_widgets._health_rows import STATES, HealthRow, shares_of

__all__ = ["html", "text"]

# More rows a page without paging does not show.
_MOST = 50
_MARKS = {"failed": "✕", "degraded": "!", "healthy": "✓"}
_COLOURS = {
    "failed": "var(--jp-error-color1,#d32f2f)",
    "degraded": "var(--jp-warn-color1,#b26a00)",
    "healthy": "var(--jp-success-color1,#2e7d32)",
}
_DEPTHS = {"quick": "quick check", "full": "every byte", "install": "when installed"}
_BAR = (
    "display:flex;height:.8em;max-width:40em;overflow:hidden;gap:1px;"
    "outline:1px solid var(--jp-border-color1,#8888);border-radius:2px"
)
_CELL = "text-align:left;vertical-align:top;white-space:pre-wrap;overflow-wrap:anywhere"


def html(verdict: str, rows: Sequence[HealthRow], facts: Sequence[str], notes: Mapping[str, Any]) -> str:
    """A sentence, a bar with its legend, a table of the most urgent rows, receipts."""
    head = f"<p><strong>{escape(verdict)}</strong></p>"
    if not rows:
        return head
    shares = shares_of(rows)
    bar = "".join(
        f'<span style="width:{share.percent}%;background:{_COLOURS[share.state]}"></span>' for share in shares
    )
    words = "; ".join(_share(share.state, share.models, share.size_bytes) for share in shares)
    columns = "".join(
        f'<th scope="col" style="{_CELL}">{name}</th>'
        for name in ("model", "size", "health", "last check", "what to do")
    )
    body = "".join(_html_row(row) for row in _ordered(rows)[:_MOST])
    return (
        f'{head}<div role="img" aria-label="Size by health: {escape(words)}" style="{_BAR}">{bar}</div>'
        f'<p>{escape(words)}</p><table class="xprim-health"><thead><tr>{columns}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
        + "".join(f"<p>{escape(line)}</p>" for line in [*_more(rows), *_noted(notes), *facts])
    )


def text(verdict: str, rows: Sequence[HealthRow], facts: Sequence[str], notes: Mapping[str, Any]) -> str:
    """The same as text."""
    ordered = _ordered(rows)[:_MOST]
    width = min(60, max((len(row.ref) for row in ordered), default=0))
    lines = [
        f"{row.ref:<{width}}  {row.status:<8}  {format_bytes(row.size_bytes):>9}  {_when(row)}  "
        f"{' '.join(filter(None, [row.found, row.advice]))}".rstrip()
        for row in ordered
    ]
    return "\n".join([verdict, *lines, *_more(rows), *_noted(notes), *facts])


def _ordered(rows: Sequence[HealthRow]) -> list[HealthRow]:
    return sorted(rows, key=lambda row: (STATES.index(row.status), row.ref))


def _share(state: str, count: int, size_bytes: int) -> str:
    return f"{_MARKS[state]} {state}: {format_count(count, 'model')}, {format_bytes(size_bytes)}"


def _html_row(row: HealthRow) -> str:
    said = "\n".join(filter(None, [row.found, row.advice]))
    mark = f'<span aria-hidden="true" style="color:{_COLOURS[row.status]}">{_MARKS[row.status]}</span>'
    return (
        f'<tr><th scope="row" style="{_CELL}">{escape(row.ref)}</th>'
        f'<td style="text-align:right;vertical-align:top">{format_bytes(row.size_bytes)}</td>'
        f'<td style="{_CELL}">{mark} {row.status}</td><td style="{_CELL}">{escape(_when(row))}</td>'
        f'<td style="{_CELL}">{escape(said)}</td></tr>'
    )


def _when(row: HealthRow) -> str:
    depth = _DEPTHS.get(row.depth, row.depth)
    if not row.checked_at:
        return "never"
    # A saved page is read later: a date says when, an age would not.
    return f"{datetime.fromtimestamp(row.checked_at, UTC):%Y-%m-%d %H:%M} UTC, {depth}"


def _more(rows: Sequence[HealthRow]) -> list[str]:
    return [f"… and {len(rows) - _MOST:,} more models."] if len(rows) > _MOST else []


def _noted(notes: Mapping[str, Any]) -> list[str]:
    return [
        " ".join([f"{ref}: {note['title']}", *note["lines"]])
        for ref, note in notes.items()
        if note["kind"] != "ask"
    ]
