"""Rows that could not be read: put aside with the reason, so that they neither fail twice nor are lost in silence."""

from __future__ import annotations

import sqlite3

__all__ = ["MOST_ASIDE", "put_answer_aside", "put_aside"]

MOST_ASIDE = 100
"""Of damaged rows; a failing disk makes thousands, of which nobody looks at more."""


def put_aside(
    connection: sqlite3.Connection, kind: str, request: str, reason: str, value: bytes, now_s: float
) -> None:
    """Enter a damaged value; whoever calls removes the row that it came from, in the same transaction."""
    connection.execute(
        "INSERT INTO damaged (at, kind, request, reason, value) VALUES (?, ?, ?, ?, ?)",
        (now_s, kind, bytes.fromhex(request), reason, value),
    )
    connection.execute(
        "DELETE FROM damaged WHERE id <= (SELECT id FROM damaged ORDER BY id DESC LIMIT 1 OFFSET ?)",
        (MOST_ASIDE,),
    )


def put_answer_aside(
    connection: sqlite3.Connection, request: str, why: str, value: bytes, now_s: float
) -> None:
    """Move an answer that cannot be read to the damaged values; another process may have written a good one since."""
    gone = connection.execute(
        "DELETE FROM answers WHERE request = ? AND value = ?", (bytes.fromhex(request), value)
    )
    if gone.rowcount:
        put_aside(connection, "answer", request, why, value, now_s)
