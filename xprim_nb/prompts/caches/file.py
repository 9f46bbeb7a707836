"""`prompts/cache.sqlite`: answers that were paid for, so that the file is never begun anew in silence.

A file that SQLite cannot read is moved aside with its log, under a name of its own, and whoever asks is told; another
process that still has it open follows to the new one before it writes.

Source: spec 6 §Caches; DESIGN §Decisions (local database).
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from xprim_nb._files import PathLock, storage_errors
from xprim_nb._sqlite import Database
from xprim_nb.errors import StorageError
from xprim_nb.prompts.caches.schema import MIGRATIONS

__all__ = ["CacheFile"]

_log = logging.getLogger("xprim_nb.prompts")
_T = TypeVar("_T")

# Read without a system call for each page: as much as most files ever have.
_MMAP_BYTES = 256 << 20
# Another process that finds the same damage moves the file within milliseconds.
_RENEW_TIMEOUT_S = 10.0
_TRIES = 3
_SUFFIXES = ("", "-wal", "-shm")


class _ReplacedError(Exception):
    """Another file has the name by now."""


class CacheFile:
    """The one file of the three caches. Thread-safe; owns its connections until `close`.

    Args:
        path: The file; its directory is made, for this user alone.

    Attributes:
        moved_aside: Files that could not be read and lie beside this one, as this process found them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.moved_aside: list[Path] = []
        self._database = Database(
            path, MIGRATIONS, sync="NORMAL", private=True, mmap_bytes=_MMAP_BYTES, rebuilt=""
        )
        self._lock = threading.Lock()
        self._identity: tuple[int, int] | None = None

    def read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """What `work` returns.

        Raises:
            StorageError: The file cannot be read.
        """
        try:
            with (
                self._database.reading() as connection
            ):  # as nearly always: a look-up should cost little else
                return work(connection)
        except sqlite3.DatabaseError:
            pass

        def whole() -> _T:
            with self._database.reading() as connection:
                return work(connection)

        return self._guarded(whole)

    def write(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """What `work` returns, done in one transaction. It is done again where the file was replaced meanwhile.

        Raises:
            StorageError: The file cannot be written.
        """

        def whole() -> _T:
            with self._database.transaction() as connection:
                if _identity(self.path) != self._identity:
                    raise _ReplacedError
                # What is erased or replaced is overwritten: prompts are read by whoever finds the file.
                connection.execute("PRAGMA secure_delete = ON")
                return work(connection)

        return self._guarded(whole)

    def size_bytes(self) -> int:
        """What the file and its log take on the disk."""
        paths = (self.path.with_name(self.path.name + suffix) for suffix in _SUFFIXES[:2])
        return sum(path.stat().st_size for path in paths if path.exists())

    def close(self) -> None:
        """Close every connection; the next use opens the file again."""
        with self._lock:
            self._identity = None
            self._database.close()

    def _guarded(self, work: Callable[[], _T]) -> _T:
        attempt = 0
        while True:
            attempt += 1
            found: tuple[int, int] | None = None
            try:
                found = self._opened()
                return work()
            except (
                _ReplacedError,
                sqlite3.ProgrammingError,
            ) as error:  # or another thread closed this connection
                self.close()
                if attempt == _TRIES:
                    raise self._refused("is replaced again and again") from error
            except sqlite3.DatabaseError as error:
                if attempt == _TRIES or not _is_damage(error):
                    raise self._refused(f"cannot be used: {error}") from error
                self._move_aside(found or _identity(self.path), str(error))

    def _opened(self) -> tuple[int, int]:
        """The identity of the file that is in use."""
        known = self._identity
        if known is not None:
            return known
        with self._lock:
            if self._identity is None:
                with self._database.reading():
                    self._identity = _identity(self.path)
            if self._identity is None:
                raise _ReplacedError
            return self._identity

    def _move_aside(self, damaged: tuple[int, int] | None, why: str) -> None:
        """Move the damaged file out of the way, whole: what SQLite cannot read, a person perhaps can."""
        lock = PathLock(self.path.with_name(self.path.name + ".lock"))
        lock.acquire(_RENEW_TIMEOUT_S)
        try:
            self.close()
            if damaged is None or _identity(self.path) != damaged:
                return  # another process, or another thread, was quicker
            aside = _free_name(self.path)
            with storage_errors(self.path, "moving the damaged cache aside"):
                for suffix in _SUFFIXES:
                    source = self.path.with_name(self.path.name + suffix)
                    if source.exists():
                        os.replace(source, aside.with_name(aside.name + suffix))  # noqa: PTH105
            self.moved_aside.append(aside)
        finally:
            lock.release()
        _log.error(
            "The answers in %s cannot be read (%s). They lie in %s; a new file is begun.",
            self.path,
            why,
            aside,
        )

    def _refused(self, what: str) -> StorageError:
        return StorageError(
            f"{self.path} {what}.",
            subject=str(self.path),
            hint="Check the disk and the file's permissions; cache='bypass' asks without it.",
        )


def _free_name(path: Path) -> Path:
    """A name that no earlier damaged file has: each may hold answers."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    names = (
        path.with_name(f"{path.name}.damaged-{stamp}{tail}")
        for tail in ("", *(f"-{n}" for n in range(2, 1000)))
    )
    return next(name for name in names if not name.exists())


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    # The low byte is the code, the rest says more about it. A file of somebody else's lacks our tables.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or "no such table" in str(error)
