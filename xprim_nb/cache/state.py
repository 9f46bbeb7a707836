"""`state.sqlite`: facts derived from what lies on disk. Deleting it loses no model; it fills again.

What a user decided (a pin, a backup, an adopted folder) is never kept here alone.

Source: spec 1 §Disk layout; spec 2 §Validation ("verdicts are kept in `state.sqlite`"), §Status.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from xprim_nb._sqlite import Database
from xprim_nb.cache.layout import Layout
from xprim_nb.errors import StorageError

__all__ = ["MIGRATIONS", "State"]

_log = logging.getLogger("xprim_nb.cache")
_T = TypeVar("_T")

MIGRATIONS = (
    # 1: where the chunks of installed models lie
    """
    CREATE TABLE models (id INTEGER PRIMARY KEY, ref TEXT NOT NULL UNIQUE, manifest_hash TEXT NOT NULL);
    CREATE TABLE chunks (
        digest BLOB NOT NULL,
        model_id INTEGER NOT NULL REFERENCES models (id),
        number INTEGER NOT NULL,
        PRIMARY KEY (digest, model_id)
    ) WITHOUT ROWID;
    CREATE INDEX chunks_of_model ON chunks (model_id)
    """,
    # 2: what was found when installed bytes were looked at, and when; usage; what was done
    """
    CREATE TABLE verdicts (
        ref TEXT PRIMARY KEY,
        manifest_hash TEXT NOT NULL,
        status TEXT NOT NULL,
        depth TEXT NOT NULL,
        checked_at REAL NOT NULL,
        action TEXT NOT NULL,
        priority TEXT NOT NULL,
        report TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE checked_files (
        ref TEXT NOT NULL,
        path TEXT NOT NULL,
        manifest_hash TEXT NOT NULL,
        size_bytes INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        ctime_ns INTEGER NOT NULL,
        inode INTEGER NOT NULL,
        checked_at REAL NOT NULL,
        finding TEXT NOT NULL,
        PRIMARY KEY (ref, path)
    ) WITHOUT ROWID;
    CREATE TABLE checked_chunks (
        ref TEXT PRIMARY KEY,
        manifest_hash TEXT NOT NULL,
        checked_at BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE usage (ref TEXT PRIMARY KEY, last_used_at REAL NOT NULL, uses INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE history (
        id INTEGER PRIMARY KEY,
        at REAL NOT NULL,
        kind TEXT NOT NULL,
        ref TEXT NOT NULL,
        details TEXT NOT NULL
    );
    CREATE INDEX history_at ON history (at)
    """,
)


class State:
    """The one database of a base. Thread-safe; owns its connections until `close`.

    A file that cannot be read or written costs time, never correctness: it is begun anew, or done without.

    Args:
        layout: Where things lie.
    """

    def __init__(self, layout: Layout) -> None:
        self.path = layout.state_file
        self._database = Database(layout.state_file, MIGRATIONS)

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """The thread's connection, for queries; used inside `guarded`."""
        return self._database.reading()

    def transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        """One write transaction; used inside `guarded`."""
        return self._database.transaction()

    def guarded(self, work: Callable[[], _T], otherwise: _T) -> _T:
        """What `work` returns; `otherwise` when the file is not usable. A damaged file is begun anew first."""
        for _attempt in (1, 2):
            try:
                return work()
            except (
                sqlite3.ProgrammingError
            ):  # another thread began the file anew, and closed this one's connection
                continue
            except sqlite3.DatabaseError as error:
                _log.warning("state.sqlite: %s", error, extra={"path": str(self.path)})
                # Busy, full and read-only are passing troubles; a damaged file is not.
                if not _is_damage(error):
                    return otherwise
                try:
                    self._database.begin_anew()
                except OSError:
                    return otherwise
            except StorageError as error:
                _log.warning("state.sqlite is not usable: %s", error.message)
                return otherwise
        return otherwise

    def close(self) -> None:
        """Close the database."""
        self._database.close()


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """True when the file is no database, a broken one, or not ours."""
    # The low byte is the code, the rest says more about it.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or "no such" in str(error)
