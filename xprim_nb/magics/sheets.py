"""Facts about a value, laid out: names and what they stand for, as aligned lines and as a table.

What is shown may come from a registry, a server or another program: it can drive no terminal, turn no line around, and
become no markup.

Source: spec 3 §Magics.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TypeAlias

from xprim_nb._text import clean
from xprim_nb.magics.wording import in_notebook

__all__ = ["Facts", "Pairs", "facts_html", "facts_text"]

_COLUMNS = (
    "display:grid;grid-template-columns:max-content minmax(0,auto);column-gap:1.5em;"
    "max-width:48em;overflow-wrap:anywhere"  # a publisher may write a line of any length
)
# A value that is a list of pairs is laid out in two columns of its own.
Pairs: TypeAlias = tuple[tuple[str, str], ...]
Facts: TypeAlias = Mapping[str, str | Pairs]


def facts_text(facts: Facts) -> str:
    """Facts as aligned lines."""
    width = max(map(len, facts), default=0) + 3
    return clean(
        in_notebook(
            "\n".join(
                f"{name + ':':<{width}}{_text(value)}".replace("\n", "\n" + " " * width)
                for name, value in facts.items()
            )
        )
    )


def facts_html(facts: Facts) -> str:
    """Facts as a table with row headings."""
    cell = "text-align:left;vertical-align:top;white-space:pre-wrap"
    rows = (
        f'<tr><th scope="row" style="{cell}">{escape(name)}</th><td style="{cell}">{_html(value)}</td></tr>'
        for name, value in facts.items()
    )
    return f'<table class="xprim-facts"><tbody>{"".join(rows)}</tbody></table>'


def _text(value: str | Pairs) -> str:
    if isinstance(value, str):
        return value
    width = max((len(name) for name, _ in value), default=0) + 2
    return "\n".join(f"{name:<{width}}" + told.replace("\n", "\n" + " " * width) for name, told in value)


def _html(value: str | Pairs) -> str:
    if isinstance(value, str):
        return _escaped(value)
    cells = "".join(f"<span>{_escaped(each)}</span>" for pair in value for each in pair)
    return f'<div style="{_COLUMNS}">{cells}</div>'


def _escaped(text: str) -> str:
    return escape(clean(in_notebook(text)))
