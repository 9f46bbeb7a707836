"""What is forgotten when the caches grow old or large: planned purely, then done.

Source: spec 6 §Caches ("rotation by age and size"); DESIGN §Five habits (2: plan, then do).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from xprim_nb._hashing import Digest
from xprim_nb.prompts.caches.scaffolds import forget_scaffolds

__all__ = ["Entry", "Limits", "Rotation", "entries", "erase", "forget", "plan_rotation", "shrink"]

# A file is made smaller when a quarter of it is empty: SQLite writes all of it anew for that.
_EMPTY_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept.

    Attributes:
        max_bytes: Of packed answers and rendered prompts together; None for no limit.
        max_idle_s: What was not used for so long is forgotten; None for never.
    """

    max_bytes: int | None = 512 << 20
    max_idle_s: float | None = 180 * 86_400.0


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that is kept.

    Attributes:
        kind: `answer`, or `scaffold` for a rendered prompt.
        id: Its row.
        request: The hash of what was asked.
        provider: Who was asked.
        model: Which model.
        size_bytes: What it takes; a text that several share is counted in equal parts.
        created_at: In seconds since 1970.
        last_used_at: The same.
        uses: How often it was found.
    """

    kind: Literal["answer", "scaffold"]
    id: int
    request: Digest
    provider: str
    model: str
    size_bytes: int
    created_at: float
    last_used_at: float
    uses: int = 0


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a rotation forgets, and why.

    Attributes:
        idle: Not used for too long.
        surplus: Least recently used of what is too much.
        kept: How many stay.
        kept_bytes: What these take.
    """

    idle: tuple[Entry, ...] = ()
    surplus: tuple[Entry, ...] = ()
    kept: int = 0
    kept_bytes: int = 0

    @property
    def forgotten(self) -> tuple[Entry, ...]:
        """All that goes."""
        return self.idle + self.surplus

    @property
    def freed_bytes(self) -> int:
        """What goes takes so much."""
        return sum(entry.size_bytes for entry in self.forgotten)

    def __str__(self) -> str:
        return (
            f"{len(self.idle)} not used for too long and {len(self.surplus)} least recently used are forgotten "
            f"({self.freed_bytes} bytes); {self.kept} stay ({self.kept_bytes} bytes)."
        )


def plan_rotation(entries: Iterable[Entry], limits: Limits, now_s: float) -> Rotation:
    """What is forgotten: all that idled too long, then the least recently used until the rest fits.

    Of two that were last used at once, a rendered prompt goes before an answer: it can be made again for nothing.
    """
    ordered = sorted(entries, key=lambda entry: (entry.last_used_at, entry.kind == "answer", entry.id))
    idle: list[Entry] = []
    rest: list[Entry] = []
    for entry in ordered:
        too_old = limits.max_idle_s is not None and now_s - entry.last_used_at > limits.max_idle_s
        (idle if too_old else rest).append(entry)
    total, surplus = sum(entry.size_bytes for entry in rest), 0
    while limits.max_bytes is not None and total > limits.max_bytes:
        total -= rest[surplus].size_bytes
        surplus += 1
    return Rotation(tuple(idle), tuple(rest[:surplus]), len(rest) - surplus, total)


def entries(connection: sqlite3.Connection) -> list[Entry]:
    """Everything that a rotation may forget."""
    rows = connection.execute(
        """SELECT 'answer', a.id, a.request, provider, model, size_bytes, created_at,
            coalesce(last_used_at, created_at), coalesce(u.uses, 0)
        FROM answers a LEFT JOIN uses u ON u.request = a.request
        UNION ALL
        SELECT 'scaffold', s.id, s.request, provider, model, size_bytes + coalesce((
            SELECT sum(length(t.value) / (SELECT count(*) FROM text_uses WHERE text_id = t.id))
            FROM text_uses x JOIN texts t ON t.id = x.text_id WHERE x.scaffold_id = s.id), 0),
            created_at, coalesce(last_used_at, created_at), coalesce(u.uses, 0)
        FROM scaffolds s LEFT JOIN uses u ON u.request = s.request"""
    )
    return [Entry(kind, row, Digest(request.hex()), *rest) for kind, row, request, *rest in rows]


def forget(connection: sqlite3.Connection, rotation: Rotation) -> None:
    """Do what was planned, in the caller's transaction. An answer that was used or written anew since stays."""
    going = rotation.forgotten
    answers = [
        (entry.id, entry.created_at, bytes.fromhex(entry.request), entry.last_used_at)
        for entry in going
        if entry.kind == "answer"
    ]
    connection.executemany(
        """DELETE FROM answers WHERE id = ?1 AND created_at <= ?2 AND NOT EXISTS (
            SELECT 1 FROM uses WHERE request = ?3 AND last_used_at > ?4)""",
        answers,
    )
    forget_scaffolds(connection, [entry.id for entry in going if entry.kind == "scaffold"])
    connection.execute("DELETE FROM uses WHERE request NOT IN (SELECT request FROM answers)")


def erase(connection: sqlite3.Connection, request: Digest | None) -> int:
    """Erase all that is kept of a request, or all there is when None; how many rows went."""
    where, values = ("", ()) if request is None else ("WHERE request = ?", (bytes.fromhex(request),))
    found = connection.execute(f"SELECT id FROM scaffolds {where}", values).fetchall()
    forget_scaffolds(connection, [row for (row,) in found])
    tables = ("answers", "sent", "uses", "damaged")
    return len(found) + sum(
        connection.execute(f"DELETE FROM {each} {where}", values).rowcount for each in tables
    )


def shrink(connection: sqlite3.Connection) -> None:
    """Write the file anew, outside any transaction, if much of it is empty."""
    pages, free = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count")
    )
    if free > _EMPTY_SHARE * pages:
        connection.execute("VACUUM")
