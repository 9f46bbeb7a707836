"""The browser without a front end: its first rows as HTML and as text. Pure.

Source: spec 3 §Views ("static HTML and text in the same mimebundle").
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from xprim_nb._text import format_bytes, format_count, format_seconds
from xprim_widgets._browser_rows import ModelRow
from xprim_widgets.card import card_html

__all__ = ["registry_line", "twin_html", "twin_text"]

# A page that nobody can filter is no place for ten thousand rows.
_MOST_ROWS = 100
_HEADERS = ("model", "version", "size", "quantisation", "licence", "here")
_HERE = {"available": "", "installed": "installed", "update_available": "update available"}


def registry_line(registry: Mapping[str, Any], now: float | None = None) -> str:
    """How old the registry's list is, and whether the registry can be asked."""
    if not registry["listed"]:
        return "asking the registry" if registry["asking"] else "The registry's list could not be had."
    age = max(0.0, (time.time() if now is None else now) - registry["confirmed_at"])
    old = "new" if age < 60 else f"{format_seconds(60 * (age // 60)).removesuffix(' 0 s')} old"
    offline = "; offline" if registry["offline"] else ""
    silent = registry["offline"] or registry["asking"] or not registry["why_stale"]
    why = "" if silent else f"; {registry['why_stale']}"
    return f"The registry's list is {old}{offline}{why}"


def twin_html(rows: Sequence[ModelRow], line: str, card: Mapping[str, Any]) -> str:
    """A table of the first rows, and the open card."""
    head = "".join(f'<th scope="col" style="text-align:left">{name}</th>' for name in _HEADERS)
    body = "".join(
        "<tr>" + "".join(f'<td style="text-align:left">{escape(cell)}</td>' for cell in _cells(row)) + "</tr>"
        for row in rows[:_MOST_ROWS]
    )
    notes = "".join(f"<p>{escape(each)}</p>" for each in (_more(rows), line) if each)
    table = f'<table class="xprim-rows"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f"{table if rows else ''}{notes}{_card(card)}"


def twin_text(rows: Sequence[ModelRow], line: str) -> str:
    """The same as text."""
    lines = [_HEADERS, *(_cells(row) for row in rows[:_MOST_ROWS])] if rows else []
    widths = (
        [max(len(each[column]) for each in lines) + 2 for column in range(len(_HEADERS))] if lines else []
    )
    shown = [
        "".join(cell.ljust(width) for cell, width in zip(each, widths, strict=True)).rstrip()
        for each in lines
    ]
    return "\n".join(each for each in (*shown, _more(rows), line) if each)


def _cells(row: ModelRow) -> tuple[str, ...]:
    version = f"{row.ref.version} = {row.alias_of}" if row.alias_of else row.ref.version
    size = "-" if row.size_bytes is None else format_bytes(row.size_bytes)
    return row.ref.name, version, size, row.quantisation, row.licence, _HERE[row.status]


def _more(rows: Sequence[ModelRow]) -> str:
    if not rows:
        return "No models are listed."
    left = len(rows) - _MOST_ROWS
    return f"and {format_count(left, 'version')} more" if left > 0 else ""


def _card(card: Mapping[str, Any]) -> str:
    if "pairs" not in card:
        return ""
    pairs = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in card["pairs"])
    note = f"<p>{escape(card['note'])}</p>" if card["note"] else ""
    return f"<h3>{escape(card['ref'])}</h3><dl>{pairs}</dl>{card_html(card['tree'])}{note}"
