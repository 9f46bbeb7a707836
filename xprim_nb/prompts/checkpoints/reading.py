"""Reads checkpoints, lists them, and walks back along their parents.

Rows, writes and blobs of an answer come from one snapshot of the database; values are made of them afterwards, so that
nothing is kept waiting.

Source: spec 6 §Checkpoints; langgraph-checkpoint (`get_tuple`, `list`, `get_delta_channel_history`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from xprim_nb.errors import ConfigError, StorageError

from .copying import Models
from .database import Database, Row, Session, Value, chunks, marks
from .encoding import Blob, Parts, Ref, decode, resolve, unpack_channels, unpack_ref, unseal
from .langgraph_parts import (
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    PendingWrite,
    RunnableConfig,
    SerializerProtocol,
)
from .remembered import Remembered

__all__ = ["Query", "Reader", "config_of", "read_blobs"]

# What may stand in a filter, as LangGraph's savers have it since CVE-2025-67644. Ours puts no key into SQL at all.
_FILTER_KEY = re.compile(r"[A-Za-z0-9_.-]+\Z")
# A reader of one checkpoint pays for one; whoever reads on gets them by the dozen.
_FIRST_PAGE, _LARGEST_PAGE = 2, 64
_CHAIN_PAGE = 64
# So much is handed on at once, serialised: for less, handing it to an event loop would take longer than making it.
_BATCH_BYTES = 1 << 20

_COLUMNS = "t.name, c.thread, c.namespace, c.id, c.parent, c.channels, c.body, c.metadata"
_FROM = "FROM xprim_checkpoints c JOIN xprim_threads t ON t.id = c.thread"
_CHAIN = """
WITH RECURSIVE up (id, parent, channels, depth) AS (
    SELECT id, parent, channels, 0 FROM xprim_checkpoints WHERE thread = ? AND namespace = ? AND id = ?
    UNION ALL
    SELECT c.id, c.parent, c.channels, up.depth + 1
    FROM up JOIN xprim_checkpoints c ON c.thread = ? AND c.namespace = ? AND c.id = up.parent
    WHERE up.depth < ?
)
SELECT id, parent, channels FROM up ORDER BY depth
"""


@dataclass(frozen=True, slots=True)
class Query:
    """Which checkpoints are asked for, newest first.

    Args:
        thread: Its name; None for all threads.
        namespace: None for all of them.
        id: None for all of them.
        before: Only those with a smaller id.
        filter: What their metadata must have, key by key.
        limit: At most so many.
    """

    thread: str | None = None
    namespace: str | None = None
    id: str | None = None
    before: str | None = None
    filter: Mapping[str, Any] | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        for key in self.filter or ():
            if not _FILTER_KEY.match(str(key)):
                raise ConfigError(
                    f"{key!r:.100} is no key to filter checkpoints by.",
                    subject=f"{key!r:.100}",
                    hint="A key has letters, digits, dots, hyphens and underscores.",
                )
        if self.limit is not None and self.limit < 0:
            raise ConfigError(f"A limit of {self.limit} checkpoints cannot be kept.", subject="limit")

    def asks_for(self, metadata: Mapping[str, Any]) -> bool:
        """True when the metadata has all that is asked for."""
        return all(key in metadata and metadata[key] == value for key, value in (self.filter or {}).items())


class _Found(NamedTuple):
    """One checkpoint as it came from the database."""

    thread: str
    namespace: str
    id: str
    parent: str | None
    refs: Mapping[str, Ref]
    body: bytes
    metadata: Mapping[str, Any]
    writes: list[tuple[str, str, Ref]]


class _Chains(NamedTuple):
    """Where the history of channels is: each one's value furthest back, and the ancestors down to it, nearest first."""

    seeds: dict[str, Ref]
    places: dict[str, list[str]]


class Reader:
    """Reads with one serialiser."""

    def __init__(self, database: Database, remembered: Remembered, serde: SerializerProtocol) -> None:
        self._database, self._remembered, self._serde = database, remembered, serde

    def one(self, query: Query) -> CheckpointTuple | None:
        """The newest that is asked for."""
        found, parts, _ = self._page(query, None, 1)
        if not found:
            return None
        newest = self._tuple(found[0], parts, self._remembered.models(self._serde))
        # The newest of a thread is likely to be asked for again, and to be what the next one grows from.
        self._remembered.images.keep(parts.fresh_images())
        return newest

    def pages(self, query: Query) -> Iterator[list[CheckpointTuple]]:
        """All that are asked for, a few at a time; nothing in the database waits between two of them."""
        left, size, after = query.limit, _FIRST_PAGE, None
        while left is None or left > 0:
            wanted = size if left is None or query.filter else min(size, left)
            found, parts, after = self._page(query, after, wanted)
            if left is not None:
                found = found[:left]
                left -= len(found)
            yield from self._batches(found, parts)
            if after is None:
                return
            size = min(size * 4, _LARGEST_PAGE)

    def delta_history(
        self, thread: str, namespace: str, start: str, channels: Sequence[str]
    ) -> dict[str, DeltaChannelHistory]:
        """For each channel, the writes of the ancestors back to the nearest that has its value, and that value."""

        def work(session: Session) -> tuple[_Chains, list[Row], Parts]:
            found = session.rows("SELECT id FROM xprim_threads WHERE name = ?", (thread,))
            if not found:
                return _Chains({}, {channel: [] for channel in channels}), [], Parts()
            number = int(found[0][0])
            chains = _chains(session, number, namespace, start, channels)
            places = {(number, namespace, each) for chain in chains.places.values() for each in chain}
            rows = _writes(session, sorted(places), channels)
            wanted = [*chains.seeds.values(), *(unpack_ref(row[5]) for row in rows)]
            return chains, rows, self._resolve(session, wanted)

        chains, rows, parts = self._database.read(work)
        by_place: dict[tuple[str, str], list[PendingWrite]] = defaultdict(list)
        for _, _, ancestor, task, channel, value in rows:
            by_place[channel, ancestor].append((task, channel, decode(unpack_ref(value), parts, self._serde)))
        history: dict[str, DeltaChannelHistory] = {}
        for channel in channels:
            writes = [
                each for ancestor in reversed(chains.places[channel]) for each in by_place[channel, ancestor]
            ]
            history[channel] = {"writes": writes}
            if channel in chains.seeds:
                history[channel]["seed"] = decode(chains.seeds[channel], parts, self._serde)
        return history

    def _page(
        self, query: Query, after: tuple[str, int, str] | None, size: int
    ) -> tuple[list[_Found], Parts, tuple[str, int, str] | None]:
        """The next rows, what their values are made of, and the last row when there may be more."""
        condition, parameters = _condition(query, after)

        def work(session: Session) -> tuple[list[_Found], Parts, tuple[str, int, str] | None]:
            rows = session.rows(
                f"SELECT {_COLUMNS} {_FROM} {condition} ORDER BY c.id DESC, c.thread DESC, c.namespace DESC LIMIT ?",
                (*parameters, size),
            )
            last = (rows[-1][3], rows[-1][1], rows[-1][2]) if len(rows) == size else None
            chosen = []
            for row in rows:
                metadata = self._serde.loads_typed(unseal(row[7]))
                if query.asks_for(metadata):
                    chosen.append((row, metadata))
            writes: dict[Row, list[tuple[str, str, Ref]]] = defaultdict(list)
            for number, namespace, id_, task, channel, value in _writes(
                session, [(row[1], row[2], row[3]) for row, _ in chosen]
            ):
                writes[number, namespace, id_].append((task, channel, unpack_ref(value)))
            found = [
                _Found(
                    row[0], row[2], row[3], row[4], unpack_channels(row[5]), row[6], about, writes[row[1:4]]
                )
                for row, about in chosen
            ]
            refs = [
                ref for each in found for ref in (*each.refs.values(), *(write[2] for write in each.writes))
            ]
            return found, self._resolve(session, refs), last

        return self._database.read(work)

    def _batches(self, found: Sequence[_Found], parts: Parts) -> Iterator[list[CheckpointTuple]]:
        """Made as they are wanted: what is read in one go would be many times as large as values."""
        models = Models()  # of one page: a long thread would drive out what the next `one` asks for
        batch: list[CheckpointTuple] = []
        weight = 0
        for each in found:
            batch.append(self._tuple(each, parts, models))
            weight += sum(parts.size_of(ref) for ref in each.refs.values())
            if weight >= _BATCH_BYTES:
                yield batch
                batch, weight = [], 0
        if batch:
            yield batch

    def _tuple(self, found: _Found, parts: Parts, models: Models) -> CheckpointTuple:
        checkpoint = self._serde.loads_typed(unseal(found.body))
        checkpoint["channel_values"] = {
            channel: decode(ref, parts, self._serde, models) for channel, ref in found.refs.items()
        }
        return CheckpointTuple(
            config=config_of(found.thread, found.namespace, found.id),
            checkpoint=cast("Checkpoint", checkpoint),
            metadata=cast("CheckpointMetadata", found.metadata),
            parent_config=None
            if found.parent is None
            else config_of(found.thread, found.namespace, found.parent),
            pending_writes=[
                (task, channel, decode(ref, parts, self._serde, models))
                for task, channel, ref in found.writes
            ],
        )

    def _resolve(self, session: Session, refs: Sequence[Ref]) -> Parts:
        images = self._remembered.images.find([ref for ref in refs if isinstance(ref, bytes)])
        return resolve(refs, lambda digests: self._fetch(session, digests), images)

    def _fetch(self, session: Session, digests: Sequence[bytes]) -> dict[bytes, Blob]:
        found = self._remembered.blobs.find(digests)
        absent = [digest for digest in digests if digest not in found]
        if not absent:
            return found
        read = read_blobs(session, absent)
        self._remembered.blobs.keep(read)
        return {**found, **read}


def read_blobs(session: Session, digests: Sequence[bytes]) -> dict[bytes, Blob]:
    """These blobs from the database, each compared with its name.

    Raises:
        StorageError: One is absent, or is not what its name says.
    """
    read: dict[bytes, Blob] = {}
    for some in chunks(digests):
        for digest, sealed in session.rows(
            f"SELECT digest, sealed FROM xprim_blobs WHERE digest IN ({marks(len(some))})", some
        ):
            read[digest] = unseal(sealed)
    for digest in digests:
        if digest not in read or read[digest].digest != digest:
            raise StorageError(
                f"The stored value {digest.hex()} is {'damaged' if digest in read else 'missing'}.",
                subject=digest.hex(),
                hint="Restore the database from a backup; checkpoints without this value can still be read.",
            )
    return read


def config_of(thread: str, namespace: str, checkpoint_id: str) -> RunnableConfig:
    """What addresses a checkpoint."""
    return {"configurable": {"thread_id": thread, "checkpoint_ns": namespace, "checkpoint_id": checkpoint_id}}


def _condition(query: Query, after: tuple[str, int, str] | None) -> tuple[str, list[Value]]:
    parts: list[str] = []
    parameters: list[Value] = []
    for text, value in (
        ("t.name = ?", query.thread),
        ("c.namespace = ?", query.namespace),
        ("c.id = ?", query.id),
        ("c.id < ?", query.before),
    ):
        if value is not None:
            parts.append(text)
            parameters.append(value)
    if after is not None:
        parts.append("(c.id, c.thread, c.namespace) < (?, ?, ?)")
        parameters.extend(after)
    return ("WHERE " + " AND ".join(parts) if parts else ""), parameters


def _writes(
    session: Session, places: Sequence[tuple[int, str, str]], channels: Sequence[str] = ()
) -> list[Row]:
    """Thread, namespace, checkpoint, task, channel and value of pending writes, in the order that they are applied in."""
    by_namespace: dict[tuple[int, str], list[str]] = defaultdict(list)
    for thread, namespace, checkpoint in places:
        by_namespace[thread, namespace].append(checkpoint)
    narrow = f" AND channel IN ({marks(len(channels))})" if channels else ""
    return [
        row
        for (thread, namespace), ids in by_namespace.items()
        for some in chunks(ids)
        for row in session.rows(
            "SELECT thread, namespace, checkpoint, task, channel, value FROM xprim_writes"
            f" WHERE thread = ? AND namespace = ? AND checkpoint IN ({marks(len(some))}){narrow}"
            " ORDER BY path, task, position",
            (thread, namespace, *some, *channels),
        )
    ]


def _chains(session: Session, thread: int, namespace: str, start: str, channels: Sequence[str]) -> _Chains:
    chains = _Chains({}, {channel: [] for channel in channels})
    missing, seen = set(channels), set[str]()
    for ancestor, refs in _ancestors(session, thread, namespace, start):
        # A checkpoint that was stored anew under a descendant of its own would lead in a circle.
        if not missing or ancestor in seen:
            break
        seen.add(ancestor)
        for channel in sorted(missing):
            chains.places[channel].append(ancestor)
            if channel in refs:
                chains.seeds[channel] = refs[channel]
        missing -= refs.keys()
    return chains


def _ancestors(
    session: Session, thread: int, namespace: str, start: str
) -> Iterator[tuple[str, dict[str, Ref]]]:
    """The ancestors of a checkpoint, nearest first, without itself."""
    cursor: str | None = start
    is_start = True
    while cursor is not None:
        rows = session.rows(_CHAIN, (thread, namespace, cursor, thread, namespace, _CHAIN_PAGE))
        for id_, _, channels in rows[1:] if is_start else rows:
            yield id_, unpack_channels(channels)
        cursor = rows[-1][1] if len(rows) > _CHAIN_PAGE else None
        is_start = False
