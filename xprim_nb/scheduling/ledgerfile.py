"""The ledger's file: where it lies, and what happens when it is gone, damaged or read-only.

Every kernel of a user has it open. One that finds it damaged moves it aside; the others notice, by the file's
identity, that the name means another file now, and each enters its own leases again.

Source: spec 4 §Residency (one SQLite file per user and machine); research residency §5.2-12.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import stat
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import platformdirs

from xprim_nb._files import PathLock, storage_errors
from xprim_nb._sqlite import Database
from xprim_nb.errors import StorageError
from xprim_nb.scheduling.ledgertables import MIGRATIONS, VERSION

__all__ = ["FILE_NAME", "LedgerFile"]

_log = logging.getLogger("xprim_nb.scheduling")
_T = TypeVar("_T")

FILE_NAME = f"ledger-{VERSION}.sqlite"
"""The schema's version is part of the name: an older version that still runs keeps a file that it understands."""

_HINT = "Set AICapabilities(ledger_dir=…) to a directory of your own that can be written to."
# Another kernel that begins the file anew takes milliseconds.
_RENEW_TIMEOUT_S = 10.0
# A damaged file is begun anew, and one that was replaced is opened again; several times at once says that the disk,
# or whatever deletes the file, does not stop.
_TRIES = 5


class _ReplacedError(Exception):
    """The name means another file than a moment ago."""


class LedgerFile:
    """The file, for all threads of this process. Nothing is opened before it is used; `close` ends it.

    Args:
        directory: Where it lies; None for the platform's runtime directory of this user.
        restore: Called inside a transaction on a file that is not the one used before: enters what must be there.

    Attributes:
        path: The file.
        epoch: How often `restore` was called.

    Raises:
        StorageError: There is no private directory to put it in.
    """

    def __init__(self, directory: Path | None, restore: Callable[[sqlite3.Connection], None]) -> None:
        self._is_ours = directory is None
        directory = directory or _runtime_directory()
        self.path = directory / FILE_NAME
        self._database = Database(self.path, MIGRATIONS)
        self._restore = restore
        self._lock = threading.RLock()
        self._identity: tuple[int, int] | None = None
        self.epoch = 0
        self._seen: dict[int, int] = {}

    def write(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """What `work` returns, done in one transaction that no other kernel's can interleave with.

        `work` may be done again: on another file, when this one was replaced meanwhile.

        Raises:
            StorageError: The file can be neither written nor begun anew.
        """

        def whole() -> _T:
            with self._database.transaction() as connection:
                known = self._require_current()
                done = work(connection)
            if _identity(self.path) != known:  # it was committed to a file that has lost its name
                raise _ReplacedError
            return done

        return self._guarded(whole)

    def read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """What `work` returns, read from one state of the file.

        Raises:
            StorageError: The file cannot be read.
        """

        def whole() -> _T:
            with self._database.reading() as connection:
                connection.execute("BEGIN")
                try:
                    self._require_current()
                    return work(connection)
                finally:
                    connection.rollback()

        return self._guarded(whole)

    def changed(self) -> bool:
        """True when somebody else has written since this was last asked. Costs a stat and a look into shared memory.

        Raises:
            StorageError: The file cannot be read.
        """

        def look() -> bool:
            with self._database.reading() as connection:
                version = int(connection.execute("PRAGMA data_version").fetchone()[0])
                # Versions mean something for one connection alone, and each thread has one.
                known = self._seen.get(id(connection))
                self._seen[id(connection)] = version
                return known != version

        return self._guarded(look)

    def close(self) -> None:
        """Close every connection; the next use opens the file again, and enters our leases in case it is another."""
        self._identity = None
        self._database.close()

    def _guarded(self, work: Callable[[], _T]) -> _T:
        attempt = 0
        while True:
            attempt += 1
            found = _identity(self.path)
            try:
                self._follow()
                return work()
            except (
                _ReplacedError,
                sqlite3.ProgrammingError,
            ) as error:  # or another thread closed this connection
                if attempt == _TRIES:
                    raise StorageError(
                        f"{self.path} is replaced again and again.", subject=str(self.path), hint=_HINT
                    ) from error
            except sqlite3.DatabaseError as error:
                damaged, replaced = _is_damage(error), _identity(self.path) != found
                if attempt == _TRIES or not (damaged or replaced or _is_unreadable(error)):
                    raise StorageError(
                        f"{self.path} cannot be used: {error}", subject=str(self.path), hint=_HINT
                    ) from error
                if damaged:
                    self._begin_anew(found)
                else:
                    self.close()

    def _require_current(self) -> tuple[int, int]:
        """The identity of the file that the caller's connection is open on, in which our leases stand.

        While the caller holds the connection nobody can close it, and so nobody can follow the name elsewhere.
        """
        known = self._identity
        if known is None or _identity(self.path) != known:
            raise _ReplacedError
        return known

    def _follow(self) -> None:
        """Open the file that the name means now; enter our leases if it may be another than before."""
        if self._identity is not None and _identity(self.path) == self._identity:
            return
        with self._lock:
            if self._identity is not None:
                if _identity(self.path) == self._identity:
                    return
                _log.warning(
                    "the ledger's file was replaced; leases are entered again", extra={"path": str(self.path)}
                )
            self._prepare()
            # Looked at before the old connections are closed and again when the new one has been used: what any
            # thread opens between the two is this file. Nobody who holds a connection waits for the lock held here.
            found = _identity(self.path)
            self._database.close()
            self._seen.clear()
            self.epoch += 1
            with self._database.transaction() as connection:
                self._restore(connection)
            if found is None or _identity(self.path) != found:
                raise _ReplacedError
            self._identity = found

    def _prepare(self) -> None:
        """See that there is a directory and a file that only this user can read: notes quote cells."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._is_ours:
                _require_private(self.path.parent)
            self._create()
        except OSError as error:  # a StorageError too
            told = error.message if isinstance(error, StorageError) else error.strerror or str(error)
            raise StorageError(
                f"The ledger cannot be begun: {told}", subject=str(self.path), hint=_HINT
            ) from error

    def _create(self) -> None:
        """Make an empty file where there is none, without the log that a deleted one has left."""
        if self.path.exists():
            return
        with self._alone():
            if self.path.exists():
                return
            for suffix in ("-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))

    def _begin_anew(self, damaged: tuple[int, int] | None) -> None:
        with self._lock, self._alone():
            if _identity(self.path) != damaged:
                return  # another kernel, or another thread, was quicker
            with storage_errors(self.path, "moving the damaged ledger aside"):
                self._database.begin_anew()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No other kernel puts another file under the name meanwhile."""
        # The lock file is left where it is: who waits for it must not hold a lock on a deleted file.
        lock = PathLock(self.path.with_name(self.path.name + ".lock"))
        lock.acquire(_RENEW_TIMEOUT_S)
        try:
            yield
        finally:
            lock.release()


def _runtime_directory() -> Path:
    # It warns when there is no XDG_RUNTIME_DIR, which a user of a notebook server can do nothing about.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return Path(platformdirs.user_runtime_dir("xprim", appauthor=False))
        except OSError as error:  # somebody else made the directory that would be used
            raise StorageError(
                f"There is no runtime directory for the ledger: {error}", hint=_HINT
            ) from error


def _require_private(directory: Path) -> None:
    """Refuse a directory under a guessable name that somebody else made, or may write to."""
    if sys.platform == "win32":
        return  # below the user's own profile
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise StorageError(
            f"{directory} belongs to somebody else.",
            subject=str(directory),
            hint=_HINT,
        )
    if stat.S_IMODE(found.st_mode) != 0o700:
        directory.chmod(0o700)


def _identity(path: Path) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        found = path.stat()
        return found.st_dev, found.st_ino
    return None


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or "no such" in str(error)


def _is_unreadable(error: sqlite3.DatabaseError) -> bool:
    """True when the open file has changed below SQLite; opened again it tells whether it is damaged."""
    return _code(error) == sqlite3.SQLITE_IOERR


def _code(error: sqlite3.DatabaseError) -> int:
    # The low byte is the code, the rest says more about it.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
