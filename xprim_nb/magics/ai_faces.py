"""How an answer looks in a cell: its text, then a discreet line of where the time went.

A model's text is a stranger's: it can drive no terminal, become no markup and fetch nothing. In Markdown it stands in a
fence that it cannot close.

Source: spec 4 §Faces.
"""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

from xprim_nb._text import clean, format_count

if TYPE_CHECKING:
    from xprim_nb.scheduling.values import GenerateProgress, Reply

__all__ = [
    "partial_html",
    "partial_text",
    "reply_html",
    "reply_markdown",
    "reply_text",
    "stamp_line",
    "stamped_html",
    "stamped_markdown",
    "stamped_text",
]

_TEXT = "white-space:pre-wrap;overflow-wrap:anywhere;max-width:52em"
_STAMP = "font-size:smaller;margin-top:.4em;color:var(--jp-ui-font-color2,inherit)"
_MARKS = re.compile(r"([\\`*_{}\[\]()#+.!|<>~&-])")


def stamp_line(reply: Reply) -> str:
    """What ran where, and where the time went, in a line."""
    parts = [reply.model + (f" on {reply.device}" if reply.device else "")]
    parts.append(format_count(reply.tokens, "token") + _ending(reply))
    parts.append(reply.stamp)
    if reply.evicted and "evicted" not in reply.stamp:
        parts.append(f"evicted {', '.join(reply.evicted)}")
    parts += [f"with {', '.join(reply.loras)}"] if reply.loras else []
    parts += [f"seed {reply.seed}"] if reply.seed else []
    parts += [f"less than was asked for: {reply.degraded}"] if reply.degraded else []
    parts += [f"its worker was replaced {format_count(reply.retries, 'time')}"] if reply.retries else []
    return clean(" · ".join(parts)).replace("\n", " ")


def _ending(reply: Reply) -> str:
    return {"length": ", cut there", "cancelled": ", stopped there", "refusal": ", refused"}.get(
        reply.finish_reason, ""
    )


def reply_text(reply: Reply) -> str:
    """The text, an empty line, the stamp."""
    return stamped_text(reply.text, stamp_line(reply))


def reply_html(reply: Reply) -> str:
    """The text as it was written, and the stamp below."""
    return stamped_html(reply.text, stamp_line(reply))


def reply_markdown(reply: Reply) -> str:
    """The text inside a fence, and the stamp below."""
    return stamped_markdown(reply.text, stamp_line(reply))


def stamped_text(text: str, stamp: str) -> str:
    """A stranger's text, an empty line, a line about it."""
    return f"{clean(text)}\n\n[{stamp}]"


def stamped_html(text: str, stamp: str) -> str:
    """The same as HTML."""
    return (
        f'<div class="xprim-reply"><div class="xprim-text" style="{_TEXT}">{_escaped(text)}</div>'
        # What stands between two prices would be set as a formula.
        f'<div class="xprim-stamp mathjax_ignore tex2jax_ignore" style="{_STAMP}">{_escaped(stamp)}</div></div>'
    )


def stamped_markdown(text: str, stamp: str) -> str:
    """The same as Markdown: the text inside a fence that it cannot close."""
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    marked = _MARKS.sub(r"\\\1", stamp)
    return f"{fence}text\n{clean(text)}\n{fence}\n\n{marked}"


def partial_text(progress: GenerateProgress, line: str) -> str:
    """An answer that is not whole yet, or never will be, and what there is to say of it."""
    return f"{clean(progress.text)}\n\n[{clean(line)}]" if progress.text else clean(line)


def partial_html(progress: GenerateProgress, line: str) -> str:
    """The same as HTML."""
    text = f'<div class="xprim-text" style="{_TEXT}">{_escaped(progress.text)}</div>' if progress.text else ""
    return f'<div class="xprim-reply">{text}<div class="xprim-stamp" style="{_STAMP}">{_escaped(line)}</div></div>'


def _escaped(text: str) -> str:
    return escape(clean(text))
