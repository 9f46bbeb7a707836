"""Why there was no hit: what is asked now beside the nearest that was asked before, to the first byte that differs.

Source: spec 6 §Caches ("every miss has a reason"); research/prompts §3.7, §3.8, §6 (12).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, TypeAlias

from xprim_nb._hashing import Digest
from xprim_nb.prompts.identity import CHANGES_ANSWER, canonical, request_parts, tagged_hash
from xprim_nb.prompts.rendered import Rendered, Segment, SegmentKind
from xprim_nb.prompts.values import ResolveInput

__all__ = ["MissKind", "MissReason", "Remembered", "first_difference", "first_different_byte", "settings_of"]

MissKind: TypeAlias = Literal[
    "first",  # nothing was asked of this model before
    "setting",  # another temperature, seed, sample …
    "content",  # another text: `part` and `byte` say where
    "order",  # the same texts, declared in another order, or told to the model in another form
    "renderer",  # the same, rendered by another version
    "not_kept",  # asked before; that answer was not one to keep
    "gone",  # asked before; the answer was kept and is no longer here
    "damaged",  # kept, and unreadable
    "version",  # kept by another version of this package
    "unavailable",  # the cache itself could not be read
    "refresh",  # a new answer was asked for
    "bypass",  # the cache was not to be looked at
]

_SHOWN = 32  # characters of each text around the difference: what fits on a line, twice
_NAMED = 4  # of what differs too: past an inserted message everything does
_CONTENT = frozenset({"prompt", "blocks", "context", "messages", "tools", "response_schema"})
# In this order, and not by name: what most often differs, and is soonest put right, comes first.
_SETTINGS = (
    *("provider", "model", "endpoint", "temperature", "top_p", "top_k", "seed", "max_tokens", "stop"),
    *("parameters", "loras", "sample_index"),
)
_FIELDS: Mapping[SegmentKind, str] = {
    "tools": "tools",
    "schema": "response_schema",
    "block": "blocks",
    "message": "messages",
    "turn": "prompt",
}


@dataclass(frozen=True, slots=True)
class Remembered:
    """A request as it was sent once, for comparison.

    Attributes:
        request: Its hash.
        at: When, in seconds since 1970.
        settings: As `settings_of` tells them.
        rendered: What was sent.
    """

    request: Digest
    at: float
    settings: Mapping[str, Any]
    rendered: Rendered


@dataclass(frozen=True, slots=True)
class MissReason:
    """Why a request was not answered from the cache.

    Attributes:
        kind: What sort of reason.
        field: The first setting that differs, or the field that holds the text that does.
        part: Label of the first part of the prompt that differs, in the order in which it is sent.
        byte: The first byte of that part's UTF-8 that differs, from 0; None when no text differs.
        line: The line of that byte, from 1.
        now: Some of what is asked now, from a little before that byte; or the setting's value.
        was: The same of the earlier request.
        earlier: Hash of the request that this was compared with; empty when there is none.
        earlier_at: When it was asked, in seconds since 1970.
        also: Other fields and parts that differ too.
        detail: What a damaged row's reader said, or how an answer ended that was not kept.
    """

    kind: MissKind
    field: str = ""
    part: str = ""
    byte: int | None = None
    line: int = 0
    now: str = ""
    was: str = ""
    earlier: str = ""
    earlier_at: float = 0.0
    also: tuple[str, ...] = ()
    detail: str = ""

    @property
    def sentence(self) -> str:
        """The reason for people."""
        also = f" Also different: {', '.join(self.also)}." if self.also else ""
        match self.kind:
            case "first":
                return "Nothing was asked of this model before."
            case "setting":
                return f"{self.field} differs: {self.now}, where the nearest earlier request had {self.was}.{also}"
            case "content":
                where = f"{self.part!r} differs from byte {self.byte} (line {self.line})"
                return f"{where}: {self.now!r}, where the nearest earlier request had {self.was!r}.{also}"
            case "order":
                return f"{self.field} differ in their order, or in what is not sent as text.{also}"
            case "renderer":
                return f"It was rendered by {self.was} before, and is by {self.now} now."
            case "not_kept":
                return f"This was asked before, and that answer was not kept: it ended with {self.detail!r}."
            case "gone":
                return "This was asked before, and its answer is no longer here: rotated out, or erased."
            case "damaged":
                return f"The kept answer is damaged and was put aside: {self.detail}."
            case "version":
                return f"The kept answer is of another version of xprim-nb: {self.detail}."
            case "unavailable":
                return f"The cache could not be read: {self.detail}"
            case "refresh":
                return "A new answer was asked for (cache='refresh')."
            case "bypass":
                return "The cache was not to be used (cache='bypass')."


def settings_of(asked: ResolveInput) -> dict[str, Any]:
    """What of a request is compared as a whole: its settings by value, its texts by hash."""
    parts = request_parts(asked)
    # Through JSON, as the other side comes from the disk: tuples are lists there.
    return {
        name: tagged_hash("xprim/field/v1", parts[name]) if name in _CONTENT else _plain(parts[name])
        for name in sorted(CHANGES_ANSWER)
    }


def first_difference(now: Remembered, then: Remembered) -> MissReason:
    """What tells a request from an earlier one.

    1. A setting that differs is named first: no text explains it.
    2. Else the first part, in sent order, whose text differs, and its first byte that does.
    3. Else the renderer, if that is another.
    4. Else a field whose texts are the same in another order.
    """
    about = MissReason("gone", earlier=then.request, earlier_at=then.at)
    settings = [name for name in _settings(now, then) if now.settings.get(name) != then.settings.get(name)]
    content = _content(now.rendered.segments, then.rendered.segments)
    parts = [each.label for each in content]
    if settings:
        first, *others = settings
        was, value = _shown(then.settings.get(first), now.settings.get(first))
        reason = replace(
            about, kind="setting", field=first, now=value, was=was, also=(*others, *parts)[:_NAMED]
        )
        return _located(reason, content[0]) if content else reason
    if content:
        reason = replace(
            about, kind="content", field=_FIELDS[content[0].kind], also=tuple(parts[1 : _NAMED + 1])
        )
        return _located(reason, content[0], excerpt=True)
    if now.rendered.renderer != then.rendered.renderer:
        return replace(about, kind="renderer", now=now.rendered.renderer, was=then.rendered.renderer)
    fields = [name for name in sorted(_CONTENT) if now.settings.get(name) != then.settings.get(name)]
    return replace(about, kind="order", field=fields[0], also=tuple(fields[1:])) if fields else about


def first_different_byte(now: bytes, was: bytes) -> int:
    """The length of what two texts have in common at their beginning."""
    low, high = 0, min(len(now), len(was))
    while low < high:  # whole slices are compared: a byte at a time would take a second for each 10 MB
        middle = (low + high + 1) // 2
        if now[low:middle] == was[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _settings(now: Remembered, then: Remembered) -> Iterator[str]:
    known = {*now.settings, *then.settings} - _CONTENT
    yield from (name for name in _SETTINGS if name in known)
    yield from sorted(known - set(_SETTINGS))


class _Differing(NamedTuple):
    """A part of the prompt, and its two texts."""

    label: str
    kind: SegmentKind
    now: str
    was: str


def _content(now: tuple[Segment, ...], then: tuple[Segment, ...]) -> list[_Differing]:
    """Each part that differs; past the end of one side the other's text is empty."""
    found = []
    for index in range(max(len(now), len(then))):
        here = now[index] if index < len(now) else None
        there = then[index] if index < len(then) else None
        text, before = here.text if here else "", there.text if there else ""
        named = here or there
        if text != before and named is not None:
            found.append(_Differing(named.label or named.kind, named.kind, text, before))
    return found


def _located(reason: MissReason, differing: _Differing, *, excerpt: bool = False) -> MissReason:
    now, was = differing.now.encode("utf-8", "surrogatepass"), differing.was.encode("utf-8", "surrogatepass")
    byte = first_different_byte(now, was)
    line = now.count(b"\n", 0, byte) + 1
    reason = replace(reason, part=differing.label, byte=byte, line=line)
    return replace(reason, now=_around(now, byte), was=_around(was, byte)) if excerpt else reason


def _around(text: bytes, byte: int) -> str:
    """Some of a text, from a little before a byte; whole characters only."""
    before = text[max(0, byte - _SHOWN) : byte].decode("utf-8", "ignore")
    # The byte may lie inside a character, which begins up to three bytes before it.
    start = byte
    while start > 0 and start < len(text) and text[start] & 0xC0 == 0x80:
        start -= 1
    after = text[start : start + 4 * _SHOWN].decode("utf-8", "ignore")
    return before[-_SHOWN // 4 :] + after[:_SHOWN]


def _shown(one: Any, other: Any) -> list[str]:  # noqa: ANN401  # any JSON values
    """Values that differ, as they are told: of long ones what lies around the first difference."""
    texts = [canonical(value).decode("utf-8") for value in (one, other)]
    pairs = zip(*texts, strict=False)
    same = next((index for index, (here, there) in enumerate(pairs) if here != there), min(map(len, texts)))
    start = max(0, same - _SHOWN // 4) if max(map(len, texts)) > 2 * _SHOWN else 0
    return [
        f"{'…' if start else ''}{text[start : start + 2 * _SHOWN]}{'…' if len(text) > start + 2 * _SHOWN else ''}"
        for text in texts
    ]


def _plain(value: Any) -> Any:  # noqa: ANN401  # any JSON value
    match value:
        case Mapping():
            return {key: _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case _:
            return value
