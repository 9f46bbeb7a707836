"""A SQLite file opened the same way everywhere: WAL, one connection a thread, numbered migrations.

What is derived may be begun anew (`begin_anew`) when SQLite cannot read it; what is not is never: a damaged file stays
where it is, and whoever asks is told.

Source: DESIGN §Decisions (local database); spec 1 §Disk layout (`state.sqlite` is rebuilt).
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from xprim_nb.errors import StorageError

__all__ = ["Database", "Sync"]

Sync: TypeAlias = Literal["OFF", "NORMAL", "FULL"]
"""What a commit waits for. OFF: nothing. NORMAL: a power cut may take the last commits, and never the file. FULL: the
disk, each time. All three lose nothing when the process is killed."""

_log = logging.getLogger("xprim_nb.sqlite")

# Longer than any transaction of ours; a writer that waits this long meets a hung process, not a busy one.
_BUSY_TIMEOUT_S = 10.0
# The switch to WAL takes well under a millisecond.
_SWITCH_POLL_S = 0.002


@dataclass(slots=True, eq=False)
class _Opened:
    """One thread's connection, and the lock that is held while it is in use."""

    connection: sqlite3.Connection
    generation: int
    lock: threading.RLock = field(default_factory=threading.RLock)
    process: int = field(default_factory=os.getpid)


class Database:
    """Connections to one SQLite file. Thread-safe; `close` ends all of them.

    Args:
        path: The file; its directory is created.
        migrations: SQL scripts; number n brings `PRAGMA user_version` from n to n + 1. Never edit a landed one.
        sync: What a commit waits for.
        private: The file and its directory are for this user alone (0600, 0700).
        mmap_bytes: So much of the file is read without a system call for each page.
        rebuilt: Where its contents can be had again, for the hint of an error; empty when they cannot.

    Raises:
        StorageError: The file was written by a newer version, or cannot be created.
    """

    def __init__(
        self,
        path: Path,
        migrations: Sequence[str],
        *,
        sync: Sync = "OFF",
        private: bool = False,
        mmap_bytes: int = 0,
        rebuilt: str = "from the installed models",
    ) -> None:
        self.path = path
        self._sync, self._private, self._mmap_bytes, self._rebuilt = sync, private, mmap_bytes, rebuilt
        self._migrations = tuple(migrations)
        self._local = threading.local()
        self._lock, self._renewing = threading.Lock(), threading.Lock()
        self._open: list[_Opened] = []
        self._generation = 0

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One write transaction: committed at the end, rolled back on any exception."""
        with self.reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.commit()  # may fail too, and would leave the transaction open
            except BaseException:
                connection.rollback()
                raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The thread's connection, for queries; `close` waits until they are done."""
        while True:
            opened = self._opened()
            with opened.lock:
                if opened.generation == self._generation:
                    yield opened.connection
                    return

    def begin_anew(self) -> None:
        """Move the file that this thread found damaged aside as `<name>.damaged` and start with an empty one.

        Several threads find out together: the second leaves the first one's new file alone.
        """
        with self._renewing:
            seen, found = getattr(self._local, "file", None), _identity(self.path)
            if seen is not None and seen != found:
                return
            self.close()
            for suffix in ("-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                os.replace(self.path, self.path.with_name(self.path.name + ".damaged"))  # noqa: PTH105
        _log.warning("derived state was unreadable and is rebuilt", extra={"path": str(self.path)})

    def close(self) -> None:
        """Close every thread's connection, each when its thread has done with it.

        SQLite takes the whole process down when a connection is closed under a statement of another thread.
        """
        with self._lock:
            connections, self._open = self._open, []
            self._generation += 1
        for opened in connections:
            with opened.lock:
                opened.connection.close()

    def _opened(self) -> _Opened:
        known: _Opened | None = getattr(self._local, "opened", None)
        if known is not None and known.generation == self._generation:
            return known
        # Before it is opened: what is opened while another thread closes may be the file that is being replaced.
        generation = self._generation
        connection = self._connect()
        with self._lock:
            opened = self._local.opened = _Opened(connection, generation)
            self._open.append(opened)
        self._local.end = end = _ThreadEnd()
        # Pools start threads by the hundred in the life of a kernel: what a thread opened ends with it.
        weakref.finalize(end, _close_of_ended, weakref.ref(self), opened).atexit = False
        return opened

    def _forget(self, opened: _Opened) -> None:
        if opened.process != os.getpid():
            return  # in a forked child, whose parent's threads have not ended: their connections are the parent's
        with self._lock:
            if opened not in self._open:
                return  # closed with all others
            self._open.remove(opened)
        opened.connection.close()

    def _connect(self) -> sqlite3.Connection:
        self._local.file = _identity(self.path)
        try:
            self._make_room()
            connection = sqlite3.connect(
                self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.OperationalError) as error:
            raise StorageError(f"{self.path} cannot be opened: {error}", subject=str(self.path)) from error
        try:
            _switch_to_wal(connection)
            # Of derived state, what a power cut leaves is believed only where a manifest agrees; an fsync would cost
            # every pull.
            connection.execute(f"PRAGMA synchronous={self._sync}")
            if self._mmap_bytes:
                connection.execute(f"PRAGMA mmap_size={self._mmap_bytes}")
            self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        self._local.file = _identity(self.path)  # it may have been created just now
        return connection

    def _make_room(self) -> None:
        """The directory, and for a private file the file too: SQLite would make it readable for everybody."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700 if self._private else 0o777)
        if self._private:
            # SQLite gives its -wal and -shm files the permissions of the file itself.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            if self.path.stat().st_mode & 0o077:
                self.path.chmod(0o600)

    def _migrate(self, connection: sqlite3.Connection) -> None:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > len(self._migrations):
            raise StorageError(
                f"{self.path} has schema {version}; this version knows {len(self._migrations)}.",
                subject=str(self.path),
                hint=f"Update xprim-nb, or delete the file: it is rebuilt {self._rebuilt}."
                if self._rebuilt
                else "Update xprim-nb; the file stays as it is.",
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


class _ThreadEnd:
    """Lives in a thread's own storage, and so is collected when the thread has ended."""

    __slots__ = ("__weakref__",)


def _close_of_ended(owner: weakref.ref[Database], opened: _Opened) -> None:
    database = owner()
    if database is not None:
        database._forget(opened)


def _identity(path: Path) -> tuple[int, int] | None:
    """Tells one file under a name from another; None when there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


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
