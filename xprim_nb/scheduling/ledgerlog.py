"""The ledger's two other tables: what happened to leases, and wishes about them.

Source: spec 4 §Faces ("a timeline DataFrame with the cell that caused each load"; `xprim ai evict|pin`).
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace

from xprim_nb.scheduling.hardware import MACHINE
from xprim_nb.scheduling.leases import Ask, Lease, TimelineRow, Wish

__all__ = ["answer_gone", "open_asks", "put_answer", "put_ask", "put_change", "read_ask", "rows"]

# About a megabyte, and days of work.
_MOST_ROWS = 10_000
# Whoever asked has looked by then.
_ASK_KEPT_S = 3600.0
_GONE = "it is gone"
_ASK_COLUMNS = "id, lease_id, model, wish, asked_by, at, answer"


def put_change(
    connection: sqlite3.Connection,
    lease: Lease,
    state: str,
    at: float,
    reason: str,
    before: Lease | None = None,
) -> None:
    """Note that a lease has come to a state.

    Args:
        connection: Inside a transaction.
        lease: As it is from now on.
        state: What it came to; `gone` when it was removed.
        at: When.
        reason: Why.
        before: The lease while it was charged, when it is not any more.
    """
    device = next((name for name, _ in (before or lease).charges if name != MACHINE), MACHINE)
    row = (
        *(at, lease.id, lease.model, state),
        *(device, lease.charge_on(device), lease.charge_on(MACHINE)),
        *(reason, lease.note, str(lease.kernel), lease.kernel.pid),
    )
    number = connection.execute(
        "INSERT INTO history (at, lease_id, model, state, device, device_bytes, host_bytes, reason, note,"
        " kernel, kernel_pid) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        row,
    ).lastrowid
    connection.execute("DELETE FROM history WHERE id <= ?", ((number or 0) - _MOST_ROWS,))


def rows(connection: sqlite3.Connection) -> list[TimelineRow]:
    """All that is kept, oldest first."""
    found = connection.execute(
        "SELECT at, lease_id, model, state, device, device_bytes, host_bytes, reason, note, kernel, kernel_pid"
        " FROM history ORDER BY id"
    )
    return [TimelineRow(*row) for row in found]


def put_ask(connection: sqlite3.Connection, lease: Lease, wish: Wish, by: str, at: float) -> Ask:
    """Enter a wish, and forget those of long ago."""
    connection.execute("DELETE FROM asks WHERE at < ?", (at - _ASK_KEPT_S,))
    number = connection.execute(
        "INSERT INTO asks (lease_id, model, wish, asked_by, at, answer) VALUES (?, ?, ?, ?, ?, '')",
        (lease.id, lease.model, wish, by, at),
    ).lastrowid
    return Ask(number or 0, lease.id, lease.model, wish, by, at)


def open_asks(connection: sqlite3.Connection) -> list[Ask]:
    """Wishes without an answer, oldest first."""
    found = connection.execute(f"SELECT {_ASK_COLUMNS} FROM asks WHERE answer = '' ORDER BY id")
    return [Ask(*row) for row in found]


def put_answer(connection: sqlite3.Connection, number: int, answer: str) -> None:
    """Enter what became of a wish."""
    connection.execute("UPDATE asks SET answer = ? WHERE id = ?", (answer, number))


def answer_gone(connection: sqlite3.Connection, lease_id: str) -> None:
    """Answer what is asked of a lease that is gone."""
    connection.execute("UPDATE asks SET answer = ? WHERE lease_id = ? AND answer = ''", (_GONE, lease_id))


def read_ask(connection: sqlite3.Connection, ask: Ask) -> Ask:
    """A wish as it stands; one that the file has forgotten, with its lease, is answered by that."""
    row = connection.execute(f"SELECT {_ASK_COLUMNS} FROM asks WHERE id = ?", (ask.id,)).fetchone()
    return Ask(*row) if row is not None else replace(ask, answer=_GONE)
