"""What a renderer is, and what all of them do the same way.

Source: spec 6 §Resolve; research/prompts §6 (4: the formatter's version belongs to what is cached).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from xprim_nb.errors import ConfigError
from xprim_nb.prompts.identity import prefix_hashes, rendered_hash, tagged_hash
from xprim_nb.prompts.ordering import Part
from xprim_nb.prompts.rendered import Rendered, Segment
from xprim_nb.prompts.values import ResolveInput

__all__ = ["Renderer", "Slot", "compact_json", "finished", "merged", "spoken"]


class Renderer(Protocol):
    """Makes the body of a request. Pure: equal input, equal bytes."""

    @property
    def id(self) -> str:
        """Name and version: `anthropic/1`."""
        ...

    def render(
        self, asked: ResolveInput, parts: Sequence[Part], *, counts: Sequence[int] | None = None
    ) -> Rendered:
        """What is sent.

        Args:
            asked: Everything that is asked.
            parts: The same, in the order in which it is to be sent (`ordered_parts`).
            counts: Tokens of each segment, as a rendering without counts has them; None where nobody counted.

        Raises:
            ConfigError: A provider's own setting names a field that the renderer fills.
        """
        ...

    def notes(self, asked: ResolveInput) -> tuple[str, ...]:
        """What was asked and is not sent as it was asked, a sentence each."""
        ...


class Slot:
    """A part with its place in the body; `Segment` once it is known what was marked.

    Args:
        part: What is sent.
        text: As it is sent.
        path: Where it lies in the body.
    """

    __slots__ = ("part", "path", "text")

    def __init__(self, part: Part, text: str, path: tuple[str | int, ...]) -> None:
        self.part, self.text, self.path = part, text, path


def compact_json(value: Any) -> str:  # noqa: ANN401  # any JSON value
    """JSON as it is sent, its keys in the order in which they stand."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def spoken(part: Part) -> tuple[str, str]:
    """Who says a part of a conversation, and what, where a provider knows `user` and `assistant` alone.

    A `Message` has no id of the call that it answers, without which providers refuse the role `tool`.
    """
    if part.role in ("user", "assistant"):
        return part.role, part.text
    tag = "tool_result" if part.role == "tool" else part.role
    return "user", f"<{tag}>\n{part.text}\n</{tag}>"


def merged(body: Mapping[str, Any], asked: ResolveInput, reserved: Iterable[str]) -> dict[str, Any]:
    """A body with the provider's own settings, by its own names.

    Args:
        body: What the renderer filled.
        asked: Its `parameters` are added; where both have a field, theirs is sent.
        reserved: Fields that hold the prompt, and that no setting may replace.

    Raises:
        ConfigError: A setting names one of them.
    """
    taken = sorted(set(asked.parameters) & {*reserved, "model", "messages", "tools", "stream"})
    if taken:
        raise ConfigError(
            f"The parameters set {', '.join(taken)}, which the prompt itself fills.",
            subject=taken[0],
            hint="Say it by the fields of ResolveInput; `parameters` are for the provider's own settings.",
        )
    return {**body, **asked.parameters}


def finished(
    renderer: str,
    asked: ResolveInput,
    body: Mapping[str, Any],
    slots: Sequence[Slot],
    marked: Iterable[int] = (),
    *,
    apart: str = "",
) -> Rendered:
    """The body with its segments, their prefixes and the digest of all of it.

    Args:
        renderer: Name and version.
        asked: For whom it is.
        body: What is sent.
        slots: Its parts in the order in which the provider's cache sees them.
        marked: Places in `slots` whose prefix the provider is told to keep.
        apart: What keeps equal prefixes from each other: a salt, a routing key.
    """
    ends = frozenset(marked)
    segments = tuple(
        Segment(
            kind=slot.part.kind,
            label=slot.part.label,
            text=slot.text,
            hash=slot.part.hash,
            volatility=slot.part.volatility,
            breakpoint=index in ends,
            path=slot.path,
        )
        for index, slot in enumerate(slots)
    )
    root = tagged_hash("xprim/root/v1", [renderer, asked.provider, asked.model, asked.endpoint, apart])
    return Rendered(
        renderer=renderer,
        provider=asked.provider,
        model=asked.model,
        body=body,
        segments=segments,
        prefixes=prefix_hashes([each.hash for each in segments], root=root),
        # The order of keys is sent too: no canonical JSON here.
        digest=rendered_hash(renderer, compact_json(body).encode("utf-8")),
    )
