"""Saves checkpoints, moves branches, and takes away: each function is the work of one transaction.

Where a checkpoint goes, when its branch ends in T and it is to follow P:

1. No P is named: it follows T. When it says what T says already, it is T.
2. There is no such branch: it begins one, at P or at a root.
3. T is P: the branch moves on to it.
4. It is T, or before T: it was saved already, and nothing changes.
5. Else somebody has gone on from P meanwhile, and the caller is told. Nothing is lost: T stays where it is.

Source: spec 6 §Checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xprim_nb.errors import CheckpointNotFoundError, ConfigError
from xprim_nb.prompts.identity import tagged_hash

from .database import Session, chunks, marks
from .finding import find_id, is_ancestor, tip_of
from .payloads import PayloadDraft, drop_payloads, keep_payloads
from .trail import Entry, append, record_hash, take_head

__all__ = [
    "CheckpointDraft",
    "NodeDraft",
    "begin_branch",
    "delete_checkpoint",
    "draft_node",
    "erase_payload",
    "payload_entries",
    "save_checkpoint",
]

_CHECKPOINT, _NODE = "xprim/checkpoint/v1", "xprim/node/v1"
_HOLDERS = ("saved", "nodes", "artifacts", "traces")


@dataclass(frozen=True, slots=True)
class NodeDraft:
    """A node that is ready to be stored."""

    id: str
    kind: str
    name: str
    payload: PayloadDraft

    @property
    def row(self) -> tuple[str, str, str, str]:
        """As its record has it."""
        return self.id, self.kind, self.name, self.payload.digest


@dataclass(frozen=True, slots=True)
class CheckpointDraft:
    """A checkpoint that is ready to be stored; `parent` is the caller's word, None for wherever the branch ends."""

    scaffold: str
    name: str
    label: str
    parent: str | None
    payload: PayloadDraft
    nodes: tuple[NodeDraft, ...]
    at: float

    def id_after(self, parent: str | None) -> str:
        """Its id as the child of a checkpoint."""
        nodes = [node.row for node in self.nodes]
        return tagged_hash(_CHECKPOINT, [self.scaffold, parent, self.label, self.payload.digest, nodes])


def draft_node(kind: str, name: str, payload: PayloadDraft) -> NodeDraft:
    """A node with its id."""
    return NodeDraft(tagged_hash(_NODE, [kind, name, payload.digest]), kind, name, payload)


def save_checkpoint(session: Session, draft: CheckpointDraft) -> str:
    """The id under which it is kept; the numbers are those of the module.

    Raises:
        CheckpointNotFoundError: There is no such parent.
        ConfigError: The branch has gone on from the parent, or the parent is another scaffold's.
    """
    head = take_head(session)
    tip = tip_of(session, draft.scaffold, draft.name)
    parent = tip if draft.parent is None else _parent(session, draft)
    id_ = draft.id_after(parent)
    if draft.parent is None and tip is not None:  # 1
        above = session.rows("SELECT parent FROM xprim_saved WHERE id = ?", (tip,))[0][0]
        if draft.id_after(above) == tip:
            id_ = tip
    is_new = not session.rows("SELECT 1 FROM xprim_saved WHERE id = ?", (id_,))
    moves = tip in (None, parent) and id_ != tip  # 2, 3
    if not moves and (is_new or tip is None or not is_ancestor(session, id_, tip)):  # 4, 5
        raise ConfigError(
            f"The branch {draft.name!r} has gone on from {parent or 'there'} meanwhile, to {tip}.",
            subject=draft.name,
            hint="Save on a branch of another name to keep both, or without a parent to follow what is there now.",
        )
    payloads = (draft.payload, *(node.payload for node in draft.nodes))
    entries = payload_entries(keep_payloads(session, payloads))
    if is_new:
        entries.append(_add(session, draft, id_, parent))
    if moves:
        entries.append(_point(session, draft.scaffold, draft.name, id_, is_new=tip is None))
    append(session, head, entries, draft.at)
    return id_


def begin_branch(session: Session, word: str, name: str, scaffold: str | None, at: float) -> str:
    """The id of the checkpoint that a new branch begins at; once more with the same is no more than once.

    Raises:
        CheckpointNotFoundError: There is no such checkpoint.
        ConfigError: The scaffold has a branch of this name, elsewhere.
    """
    head = take_head(session)
    id_, owner = find_id(session, word, scaffold)
    tip = tip_of(session, owner, name)
    if tip is None:
        append(session, head, [_point(session, owner, name, id_, is_new=True)], at)
    elif tip != id_:
        raise ConfigError(
            f"The scaffold {owner} has a branch {name!r} already, which ends in {tip}.",
            subject=name,
            hint="Choose another name.",
        )
    return id_


def delete_checkpoint(session: Session, word: str, scaffold: str | None, at: float) -> None:
    """Take a checkpoint away with what was noted at it; branches that ended in it end in its parent. Writes alone.

    Raises:
        CheckpointNotFoundError: There is none.
        ConfigError: Others follow it.
    """
    head = take_head(session)
    id_, owner = find_id(session, word, scaffold)
    children = session.rows("SELECT id FROM xprim_saved WHERE parent = ? ORDER BY number LIMIT 4", (id_,))
    if children:
        raise ConfigError(
            f"The checkpoint is followed by {', '.join(child[:12] for (child,) in children)}.",
            subject=id_,
            hint="Delete those first, or erase only what it holds: erase(checkpoint.payload).",
        )
    [(parent, *payloads)] = session.rows("SELECT parent, payload FROM xprim_saved WHERE id = ?", (id_,))
    entries: list[Entry] = []
    for (name,) in session.rows("SELECT name FROM xprim_branches WHERE checkpoint = ? ORDER BY name", (id_,)):
        if parent is not None:
            entries.append(_point(session, owner, name, parent, is_new=False))
        else:
            session.run("DELETE FROM xprim_branches WHERE scaffold = ? AND name = ?", (owner, name))
            entries.append(Entry("delete", "branch", f"{owner} {name}"))
    for kind in ("artifact", "trace"):
        rows = session.rows(
            f"SELECT id, payload FROM xprim_{kind}s WHERE checkpoint = ? ORDER BY number", (id_,)
        )
        session.run(f"DELETE FROM xprim_{kind}s WHERE checkpoint = ?", (id_,))
        entries += [Entry("delete", kind, each) for each, _ in rows]
        payloads += [payload for _, payload in rows]
    payloads += [
        row[0] for row in session.rows("SELECT payload FROM xprim_nodes WHERE checkpoint = ?", (id_,))
    ]
    session.run("DELETE FROM xprim_nodes WHERE checkpoint = ?", (id_,))
    session.run("DELETE FROM xprim_saved WHERE id = ?", (id_,))
    entries.append(Entry("delete", "checkpoint", id_))
    drop_payloads(session, _unused(session, payloads), erased=False)
    append(session, head, entries, at)


def erase_payload(session: Session, digest: str, at: float) -> None:
    """Take a payload's content away; whatever has it keeps its digest. Writes alone; twice is once.

    Raises:
        CheckpointNotFoundError: There is no such payload.
    """
    head = take_head(session)
    found = session.rows(
        "SELECT CASE WHEN manifest IS NULL THEN 0 ELSE 1 END FROM xprim_payloads WHERE digest = ?", (digest,)
    )
    if not found:
        raise CheckpointNotFoundError(
            f"There is no payload {digest!r:.70}.",
            subject=str(digest)[:70],
            hint="Checkpoints, nodes, artifacts and traces have one each, `payload`.",
        )
    if found[0][0]:
        drop_payloads(session, [digest], erased=True)
        append(session, head, [Entry("erase", "payload", digest, payloads=(digest,))], at)


def payload_entries(restored: Sequence[str]) -> list[Entry]:
    """What the trail says of payloads that had been erased and are there again."""
    return [Entry("restore", "payload", digest, payloads=(digest,)) for digest in sorted(restored)]


def _parent(session: Session, draft: CheckpointDraft) -> str:
    id_, owner = find_id(
        session, draft.parent or "", None if len(draft.parent or "") == 64 else draft.scaffold
    )
    if owner != draft.scaffold:
        raise ConfigError(
            f"The parent belongs to scaffold {owner}, and a checkpoint follows one of its own scaffold.",
            subject=id_,
            hint=f"Save with scaffold={owner!r}, or without a parent.",
        )
    return id_


def _add(session: Session, draft: CheckpointDraft, id_: str, parent: str | None) -> Entry:
    row = (id_, draft.scaffold, draft.name, draft.label, parent, draft.payload.digest, draft.at)
    session.run(
        "INSERT INTO xprim_saved (id, scaffold, name, label, parent, payload, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        row,
    )
    nodes = [node.row for node in draft.nodes]
    if nodes:
        session.run_many(
            "INSERT INTO xprim_nodes (checkpoint, position, id, kind, name, payload) VALUES (?, ?, ?, ?, ?, ?)",
            [(id_, position, *node) for position, node in enumerate(nodes)],
        )
    payloads = (draft.payload.digest, *(node.payload.digest for node in draft.nodes))
    return Entry("add", "checkpoint", id_, record_hash("checkpoint", row, nodes), payloads)


def _point(session: Session, scaffold: str, name: str, id_: str, *, is_new: bool) -> Entry:
    """Have a branch end in a checkpoint."""
    session.run(
        "INSERT INTO xprim_branches (scaffold, name, checkpoint) VALUES (?, ?, ?)"
        " ON CONFLICT (scaffold, name) DO UPDATE SET checkpoint = excluded.checkpoint",
        (scaffold, name, id_),
    )
    record = record_hash("branch", (scaffold, name, id_))
    return Entry("add" if is_new else "move", "branch", f"{scaffold} {name}", record)


def _unused(session: Session, payloads: Sequence[str]) -> list[str]:
    """Those that nothing has any more."""
    used: set[str] = set()
    for some in chunks(sorted(set(payloads))):
        for table in _HOLDERS:
            sql = f"SELECT DISTINCT payload FROM xprim_{table} WHERE payload IN ({marks(len(some))})"
            used.update(payload for (payload,) in session.rows(sql, some))
    return sorted(set(payloads) - used)
