"""Where two texts part, to the byte, and what kind of difference it is.

Source: spec 6 §Caches (the first differing block and byte); research/prompts §9 (1).
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final

from xprim_nb._text import clean
from xprim_nb.prompts.prefix import common_letters
from xprim_nb.prompts.volatility import find_volatile

__all__ = ["Difference", "difference"]

_CLOSING: Final = re.compile(r"\n</\w+>\n\Z")
_AROUND: Final = 24  # letters shown before and after; together with the difference they fit a line


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place at which two texts are not the same.

    Attributes:
        byte: Offset in the UTF-8 of both; up to there they are equal.
        line: From 1.
        kind: `date`, `uuid` … as the volatility rules name them, `unicode form`, `line ends`, `trailing newline`,
            `whitespace`, `order of keys`, `order of entries`, `number format`, `number`, `addition`, `omission`, `text`.
        now: A piece of the one around it, harmless to show.
        before: The same of the other.
    """

    byte: int
    line: int
    kind: str
    now: str
    before: str


def difference(now: str, before: str) -> Difference | None:
    """How a text differs from what it was; None where it does not.

    >>> found = difference("It is 2026-11-28, noon.", "It is 2026-11-27, noon.")
    >>> found.byte, found.kind
    (15, 'date')
    """
    if now == before:
        return None
    letters = common_letters(now, before)
    # Two letters that are not the same may still begin with the same byte.
    mine, theirs = now[letters : letters + 1].encode(), before[letters : letters + 1].encode()
    more = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(mine, theirs, strict=False)))
    return Difference(
        byte=len(now[:letters].encode()) + more,
        line=now.count("\n", 0, letters) + 1,
        kind=_kind(now, before, letters),
        now=_excerpt(now, letters),
        before=_excerpt(before, letters),
    )


def _kind(now: str, before: str, at: int) -> str:
    """What differs: 1 how the same is written, 2 in which order, 3 what is volatile, 4 what was added, 5 anything."""
    now, before = _unwrapped(now), _unwrapped(before)
    if unicodedata.normalize("NFC", now) == unicodedata.normalize("NFC", before):
        return "unicode form"  # 1
    if now.replace("\r\n", "\n") == before.replace("\r\n", "\n"):
        return "line ends"
    if now.rstrip("\n") == before.rstrip("\n"):
        return "trailing newline"
    if now.split() == before.split() or "".join(now.split()) == "".join(before.split()):
        return "whitespace"
    if (order := _order(now, before)) is not None:
        return order  # 2
    volatile = _volatile_at(now, at) or _volatile_at(before, at)
    number, was = _number_at(now, at), _number_at(before, at)
    if volatile and volatile != "float":
        return volatile  # 3
    if number is not None and was is not None:
        return "number format" if abs(number - was) <= 1e-9 * max(abs(number), abs(was), 1e-300) else "number"
    if volatile:
        return volatile
    end = common_letters(now[::-1], before[::-1])
    if at + end >= len(before):
        return "addition"  # 4
    return "omission" if at + end >= len(now) else "text"  # 5


def _unwrapped(text: str) -> str:
    """A block without the tag that ends it, which would hide that a text is only longer or ends otherwise."""
    return _CLOSING.sub("", text)


def _order(now: str, before: str) -> str | None:
    """Whether the same is only said in another order."""
    one, other = _json(now), _json(before)
    if one is not None and other is not None:
        if one == other:
            # What compares equal may be written differently: 1 and 1.0 are no matter of order.
            return "order of keys" if Counter(now) == Counter(before) else "number format"
        if (
            isinstance(one, list)
            and isinstance(other, list)
            and sorted(map(repr, one)) == sorted(map(repr, other))
        ):
            return "order of entries"
    if Counter(now.splitlines()) == Counter(before.splitlines()):
        return "order of entries"
    changed = [
        (mine, theirs)
        for mine, theirs in zip(now.splitlines(), before.splitlines(), strict=False)
        if mine != theirs
    ]
    same_length = now.count("\n") == before.count("\n")
    pieces = [(Counter(_pieces(mine)), Counter(_pieces(theirs))) for mine, theirs in changed]
    if same_length and pieces and all(mine == theirs and len(mine) > 1 for mine, theirs in pieces):
        return "order of keys" if ":" in changed[0][0] else "order of entries"
    return None


def _pieces(line: str) -> list[str]:
    for bracket in "{}[]()":
        line = line.replace(bracket, ",")
    return [piece.strip() for piece in line.split(",")]


def _json(text: str) -> Any:  # noqa: ANN401  # any JSON value
    begin = text.find("\n") + 1 if text.startswith("<") else 0
    try:
        return json.loads(text[begin:])
    except ValueError:
        return None


def _volatile_at(text: str, at: int) -> str:
    return next(
        (rule for rule, begin, end in find_volatile(text) if begin <= at < end or at == end > begin), ""
    )


def _number_at(text: str, at: int) -> float | None:
    """The number that a place lies in or at the end of."""
    letters = "0123456789.eE+-"
    begin, end = at, at
    while begin > 0 and text[begin - 1] in letters:
        begin -= 1
    while end < len(text) and text[end] in letters:
        end += 1
    try:
        return float(text[begin:end].rstrip("."))
    except ValueError:
        return None


def _excerpt(text: str, at: int) -> str:
    begin, end = max(0, at - _AROUND), min(len(text), at + _AROUND)
    shown = clean(text[begin:end]).replace("\n", "⏎").replace("\t", "⇥")
    return f"{'…' if begin else ''}{shown}{'…' if end < len(text) else ''}"
