"""Writes checkpoints and pending writes: what must be stored is worked out first, then one short transaction stores it.

A checkpoint is drafted against its parent: a channel whose version has not moved keeps its reference, and of one that
has, only the blobs that the parent lacks are stored. The transaction looks first whether the parent is still the one
that was drafted against; a thread holds all blobs of its checkpoints, so these need not be looked at one by one.

Source: spec 6 §Checkpoints; langgraph-checkpoint (`put`, `put_writes`, `WRITES_IDX_MAP`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .database import AbsentError, Database, Session, chunks, marks
from .encoding import Blob, Parts, Ref, encode, pack_channels, pack_ref, seal, unpack_channels, unseal
from .langgraph_parts import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    SerializerProtocol,
)
from .remembered import Kept, Place, Remembered

__all__ = ["have_thread", "store_checkpoint", "store_writes"]


# A thread's number, by its name: to ask for it first would be one more time of waiting for the database.
_THREAD = "(SELECT id FROM xprim_threads WHERE name = ?)"


@dataclass(frozen=True, slots=True)
class _Draft:
    """A checkpoint that is ready to be stored."""

    kept: Kept
    made: Parts
    sealed: list[tuple[bytes, int, bytes]]
    against: Kept | None


def store_checkpoint(
    database: Database,
    remembered: Remembered,
    serde: SerializerProtocol,
    place: Place,
    parent: str | None,
    checkpoint: Checkpoint,
    metadata: Mapping[str, Any],
    new_versions: ChannelVersions,
) -> None:
    """Keep a checkpoint under its place; one that is there already is replaced.

    Raises:
        StorageError: The disk refused.
        DatabaseUnavailableError: The database does not answer; storing it again writes nothing twice.
    """
    above = None if parent is None else Place(place.thread, place.namespace, parent)
    body = seal(Blob(*serde.dumps_typed({k: v for k, v in checkpoint.items() if k != "channel_values"})))
    about = seal(Blob(*serde.dumps_typed(dict(metadata))))
    run = metadata.get("run_id")
    known = _known(database, remembered, serde, above)
    draft = _draft(remembered, serde, checkpoint, new_versions, known)

    def work(session: Session) -> bool:
        if draft.against is not None and above is not None:
            found = session.rows(
                f"SELECT channels FROM xprim_checkpoints WHERE thread = {_THREAD} AND namespace = ? AND id = ?",
                above,
            )
            if not found or found[0][0] != draft.against.packed:
                return False
        else:
            have_thread(session, place.thread)
        _store(session, draft.sealed)
        _hold(session, place.thread, draft.sealed)
        session.run(
            "INSERT INTO xprim_checkpoints (thread, namespace, id, parent, run, channels, body, metadata)"
            f" VALUES ({_THREAD}, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (thread, namespace, id) DO UPDATE SET"
            " parent = excluded.parent, run = excluded.run, channels = excluded.channels, body = excluded.body,"
            " metadata = excluded.metadata",
            (
                place.thread,
                place.namespace,
                place.id,
                parent,
                None if run is None else str(run),
                draft.kept.packed,
                body,
                about,
            ),
        )
        return True

    if not database.write(work):
        # Somebody took the parent away meanwhile, or replaced it: everything is stored anew.
        draft = _draft(remembered, serde, checkpoint, new_versions, None)
        database.write(work)
    remembered.keep(draft.made)
    remembered.kept.keep({place: draft.kept})


def store_writes(
    database: Database,
    remembered: Remembered,
    serde: SerializerProtocol,
    place: Place,
    writes: Sequence[tuple[str, Any]],
    task: str,
    path: str,
) -> None:
    """Keep what a task has written. A repeated write is ignored, a repeated error, interrupt or resume replaces the old.

    Raises:
        StorageError: The disk refused.
        DatabaseUnavailableError: The database does not answer; storing them again writes nothing twice.
    """
    made = Parts()
    rows = [
        (
            *place,
            task,
            WRITES_IDX_MAP.get(channel, number),
            path,
            channel,
            pack_ref(encode(value, serde, made)),
        )
        for number, (channel, value) in enumerate(writes)
    ]
    sealed = _sealed(made.blobs)

    def work(session: Session) -> None:
        into = "xprim_writes (thread, namespace, checkpoint, task, position, path, channel, value)"
        row = f"({_THREAD}, ?, ?, ?, ?, ?, ?, ?)"
        _store(session, sealed)
        session.insert(into, row, [each for each in rows if each[4] >= 0])
        _hold(session, place.thread, sealed)
        special = [each for each in rows if each[4] < 0]
        if special:
            session.run_many(
                f"INSERT INTO {into} VALUES {row} ON CONFLICT (thread, namespace, checkpoint, task, position)"
                " DO UPDATE SET path = excluded.path, value = excluded.value",
                special,
            )

    def anew(session: Session) -> None:
        have_thread(session, place.thread)
        work(session)

    try:
        database.write(work)
    except AbsentError:
        # Nothing of this thread is there: writes come before their checkpoint, or somebody took it away.
        database.write(anew)
    remembered.blobs.keep(made.blobs)


def have_thread(session: Session, name: str) -> None:
    """Give the thread a number if it has none; nobody waits for it."""
    session.run(
        "INSERT INTO xprim_threads (name) SELECT ? WHERE NOT EXISTS (SELECT 1 FROM xprim_threads WHERE name = ?)"
        " ON CONFLICT DO NOTHING",
        (name, name),
    )


def _known(
    database: Database, remembered: Remembered, serde: SerializerProtocol, place: Place | None
) -> Kept | None:
    """What is known of a parent; None where it is not in the database."""
    if place is None:
        return None
    known = remembered.kept.get(place)
    if known is not None:
        return known
    found = database.read(
        lambda session: session.rows(
            "SELECT c.channels, c.body FROM xprim_checkpoints c JOIN xprim_threads t ON t.id = c.thread"
            " WHERE t.name = ? AND c.namespace = ? AND c.id = ?",
            place,
        )
    )
    if not found:
        return None
    [(packed, body)] = found
    return Kept(packed, unpack_channels(packed), serde.loads_typed(unseal(body))["channel_versions"])


def _draft(
    remembered: Remembered,
    serde: SerializerProtocol,
    checkpoint: Checkpoint,
    new_versions: ChannelVersions,
    known: Kept | None,
) -> _Draft:
    refs: dict[str, Ref] = {}
    made = Parts()
    versions = checkpoint["channel_versions"]
    for channel, value in checkpoint["channel_values"].items():
        if known is not None and _is_unchanged(channel, versions, new_versions, known):
            refs[channel] = known.refs[channel]
            continue
        old = None if known is None else known.refs.get(channel)
        earlier = remembered.images.get(old) if isinstance(old, bytes) else None
        fresh = Parts()
        refs[channel] = encode(value, serde, fresh, earlier)
        # The parent has these, and so its thread holds them: whatever a list became of the one it was.
        held = {old} if earlier is None else earlier.digests()
        made.blobs.update({digest: blob for digest, blob in fresh.blobs.items() if digest not in held})
        made.images.update(fresh.images)
    return _Draft(Kept(pack_channels(refs), refs, versions.copy()), made, _sealed(made.blobs), known)


def _is_unchanged(channel: str, versions: ChannelVersions, new: ChannelVersions, known: Kept) -> bool:
    version = versions.get(channel)
    return (
        version is not None
        and channel not in new
        and channel in known.refs
        and known.versions.get(channel) == version
    )


def _sealed(blobs: Mapping[bytes, Blob]) -> list[tuple[bytes, int, bytes]]:
    """The rows of these blobs."""
    # In one order for everybody: two transactions that insert the same blobs would wait for each other otherwise.
    return [(digest, int(blobs[digest].is_node), seal(blobs[digest])) for digest in sorted(blobs)]


def _store(session: Session, sealed: Sequence[tuple[bytes, int, bytes]]) -> None:
    """Store what is not there yet."""
    session.insert("xprim_blobs (digest, is_node, sealed)", "(?, ?, ?)", sealed)


def _hold(session: Session, thread: str, sealed: Sequence[tuple[bytes, int, bytes]]) -> None:
    """Have the thread hold all of these, which are stored."""
    for some in chunks([digest for digest, _, _ in sealed]):
        session.run(
            f"INSERT INTO xprim_held (thread, blob) SELECT {_THREAD}, id FROM xprim_blobs"
            f" WHERE digest IN ({marks(len(some))}) ORDER BY digest ON CONFLICT DO NOTHING",
            (thread, *some),
        )
