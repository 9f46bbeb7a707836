"""How prompts look in a cell: an answer with a line of where it is from, and the bar of what a provider's cache does.

Source: spec 6 §Faces.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from xprim_nb._text import clean, format_count, format_dollars, format_seconds
from xprim_nb.magics import ai_faces

if TYPE_CHECKING:
    from xprim_nb.prompts.asked import Asked
    from xprim_nb.prompts.explain import Explanation
    from xprim_nb.reports import CacheBar

__all__ = [
    "asked_bundle",
    "asked_html",
    "asked_markdown",
    "asked_stamp",
    "asked_text",
    "explanation_html",
    "explanation_text",
    "took",
]

_ENDINGS = {
    "length": ", cut there",
    "cancelled": ", stopped there",
    "refusal": ", refused",
    "error": ", failed",
}
_SOURCES = {"cache": "from the cache", "generated": "generated", "joined": "joined an equal one in flight"}


def asked_stamp(asked: Asked) -> str:
    """Whose answer it is, where it is from and why, what it took and cost, in a line."""
    answer = asked.answer
    tokens = format_count(answer.usage.output_tokens, "token") + _ENDINGS.get(answer.finish, "")
    parts = [answer.model or asked.asked.model, _SOURCES[asked.source], tokens, took(asked.total_s)]
    if asked.cost is not None:
        parts.append(f"{format_dollars(asked.cost.amount)} {asked.cost.kind}")
    if asked.saved is not None:
        parts.append(f"saved {format_dollars(asked.saved.amount)}")
    parts += [asked.reason.sentence] if asked.reason is not None else []
    parts += [asked.waited] if asked.waited else []
    parts += [f"not kept. {asked.not_kept}"] if asked.not_kept else []
    return clean(" · ".join(parts)).replace("\n", " ")


def took(seconds: float) -> str:
    """A duration; below a tenth of a second in milliseconds, because a look-up takes no more.

    >>> took(0.00042), took(2.5)
    ('0.4 ms', '2.5 s')
    """
    return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else format_seconds(seconds)


def asked_text(asked: Asked) -> str:
    """The text, an empty line, the stamp."""
    return ai_faces.stamped_text(_said(asked), asked_stamp(asked))


def asked_html(asked: Asked) -> str:
    """The text as it was written, and the stamp below."""
    return ai_faces.stamped_html(_said(asked), asked_stamp(asked))


def asked_markdown(asked: Asked) -> str:
    """The text inside a fence, and the stamp below."""
    return ai_faces.stamped_markdown(_said(asked), asked_stamp(asked))


def asked_bundle(asked: Asked) -> dict[str, str]:
    """All three, by MIME type."""
    return {
        "text/plain": asked_text(asked),
        "text/html": asked_html(asked),
        "text/markdown": asked_markdown(asked),
    }


def explanation_text(found: Explanation) -> str:
    """The X-ray in words."""
    return _bar(found).text()


def explanation_html(found: Explanation) -> str:
    """The X-ray as a bar."""
    return _bar(found).html()


def _bar(found: Explanation) -> CacheBar:
    # Loaded with the first X-ray: the room of reports brings pandas along.
    bar: CacheBar = importlib.import_module("xprim_nb.reports.cache_bar").CacheBar.of(found)
    return bar


def _said(asked: Asked) -> str:
    """The text of an answer, and what it wants called."""
    calls = [f"→ {call.get('name', '?')}({call.get('arguments', '')})" for call in asked.answer.tool_calls]
    return "\n".join(filter(None, [asked.answer.text, *calls]))
