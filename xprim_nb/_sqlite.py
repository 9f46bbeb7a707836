"""A SQLite file opened the same way everywhere: WAL, one connection a thread, numbered migrations.

For derived state only: a file that SQLite cannot read is moved aside and begun anew.

Source: DESIGN §Decisions (local database); spec 1 §Disk layout (`state.sqlite` is rebuilt).
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from xprim_nb.errors import StorageError

__all__ = ["Database"]

_log = logging.getLogger("xprim_nb.sqlite")

# Longer than any transaction of ours; a writer that waits this long meets a hung process, not a busy one.
_BUSY_TIMEOUT_S = 10.0
# The switch to WAL takes well under a millisecond.
_SWITCH_POLL_S = 0.002


class Database:
    """Connections to one SQLite file. Thread-safe; `close` ends all of them.

    Args:
        path: The file; its directory is created.
        migrations: SQL scripts; number n brings `PRAGMA user_version` from n to n + 1. Never edit a landed one.

    Raises:
        StorageError: The file was written by a newer version, or cannot be created.
    """

    def __init__(self, path: Path, migrations: Sequence[str]) -> None:
        self.path = path
        self._migrations = tuple(migrations)
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open: list[sqlite3.Connection] = []
        self._generation = 0

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One write transaction: committed at the end, rolled back on any exception."""
        connection = self._connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.commit()  # may fail too, and would leave the transaction open
        except BaseException:
            connection.rollback()
            raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The thread's connection, for queries."""
        yield self._connection()

    def begin_anew(self) -> None:
        """Move the file aside as `<name>.damaged` and start with an empty one."""
        self.close()
        with self._lock:
            for suffix in ("-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                os.replace(self.path, self.path.with_name(self.path.name + ".damaged"))  # noqa: PTH105
        _log.warning("derived state was unreadable and is rebuilt", extra={"path": str(self.path)})

    def close(self) -> None:
        """Close every thread's connection."""
        with self._lock:
            connections, self._open = self._open, []
            self._generation += 1
        for connection in connections:
            connection.close()

    def _connection(self) -> sqlite3.Connection:
        if getattr(self._local, "generation", None) == self._generation:
            known: sqlite3.Connection = self._local.connection
            return known
        connection = self._connect()
        with self._lock:
            self._open.append(connection)
            self._local.connection, self._local.generation = connection, self._generation
        return connection

    def _connect(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.OperationalError) as error:
            raise StorageError(f"{self.path} cannot be opened: {error}", subject=str(self.path)) from error
        try:
            _switch_to_wal(connection)
            # The file is derived: a lost last transaction after a power cut costs a rebuild, an fsync costs every pull.
            connection.execute("PRAGMA synchronous=NORMAL")
            self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > len(self._migrations):
            raise StorageError(
                f"{self.path} has schema {version}; this version knows {len(self._migrations)}.",
                subject=str(self.path),
                hint="Update xprim-nb, or delete the file: it is rebuilt from the installed models.",
            )
        if version == len(self._migrations):
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = int(
                connection.execute("PRAGMA user_version").fetchone()[0]
            )  # another process may have been first
            for number in range(version, len(self._migrations)):
                for statement in self._migrations[number].split(";"):
                    if statement.strip():
                        connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number + 1}")
        except BaseException:
            connection.rollback()
            raise
        connection.commit()


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    # SQLite's own busy timeout does not cover this switch: of several processes that create the file together,
    # all but one would fail.
    deadline = time.monotonic() + _BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            # The low byte is the code, the rest says more about it.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_SWITCH_POLL_S)
        else:
            return
