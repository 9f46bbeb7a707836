"""The audit trail: a row for each thing that was done, which has the hash of the row before it.

A row names what was done to what, the hash of the record that came of it, and the digests of its payloads; never their
content, so that a payload can be erased and the trail still verifies. Whoever writes takes the head first, and is the
only one to add rows until the transaction ends.

Verifying asks three things, and names whatever answers no:

1. Is each row as it was written, and does it follow the one before?
2. Is each record what the trail last said of it, with none added and none taken away past the trail?
3. Is each payload what its digest says, or erased by a row of the trail?

Who can write the database can write all of the trail anew; a head that was kept elsewhere shows that.

Source: spec 6 §Checkpoints.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from xprim_nb.errors import XprimError
from xprim_nb.prompts.identity import tagged_hash

from .database import Row, Session, chunks
from .langgraph_parts import SerializerProtocol
from .payloads import payload_hash, read_payloads
from .saved import AuditFault, AuditReport, AuditRow

__all__ = ["Entry", "append", "record_hash", "records_of", "rows_of", "take_head", "verify"]

_RECORD, _ROW = "xprim/record/v1", "xprim/audit/v1"
_COLUMNS = "number, at, action, kind, subject, record, payloads, before, digest"
_PAGE = 500

# A record by kind, as its hash has it; the first column is its subject.
_RECORDS = {
    "checkpoint": "SELECT id, scaffold, name, label, parent, payload, at FROM xprim_saved",
    "branch": "SELECT scaffold, name, checkpoint FROM xprim_branches",
    "artifact": "SELECT id, checkpoint, kind, span, payload, at FROM xprim_artifacts",
    "trace": "SELECT id, checkpoint, tool, duration_s, success, purity, span, payload, at FROM xprim_traces",
}
_NODES = "SELECT checkpoint, id, kind, name, payload FROM xprim_nodes ORDER BY checkpoint, position"


class Entry(NamedTuple):
    """A row to be added; see `AuditRow`."""

    action: str
    kind: str
    subject: str
    record: str = ""
    payloads: tuple[str, ...] = ()


class Head(NamedTuple):
    """The last row: its number, 0 when there is none, and its digest."""

    number: int
    digest: str


def take_head(session: Session) -> Head:
    """The last row. Nobody else adds one until this transaction ends; it is the first thing that a writer does."""
    session.run("UPDATE xprim_audit_head SET number = number WHERE id = 1")
    return _head(session)


def append(session: Session, head: Head, entries: Sequence[Entry], at: float) -> None:
    """Add rows after the head."""
    rows: list[tuple[int, float, str, str, str, str, str, str, str]] = []
    number, before = head
    for entry in entries:
        number += 1
        payloads = " ".join(entry.payloads)
        fields = (number, at, entry.action, entry.kind, entry.subject, entry.record, payloads, before)
        before = tagged_hash(_ROW, fields)
        rows.append((*fields, before))
    if rows:
        session.run_many(f"INSERT INTO xprim_audit ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        session.run("UPDATE xprim_audit_head SET number = ?, digest = ? WHERE id = 1", (number, before))


def record_hash(kind: str, row: Sequence[object], nodes: Sequence[Sequence[object]] = ()) -> str:
    """The hash of a record: of the columns that `_RECORDS` names, and of a checkpoint's nodes."""
    return tagged_hash(_RECORD, [kind, list(row), [list(node) for node in nodes]])


def records_of(session: Session) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """Kind, subject, hash and payloads of each record that there is."""
    nodes: dict[str, list[Row]] = defaultdict(list)
    for checkpoint, *node in session.rows(_NODES):
        nodes[checkpoint].append(tuple(node))
    for kind, sql in _RECORDS.items():
        for row in session.rows(sql):
            if kind == "branch":
                yield kind, f"{row[0]} {row[1]}", record_hash(kind, row), ()
            elif kind == "checkpoint":
                own = nodes.pop(row[0], [])
                yield kind, row[0], record_hash(kind, row, own), (row[5], *(node[3] for node in own))
            else:
                yield kind, row[0], record_hash(kind, row), (row[-2],)
    for checkpoint in nodes:
        yield "node", checkpoint, "", ()


def rows_of(
    session: Session, *, after: int = 0, limit: int | None = None, newest: bool = False
) -> list[AuditRow]:
    """Rows in the order in which they were added, or the newest first."""
    order = "DESC" if newest else "ASC"
    sql, parameters = f"SELECT {_COLUMNS} FROM xprim_audit WHERE number > ? ORDER BY number {order}", [after]
    if limit is not None:
        sql, parameters = f"{sql} LIMIT ?", [after, limit]
    return [_row(row) for row in session.rows(sql, parameters)]


def verify(
    session: Session, serde: SerializerProtocol, *, known_head: str = "", contents: bool = True
) -> AuditReport:
    """What is not as it was written; see the module.

    Args:
        session: One snapshot.
        serde: What makes values of bytes.
        known_head: The head of an earlier report; it must still be a row of the trail.
        contents: Read every payload and compare it with its digest.
    """
    faults: list[AuditFault] = []
    said: dict[tuple[str, str], str] = {}
    erased: set[str] = set()
    named: set[str] = set()
    before, number, is_known = "", 0, not known_head
    while page := rows_of(session, after=number, limit=_PAGE):
        for row in page:
            faults += _row_faults(row, number + 1, before)
            number, before = row.number, row.digest
            is_known = is_known or row.digest == known_head
            named.update(row.payloads)
            if row.action == "erase":
                erased.add(row.subject)
            elif row.action == "restore":
                pass  # its content is compared below
            elif row.action == "delete":
                said.pop((row.kind, row.subject), None)
            else:
                said[row.kind, row.subject] = row.record
    if _head(session) != (number, before):
        faults.append(_fault("audit", str(number), "rows after it were taken away, or the head was changed"))
    if not is_known:
        faults.append(_fault("audit", known_head, "no row has this digest any more"))
    needed: set[str] = set()
    for kind, subject, record, payloads in records_of(session):
        needed.update(payloads)
        expected = said.pop((kind, subject), None)
        if expected is None:
            faults.append(_fault(kind, subject, "it was added past the audit trail"))
        elif expected != record:
            faults.append(_fault(kind, subject, "its row was changed past the audit trail"))
    faults += [_fault(kind, subject, "its row was taken away past the audit trail") for kind, subject in said]
    faults += _payload_faults(session, serde, needed & named, erased, contents=contents)
    return AuditReport(rows=number, head=before, faults=tuple(faults))


def _row_faults(row: AuditRow, number: int, before: str) -> Iterator[AuditFault]:
    fields = (
        row.number,
        row.at,
        row.action,
        row.kind,
        row.subject,
        row.record,
        " ".join(row.payloads),
        row.before,
    )
    if row.number != number:
        yield _fault("audit", str(number), f"it is missing; the next is {row.number}")
    elif row.before != before:
        yield _fault("audit", str(row.number), "it does not follow the row before it")
    if tagged_hash(_ROW, fields) != row.digest:
        yield _fault("audit", str(row.number), "it was changed")


def _payload_faults(
    session: Session, serde: SerializerProtocol, needed: Iterable[str], erased: set[str], *, contents: bool
) -> Iterator[AuditFault]:
    there: Mapping[str, bool] = {
        digest: bool(has_content)
        for digest, has_content in session.rows(
            "SELECT digest, CASE WHEN manifest IS NULL THEN 0 ELSE 1 END FROM xprim_payloads"
        )
    }
    for some in chunks(sorted(needed)):
        for digest in some:
            if digest not in there:
                yield _fault("payload", digest, "it was taken away past the audit trail")
            elif not there[digest] and digest not in erased:
                yield _fault("payload", digest, "it was erased past the audit trail")
        if contents:
            for digest in _damaged(session, serde, [each for each in some if there.get(each)]):
                yield _fault("payload", digest, "its content is not what its digest says")


def _damaged(session: Session, serde: SerializerProtocol, digests: Sequence[str]) -> Iterator[str]:
    """Those whose content is absent, cannot be read, or has another digest."""
    try:
        payloads = read_payloads(session, digests)
    except XprimError:
        if len(digests) == 1:
            yield digests[0]
            return
        # One of them is damaged: each is looked at by itself.
        for digest in digests:
            yield from _damaged(session, serde, [digest])
        return
    for digest in digests:
        try:
            is_same = payload_hash(payloads[digest].parts(serde)) == digest
        except (XprimError, ValueError, TypeError, LookupError):
            is_same = False
        if not is_same:
            yield digest


def _head(session: Session) -> Head:
    found = session.rows("SELECT number, digest FROM xprim_audit_head WHERE id = 1")
    return Head(*found[0]) if found else Head(-1, "")


def _row(row: Row) -> AuditRow:
    number, at, action, kind, subject, record, payloads, before, digest = row
    return AuditRow(
        number=number,
        at=at,
        action=action,
        kind=kind,
        subject=subject,
        record=record,
        payloads=tuple(payloads.split()),
        before=before,
        digest=digest,
    )


def _fault(kind: str, subject: str, what: str) -> AuditFault:
    return AuditFault(kind=kind, subject=subject, what=what)
