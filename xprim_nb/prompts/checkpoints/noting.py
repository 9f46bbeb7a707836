"""Keeps and reads what was noted and called after a checkpoint: each function is the work of one transaction.

Source: spec 6 §Checkpoints; seeds/001 (ScratchpadArtifact, ToolTrace).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .database import Row, Session
from .finding import find_id, parts_of
from .langgraph_parts import SerializerProtocol
from .payloads import Payload, PayloadDraft, keep_payloads, read_payloads
from .saved import ScratchpadArtifact, ToolTrace
from .saving import payload_entries
from .trail import Entry, append, record_hash, take_head

__all__ = ["Note", "Noted", "add_note", "read_notes"]

_COLUMNS = {
    "artifact": "id, checkpoint, kind, span, payload, at",
    "trace": "id, checkpoint, tool, duration_s, success, purity, span, payload, at",
}


@dataclass(frozen=True, slots=True)
class Note:
    """An artifact or a trace that is ready to be stored.

    Args:
        what: `artifact` or `trace`.
        id: Made by the caller, so that a transaction that is run again stores nothing twice.
        columns: Those between the checkpoint and the payload, in their order.
        payload: What it holds.
        at: When.
    """

    what: str
    id: str
    columns: tuple[str | float | int, ...]
    payload: PayloadDraft
    at: float


@dataclass(frozen=True, slots=True)
class Noted:
    """Artifacts or traces as they lie in the database; readable outside of any transaction."""

    rows: Sequence[Row]
    payloads: Mapping[str, Payload]

    def artifacts(self, serde: SerializerProtocol) -> tuple[ScratchpadArtifact, ...]:
        """The artifacts, with objects of their own."""
        return tuple(self._artifact(row, serde) for row in self.rows)

    def traces(self, serde: SerializerProtocol) -> tuple[ToolTrace, ...]:
        """The traces, with objects of their own."""
        return tuple(self._trace(row, serde) for row in self.rows)

    def _artifact(self, row: Row, serde: SerializerProtocol) -> ScratchpadArtifact:
        id_, checkpoint, kind, span, payload, at = row
        parts, is_erased = parts_of(payload, self.payloads, serde)
        return ScratchpadArtifact(
            id=id_,
            checkpoint=checkpoint,
            kind=kind,
            content=parts.get("content", ""),
            metadata=parts.get("metadata", {}),
            span=span,
            payload=payload,
            is_erased=is_erased,
            at=at,
        )

    def _trace(self, row: Row, serde: SerializerProtocol) -> ToolTrace:
        id_, checkpoint, tool, duration_s, success, purity, span, payload, at = row
        parts, is_erased = parts_of(payload, self.payloads, serde)
        return ToolTrace(
            id=id_,
            checkpoint=checkpoint,
            tool=tool,
            inputs=parts.get("inputs", {}),
            outputs=parts.get("outputs"),
            duration_s=duration_s,
            success=bool(success),
            error=parts.get("error", ""),
            purity=purity,
            span=span,
            payload=payload,
            is_erased=is_erased,
            at=at,
        )


def add_note(session: Session, word: str, scaffold: str | None, note: Note) -> Noted:
    """Keep it at a checkpoint; as it can be read now.

    Raises:
        CheckpointNotFoundError: There is no such checkpoint.
        ConfigError: There are several.
    """
    head = take_head(session)
    checkpoint, _ = find_id(session, word, scaffold)
    row = (note.id, checkpoint, *note.columns, note.payload.digest, note.at)
    if not session.rows(f"SELECT 1 FROM xprim_{note.what}s WHERE id = ?", (note.id,)):
        restored = keep_payloads(session, [note.payload])
        places = ", ".join("?" * len(row))
        session.run(f"INSERT INTO xprim_{note.what}s ({_COLUMNS[note.what]}) VALUES ({places})", row)
        added = Entry("add", note.what, note.id, record_hash(note.what, row), (note.payload.digest,))
        append(session, head, [*payload_entries(restored), added], note.at)
    return Noted([row], read_payloads(session, [note.payload.digest]))


def read_notes(session: Session, what: str, word: str, scaffold: str | None) -> Noted:
    """What was noted at a checkpoint, oldest first.

    Raises:
        CheckpointNotFoundError: There is no such checkpoint.
        ConfigError: There are several.
    """
    checkpoint, _ = find_id(session, word, scaffold)
    rows = session.rows(
        f"SELECT {_COLUMNS[what]} FROM xprim_{what}s WHERE checkpoint = ? ORDER BY number", (checkpoint,)
    )
    return Noted(rows, read_payloads(session, [row[-2] for row in rows]))
