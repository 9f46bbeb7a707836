"""What the views that are plain HTML have in common: no scripts, no style sheets, and nothing that is set as a formula."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Final

from xprim_nb._text import clean

__all__ = ["CELL", "NO_MATHS", "NUMBER", "escaped", "legend"]

NO_MATHS: Final = "mathjax_ignore tex2jax_ignore"
"""Classes of a view: a dollar in it is money, or a name, and none that a formula begins with."""
CELL: Final = "text-align:left;vertical-align:top;white-space:pre-wrap;overflow-wrap:anywhere"
"""A cell of words."""
NUMBER: Final = "text-align:right;vertical-align:top;white-space:nowrap"
"""A cell of a number."""


def escaped(text: str) -> str:
    """Text that is text in HTML and drives nothing.

    >>> escaped('<b title="x">')
    '&lt;b title=&quot;x&quot;&gt;'
    """
    return escape(clean(text))


def legend(items: Iterable[str]) -> str:
    """What marks and colours mean, side by side as far as there is room. The items are HTML."""
    style = "display:flex;flex-wrap:wrap;list-style:none;padding:0;margin:.2em 0"
    told = "".join(f'<li style="margin-right:1.6em">{each}</li>' for each in items)
    return f'<ul style="{style}">{told}</ul>'
