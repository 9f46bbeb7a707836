"""The record of prefixes: what was sent to each model and when, and what its provider said of its cache.

It holds hashes and counts, no text. Predictions of what a provider has in its cache, and counterfactuals ("moving this
block would have saved …"), are made from it.

Source: spec 6 §Caches, §Telemetry; research/prompts §6 (7, 21).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from xprim_nb._hashing import Digest
from xprim_nb.prompts.answers import Finish, Usage
from xprim_nb.prompts.caches.codec import DamagedValueError, pack, unpack
from xprim_nb.prompts.caches.schema import ROW_VERSION
from xprim_nb.prompts.prefix import Mark, Sent
from xprim_nb.prompts.rendered import SegmentKind
from xprim_nb.prompts.values import Ttl

__all__ = ["MOST_PER_MODEL", "Call", "CallPart", "calls_before", "keep_call", "last_finish"]

MOST_PER_MODEL = 500
"""Records kept of each provider's model: ten times the 50 calls that recommendations look at."""


@dataclass(frozen=True, slots=True)
class CallPart:
    """A part of what was sent.

    Attributes:
        kind: What it is.
        label: What people call it.
        hash: Of its content.
        prefix: Of everything up to and including it.
        tokens: Its tokens, as counted here; 0 when nobody counted.
        volatility: 0 for never, 100 for each time.
        breakpoint: Whether the provider was told to keep everything up to its end.
    """

    kind: SegmentKind
    label: str
    hash: Digest
    prefix: Digest
    tokens: int = 0
    volatility: int = 0
    breakpoint: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a provider.

    Attributes:
        request: The hash of what was asked.
        provider: Whom.
        model: As the provider calls it.
        at: When it was sent, in seconds since 1970.
        renderer: Name and version of what rendered it.
        parts: In the order in which they were sent.
        ttl: How long the provider was asked to keep the prefix.
        scope: What keeps its prefixes apart from others'; empty where nobody knows the provider's cache.
        marks: Where the provider keeps its prefixes.
        looked: The parts at whose ends the provider looked for one.
        finish: How the answer ended.
        predicted_read_tokens: What should have been read from the provider's cache; None when nobody predicted.
        predicted_write_tokens: What should have been written to it.
        usage: What the provider reported; None when it reported nothing.
        latency_s: From asking to the last token.
        first_token_s: From asking to the first.
        cost: In US dollars, exact; empty when it is not known.
        cost_kind: `estimated` or `billed`; empty when it is not known.
        scaffold_type: What kind of prompt it was.
        checkpoint: The checkpoint that it belongs to; empty for none.
    """

    request: Digest
    provider: str
    model: str
    at: float
    renderer: str
    parts: tuple[CallPart, ...]
    ttl: Ttl = "5m"
    scope: tuple[str, ...] = ()
    marks: tuple[Mark, ...] = ()
    looked: tuple[int, ...] = ()
    finish: Finish = "stop"
    predicted_read_tokens: int | None = None
    predicted_write_tokens: int | None = None
    usage: Usage | None = None
    latency_s: float = 0.0
    first_token_s: float = 0.0
    cost: str = ""
    cost_kind: str = ""
    scaffold_type: str = ""
    checkpoint: str = ""

    def as_sent(self, texts: tuple[str, ...] = ()) -> Sent:
        """The call as a provider's cache remembers it; with the texts of its parts, where they are still known."""
        return Sent(
            at_s=self.at,
            scope=self.scope,
            prefixes=self.prefixes,
            hashes=tuple(part.hash for part in self.parts),
            tokens=tuple(part.tokens for part in self.parts),
            marks=self.marks,
            looked=self.looked,
            texts=texts,
            labels=tuple(part.label for part in self.parts),
        )

    @property
    def prefixes(self) -> tuple[Digest, ...]:
        """The chained hash of each part."""
        return tuple(part.prefix for part in self.parts)


def keep_call(connection: sqlite3.Connection, sent: Call, most: int = MOST_PER_MODEL) -> None:
    """Enter a call, and forget those of the same model that are no longer among the last `most`."""
    connection.execute(
        "INSERT INTO sent (request, version, provider, model, at, finish, value) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            *(bytes.fromhex(sent.request), ROW_VERSION, sent.provider, sent.model, sent.at, sent.finish),
            pack(asdict(sent)),
        ),
    )
    connection.execute(
        """DELETE FROM sent WHERE provider = ?1 AND model = ?2 AND id <= (
            SELECT id FROM sent WHERE provider = ?1 AND model = ?2 ORDER BY id DESC LIMIT 1 OFFSET ?3)""",
        (sent.provider, sent.model, most),
    )


def calls_before(
    connection: sqlite3.Connection, provider: str = "", model: str = "", last: int = MOST_PER_MODEL
) -> tuple[Call, ...]:
    """The last calls of a model, the earliest first; of all models when none is named. Unreadable rows are left out."""
    where = " AND ".join(f"{name} = ?" for name, value in (("provider", provider), ("model", model)) if value)
    rows = connection.execute(
        f"SELECT version, value FROM sent {'WHERE ' + where if where else ''} ORDER BY id DESC LIMIT ?",
        (*(value for value in (provider, model) if value), last),
    ).fetchall()
    return tuple(found for version, value in reversed(rows) if (found := _read(version, value)) is not None)


def last_finish(connection: sqlite3.Connection, request: Digest) -> str:
    """How the last answer to a request ended; empty when it was not sent, or so long ago that it is forgotten."""
    row: Sequence[str] | None = connection.execute(
        "SELECT finish FROM sent WHERE request = ? ORDER BY id DESC LIMIT 1", (bytes.fromhex(request),)
    ).fetchone()
    return row[0] if row else ""


def _read(version: int, packed: bytes) -> Call | None:
    if version != ROW_VERSION:
        return None
    try:
        value: dict[str, Any] = unpack(packed)
        value["parts"] = tuple(CallPart(**part) for part in value["parts"])
        value["marks"] = tuple(Mark(**mark) for mark in value["marks"])
        value["scope"], value["looked"] = tuple(value["scope"]), tuple(value["looked"])
        value["usage"] = None if value["usage"] is None else Usage(**value["usage"])
        return Call(**value)
    except (DamagedValueError, KeyError, TypeError):
        return None
