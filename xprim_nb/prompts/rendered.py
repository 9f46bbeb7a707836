"""A prompt as one provider gets it: the body of the request, and the parts of it in the order that a cache sees them.

Source: spec 6 §Resolve; research/prompts §5 (order of the parts), §6 (4: providers cache rendered bytes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from xprim_nb._hashing import Digest

__all__ = ["Named", "Rendered", "Segment", "SegmentKind"]

SegmentKind: TypeAlias = Literal["tools", "schema", "block", "message", "turn"]


class Named(Protocol):
    """A part of what is sent, as far as providers tell parts apart."""

    @property
    def kind(self) -> SegmentKind:
        """What it is."""
        ...

    @property
    def label(self) -> str:
        """What people call it; of a message, who says it."""
        ...


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of what is sent that changes as a whole.

    Attributes:
        kind: What it is.
        label: What people call it: a block's name or type, a message's role.
        text: As it is sent, and so as it is counted and compared.
        hash: Of its content (`block_hash`, `tools_hash` …); equal hashes are equal texts under one renderer.
        volatility: 0 for never, 100 for each time.
        breakpoint: Whether the provider is told to keep everything up to its end.
        path: Where it lies in the body: `("system", 2)`.
    """

    kind: SegmentKind
    label: str
    text: str
    hash: Digest
    volatility: int
    breakpoint: bool = False
    path: tuple[str | int, ...] = ()


@dataclass(frozen=True, slots=True)
class Rendered:
    """What is sent.

    Attributes:
        renderer: Name and version of what made it: `anthropic/1`.
        provider: Whom it is for.
        model: As the provider calls it.
        body: The request, as JSON.
        segments: Its parts in the order in which the provider's cache sees them.
        prefixes: For each segment, the hash of everything up to and including it.
        digest: Of the bytes (`rendered_hash`).
    """

    renderer: str
    provider: str
    model: str
    body: Mapping[str, Any]
    segments: tuple[Segment, ...]
    prefixes: tuple[Digest, ...]
    digest: Digest

    @property
    def text(self) -> str:
        """All of it in one piece, as people read it."""
        return "\n\n".join(segment.text for segment in self.segments)
