"""Takes checkpoints away, and with them every blob that no thread holds any more; copies threads.

Whoever takes away works alone: a writer that counts on a blob being there either comes before, and holds it, or after,
and stores it again. What a thread holds is worked out anew from what is left of it, so that nothing is ever counted.

Source: spec 6 §Checkpoints; langgraph-checkpoint (`delete_thread`, `delete_for_runs`, `copy_thread`, `prune`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from .database import Database, Session, chunks, marks
from .encoding import children, digests_of, unpack_channels, unpack_ref, unseal
from .keeping import Mark, plan_prune
from .langgraph_parts import INTERRUPT, SerializerProtocol
from .storing import have_thread

__all__ = ["copy_thread", "delete_runs", "delete_thread", "prune_thread"]


def delete_thread(database: Database, name: str) -> None:
    """Take a thread away, with all that only it holds."""

    def work(session: Session) -> None:
        number = _number(session, name)
        if number is not None:
            for table in ("writes", "checkpoints"):
                session.run(f"DELETE FROM xprim_{table} WHERE thread = ?", (number,))
            _sweep(session, number)

    database.write(work, alone=True)


def delete_runs(database: Database, runs: Sequence[str]) -> None:
    """Take away the checkpoints of these runs, their writes, and what only they needed."""

    def work(session: Session) -> None:
        gone: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for some in chunks(runs):
            for thread, namespace, id_ in session.rows(
                f"SELECT thread, namespace, id FROM xprim_checkpoints WHERE run IN ({marks(len(some))})", some
            ):
                gone[thread][namespace].append(id_)
        for thread, by_namespace in gone.items():
            for namespace, ids in by_namespace.items():
                _delete_checkpoints(session, thread, namespace, ids)
            _sweep(session, thread)

    if runs:
        database.write(work, alone=True)


def prune_thread(database: Database, serde: SerializerProtocol, name: str) -> None:
    """Take away all of a thread but what `plan_prune` keeps."""

    def work(session: Session) -> None:
        number = _number(session, name)
        if number is None:
            return
        seen = _survey(session, serde, number)
        kept = plan_prune(seen)
        gone: dict[str, list[str]] = defaultdict(list)
        for mark in seen:
            if (mark.namespace, mark.id) not in kept:
                gone[mark.namespace].append(mark.id)
            elif mark.parent is not None and (mark.namespace, mark.parent) not in kept:
                session.run(
                    "UPDATE xprim_checkpoints SET parent = NULL WHERE thread = ? AND namespace = ? AND id = ?",
                    (number, mark.namespace, mark.id),
                )
        for namespace, ids in gone.items():
            _delete_checkpoints(session, number, namespace, ids)
        # Also where every checkpoint stays: a write that was replaced has left what it was.
        _sweep(session, number)

    database.write(work, alone=True)


def copy_thread(database: Database, source: str, target: str) -> None:
    """Give the target all checkpoints and writes of the source. Blobs are shared; what the target has already stays."""

    def work(session: Session) -> None:
        number = _number(session, source)
        if number is None or source == target:
            return
        have_thread(session, target)
        to = _number(session, target)
        # What is held comes last: it covers whatever a run has added to the source meanwhile.
        for table, columns in (
            ("checkpoints", "namespace, id, parent, run, channels, body, metadata"),
            ("writes", "namespace, checkpoint, task, position, path, channel, value"),
            ("held", "blob"),
        ):
            session.run(
                f"INSERT INTO xprim_{table} (thread, {columns}) SELECT ?, {columns} FROM xprim_{table}"
                " WHERE thread = ? ON CONFLICT DO NOTHING",
                (to, number),
            )

    database.write(work)


def _number(session: Session, name: str) -> int | None:
    found = session.rows("SELECT id FROM xprim_threads WHERE name = ?", (name,))
    return int(found[0][0]) if found else None


def _delete_checkpoints(session: Session, thread: int, namespace: str, ids: Sequence[str]) -> None:
    for some in chunks(ids):
        for table, column in (("writes", "checkpoint"), ("checkpoints", "id")):
            session.run(
                f"DELETE FROM xprim_{table} WHERE thread = ? AND namespace = ? AND {column} IN ({marks(len(some))})",
                (thread, namespace, *some),
            )


def _survey(session: Session, serde: SerializerProtocol, thread: int) -> list[Mark]:
    waiting = set(
        session.rows(
            "SELECT namespace, checkpoint FROM xprim_writes WHERE thread = ? AND channel = ?",
            (thread, INTERRUPT),
        )
    )
    seen = []
    for namespace, id_, parent, channels, body, about in session.rows(
        "SELECT namespace, id, parent, channels, body, metadata FROM xprim_checkpoints WHERE thread = ?",
        (thread,),
    ):
        metadata: dict[str, Any] = serde.loads_typed(unseal(about))
        seen.append(
            Mark(
                namespace,
                id_,
                parent,
                values=unpack_channels(channels).keys(),
                versions=serde.loads_typed(unseal(body))["channel_versions"].keys(),
                deltas=(metadata.get("counters_since_delta_snapshot") or {}).keys(),
                root=(metadata.get("parents") or {}).get(""),
                is_waiting=(namespace, id_) in waiting,
            )
        )
    return seen


def _sweep(session: Session, thread: int) -> None:
    """Have a thread let go of what it does not need, and take away what nobody holds then."""
    needed = _needed(session, thread)
    gone = [
        number
        for number, digest in session.rows(
            "SELECT b.id, b.digest FROM xprim_held h JOIN xprim_blobs b ON b.id = h.blob WHERE h.thread = ?",
            (thread,),
        )
        if digest not in needed
    ]
    for some in chunks(gone):
        named = marks(len(some))
        session.run(f"DELETE FROM xprim_held WHERE thread = ? AND blob IN ({named})", (thread, *some))
        session.run(
            f"DELETE FROM xprim_blobs WHERE id IN ({named})"
            " AND NOT EXISTS (SELECT 1 FROM xprim_held h WHERE h.blob = xprim_blobs.id)",
            some,
        )
    session.run(
        "DELETE FROM xprim_threads WHERE id = ?"
        " AND NOT EXISTS (SELECT 1 FROM xprim_checkpoints c WHERE c.thread = xprim_threads.id)"
        " AND NOT EXISTS (SELECT 1 FROM xprim_writes w WHERE w.thread = xprim_threads.id)",
        (thread,),
    )


def _needed(session: Session, thread: int) -> set[bytes]:
    """Every blob that the thread's checkpoints and writes need."""
    wanted: set[bytes] = set()
    for (channels,) in session.rows("SELECT channels FROM xprim_checkpoints WHERE thread = ?", (thread,)):
        wanted.update(digests_of(unpack_channels(channels).values()))
    for (value,) in session.rows("SELECT value FROM xprim_writes WHERE thread = ?", (thread,)):
        wanted.update(digests_of([unpack_ref(value)]))
    if not wanted:
        return wanted
    below = {
        digest: children(unseal(sealed))
        for digest, sealed in session.rows(
            "SELECT b.digest, b.sealed FROM xprim_held h JOIN xprim_blobs b ON b.id = h.blob"
            " WHERE h.thread = ? AND b.is_node = 1",
            (thread,),
        )
    }
    needed: set[bytes] = set()
    while wanted:
        needed |= wanted
        wanted = {each for digest in wanted for each in below.get(digest, ())} - needed
    return needed
