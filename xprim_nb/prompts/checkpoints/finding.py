"""Finds saved checkpoints, by what a caller calls them, and reads them: each answer from one session.

Source: spec 6 §Checkpoints; seeds/001 (CheckpointStore, GraphNodeStore).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xprim_nb.errors import CheckpointNotFoundError, ConfigError

from .database import Row, Session, Value, chunks, marks
from .langgraph_parts import SerializerProtocol
from .naming import read_word
from .payloads import Payload, PayloadDraft, read_payloads
from .saved import Checkpoint, GraphNode, TreeNode

__all__ = [
    "Found",
    "find_id",
    "history",
    "is_ancestor",
    "parts_of",
    "read_checkpoint",
    "read_node",
    "tip_of",
    "tree",
]

_COLUMNS = "id, scaffold, name, label, parent, payload, at"
# "g" comes after every digit of an id.
_PAST_DIGITS = "g"
# `UNION` ends also where somebody made a circle by hand.
_ASCENT = """
WITH RECURSIVE up (id, parent) AS (
    SELECT id, parent FROM xprim_saved WHERE id = ?
    UNION
    SELECT s.id, s.parent FROM up JOIN xprim_saved s ON s.id = up.parent
)
"""


@dataclass(frozen=True, slots=True)
class Found:
    """A checkpoint as it lies in the database; `checkpoint` makes it readable, outside of any transaction."""

    row: Row
    nodes: Sequence[Row]
    branches: tuple[str, ...]
    payloads: Mapping[str, Payload]

    def checkpoint(self, serde: SerializerProtocol) -> Checkpoint:
        """The checkpoint, with objects of its own."""
        id_, scaffold, name, label, parent, payload, at = self.row
        parts, is_erased = parts_of(payload, self.payloads, serde)
        return Checkpoint(
            id=id_,
            scaffold=scaffold,
            name=name,
            label=label,
            parent=parent,
            state=parts.get("state", {}),
            metadata=parts.get("metadata", {}),
            nodes=tuple(_node(row, self.payloads, serde) for row in self.nodes),
            branches=self.branches,
            payload=payload,
            is_erased=is_erased,
            at=at,
        )


def parts_of(
    digest: str, payloads: Mapping[str, Payload], serde: SerializerProtocol
) -> tuple[dict[str, Any], bool]:
    """A payload's parts, and whether it was erased and has none."""
    payload = payloads.get(digest)
    return ({}, True) if payload is None else (payload.parts(serde), False)


def find_id(session: Session, word: str, scaffold: str | None = None) -> tuple[str, str]:
    """Id and scaffold of the checkpoint that an id, the beginning of one, or a branch addresses.

    Raises:
        CheckpointNotFoundError: There is none.
        ConfigError: There are several.
    """
    digits, branch = read_word(word)
    if digits:
        sql, parameters = (
            "SELECT id, scaffold FROM xprim_saved WHERE id >= ? AND id < ?",
            [digits, digits + _PAST_DIGITS],
        )
    else:
        sql, parameters = "SELECT checkpoint, scaffold FROM xprim_branches WHERE name = ?", [branch]
    if scaffold is not None:
        sql, parameters = f"{sql} AND scaffold = ?", [*parameters, scaffold]
    found = session.rows(f"{sql} ORDER BY scaffold, 1 LIMIT 4", parameters)
    if not found:
        what = f"No checkpoint's id begins with {digits}" if digits else f"No branch is called {branch!r}"
        raise CheckpointNotFoundError(
            f"{what}{f' in scaffold {scaffold}' if scaffold else ''}.", subject=word
        )
    if len(found) > 1:
        several = ", ".join(each[0 if digits else 1][:16] for each in found[:3])
        raise ConfigError(
            f"{word!r} names several checkpoints: {several}{' …' if len(found) > 3 else ''}.",
            subject=word,
            hint="Give more digits of the id." if digits else "Say whose branch it is: pass the scaffold.",
        )
    return found[0][0], found[0][1]


def tip_of(session: Session, scaffold: str, name: str) -> str | None:
    """The id that a branch ends in; None where there is no such branch."""
    found = session.rows(
        "SELECT checkpoint FROM xprim_branches WHERE scaffold = ? AND name = ?", (scaffold, name)
    )
    return found[0][0] if found else None


def is_ancestor(session: Session, id_: str, of: str) -> bool:
    """Whether one is the other, or comes before it."""
    return bool(session.rows(f"{_ASCENT} SELECT 1 FROM up WHERE id = ?", (of, id_)))


def read_checkpoint(session: Session, id_: str, drafts: Iterable[PayloadDraft] = ()) -> Found:
    """A checkpoint with its nodes; what was erased is missing among the payloads, what was just drafted is not read."""
    [row] = session.rows(f"SELECT {_COLUMNS} FROM xprim_saved WHERE id = ?", (id_,))
    nodes = session.rows(
        "SELECT id, kind, name, payload FROM xprim_nodes WHERE checkpoint = ? ORDER BY position", (id_,)
    )
    known = {draft.digest: draft.payload for draft in drafts}
    needed = {row[5], *(node[3] for node in nodes)}
    payloads = {**known, **read_payloads(session, needed - known.keys())}
    return Found(row, nodes, _branches(session, [id_])[id_], payloads)


def read_node(session: Session, id_: str, serde: SerializerProtocol) -> GraphNode:
    """A node by its id, whichever checkpoints have it.

    Raises:
        CheckpointNotFoundError: None has.
    """
    found = session.rows("SELECT id, kind, name, payload FROM xprim_nodes WHERE id = ? LIMIT 1", (id_,))
    if not found:
        raise CheckpointNotFoundError(
            f"No checkpoint has a node {id_!r:.70}.",
            subject=str(id_)[:70],
            hint="A checkpoint's `nodes` have ids.",
        )
    return _node(found[0], read_payloads(session, [found[0][3]]), serde)


def history(
    session: Session, *, limit: int, scaffold: str | None, branch: str | None, before: str | None
) -> tuple[TreeNode, ...]:
    """Checkpoints without what they hold, newest first; those of a branch by their line of parents."""
    sql, parameters = f"SELECT {_prefixed('s')} FROM xprim_saved s", list[Value]()
    if branch is not None:
        sql = f"{_ASCENT} SELECT {_prefixed('s')} FROM up JOIN xprim_saved s ON s.id = up.id"
        parameters = [find_id(session, branch, scaffold)[0]]
    conditions: list[str] = []
    if branch is None and scaffold is not None:
        conditions.append("s.scaffold = ?")
        parameters.append(scaffold)
    if before is not None:
        conditions.append("s.number < (SELECT number FROM xprim_saved WHERE id = ?)")
        parameters.append(find_id(session, before, scaffold)[0])
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    rows = session.rows(f"{sql}{where} ORDER BY s.number DESC LIMIT ?", (*parameters, limit))
    return _tree_nodes(session, rows)


def tree(session: Session, scaffold: str | None, *, tips: bool) -> tuple[TreeNode, ...]:
    """All checkpoints, parents before children; or the tips, one for each branch and under its name."""
    where, parameters = ("", ()) if scaffold is None else (" WHERE s.scaffold = ?", (scaffold,))
    if not tips:
        return _tree_nodes(
            session,
            session.rows(f"SELECT {_prefixed('s')} FROM xprim_saved s{where} ORDER BY s.number", parameters),
        )
    rows = session.rows(
        "SELECT s.id, s.scaffold, b.name, s.label, s.parent, s.payload, s.at FROM xprim_branches b"
        f" JOIN xprim_saved s ON s.id = b.checkpoint{where} ORDER BY b.scaffold, b.name",
        parameters,
    )
    return _tree_nodes(session, rows)


def _prefixed(table: str) -> str:
    return ", ".join(f"{table}.{column}" for column in _COLUMNS.split(", "))


def _tree_nodes(session: Session, rows: Sequence[Row]) -> tuple[TreeNode, ...]:
    branches = _branches(session, [row[0] for row in rows])
    return tuple(
        TreeNode(
            id=id_,
            parent=parent,
            scaffold=scaffold,
            name=name,
            label=label,
            at=at,
            branches=branches[id_],
            is_tip=bool(branches[id_]),
        )
        for id_, scaffold, name, label, parent, _, at in rows
    )


def _branches(session: Session, ids: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = defaultdict(tuple)
    for some in chunks(sorted(set(ids))):
        for checkpoint, name in session.rows(
            f"SELECT checkpoint, name FROM xprim_branches WHERE checkpoint IN ({marks(len(some))}) ORDER BY name",
            some,
        ):
            found[checkpoint] += (name,)
    return found


def _node(row: Row, payloads: Mapping[str, Payload], serde: SerializerProtocol) -> GraphNode:
    id_, kind, name, payload = row
    parts, is_erased = parts_of(payload, payloads, serde)
    return GraphNode(kind=kind, name=name, id=id_, payload=payload, is_erased=is_erased, **parts)
