"""A SQLite file as the checkpoints' database: write-ahead log, one connection a thread, for this user alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from xprim_nb import _sqlite
from xprim_nb.errors import DatabaseUnavailableError, StorageError

from .database import AbsentError, Database, Row, Session, Value
from .schema import MIGRATIONS

__all__ = ["SqliteDatabase"]

T = TypeVar("T")

_WORDS = {
    "bytes": "BLOB",
    "integer": "INTEGER",
    "serial": "INTEGER PRIMARY KEY AUTOINCREMENT",  # a number is never given twice
    "text": "TEXT",
    "compact": "WITHOUT ROWID",  # small rows, found by their key alone
}
# Each wait for other writers is ten seconds long; whoever is kept out for three of them meets a hung process.
_ATTEMPTS = 3
# Blobs are read without a system call for each page; 64-bit address space is plenty.
_MMAP_BYTES = 1 << 28


class _SqliteSession:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, parameters: Sequence[Value] = ()) -> list[Row]:
        return self._connection.execute(sql, parameters).fetchall()

    def run(self, sql: str, parameters: Sequence[Value] = ()) -> None:
        self._connection.execute(sql, parameters)

    def run_many(self, sql: str, parameters: Iterable[Sequence[Value]]) -> None:
        self._connection.executemany(sql, parameters)

    def insert(self, into: str, row: str, rows: Sequence[Sequence[Value]]) -> None:
        self.run_many(f"INSERT INTO {into} VALUES {row} ON CONFLICT DO NOTHING", rows)


class SqliteDatabase(Database):
    """The checkpoints of one SQLite file, which is created with its directory (0600, 0700).

    Args:
        path: The file.
        migrations: For tests of migrations.
    """

    def __init__(self, path: Path | str, *, migrations: Sequence[str] = MIGRATIONS) -> None:
        super().__init__()
        self._path = Path(path).expanduser()
        self._database = _sqlite.Database(
            self._path,
            [script.format(**_WORDS) for script in migrations],
            sync="NORMAL",
            private=True,
            mmap_bytes=_MMAP_BYTES,
            rebuilt="",
        )

    @property
    def address(self) -> str:
        """The file's path."""
        return str(self._path)

    def prepare(self) -> None:
        """Open the file on this thread, and bring its schema to this version."""
        self._guarded(lambda: self._read(lambda _: None))

    def read(self, work: Callable[[Session], T]) -> T:
        """What the work makes of one snapshot; writers are not kept out."""
        return self._guarded(lambda: self._read(work))

    def write(self, work: Callable[[Session], T], *, alone: bool = False) -> T:
        """The work's result, once it is in the file. SQLite has one writer at a time anyway."""
        return self._guarded(lambda: self._write(work))

    def compact(self) -> int:
        """Write the file anew without its free pages; so many bytes less, its log included."""
        before = self._size_bytes()
        self._guarded(self._vacuum)
        return before - self._size_bytes()

    def _vacuum(self) -> None:
        with self._database.reading() as connection:
            connection.execute("VACUUM")
            # The file anew is in the log until then, and the old one as long as before.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _size_bytes(self) -> int:
        files = (self._path, self._path.with_name(f"{self._path.name}-wal"))
        return sum(each.stat().st_size for each in files if each.exists())

    def _read(self, work: Callable[[Session], T]) -> T:
        with self._database.reading() as connection:
            connection.execute("BEGIN")
            try:
                return work(_SqliteSession(connection))
            finally:
                connection.rollback()

    def _write(self, work: Callable[[Session], T]) -> T:
        with self._database.transaction() as connection:
            return work(_SqliteSession(connection))

    def _guarded(self, attempt: Callable[[], T]) -> T:
        """The one place where SQLite's errors become ours."""
        self._belong()
        for number in range(1, _ATTEMPTS + 1):
            try:
                return attempt()
            except sqlite3.OperationalError as error:
                # The low byte is the code, the rest says more about it.
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise self._refused(error) from error
                if number == _ATTEMPTS:
                    raise DatabaseUnavailableError(
                        f"Another process has kept {self._path} locked all the time.",
                        subject=self.address,
                        hint="End the process that holds it, then run again: nothing is written twice.",
                    ) from error
            except sqlite3.IntegrityError as error:
                if error.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_NOTNULL:
                    raise AbsentError from error
                raise  # a mistake of ours, not the disk's
            except sqlite3.ProgrammingError:
                raise
            except sqlite3.DatabaseError as error:
                raise self._refused(error) from error
        raise AssertionError("the last attempt returns or raises")

    def _refused(self, error: sqlite3.Error) -> StorageError:
        return StorageError(f"{self._path} cannot be used: {error}", subject=self.address)

    def _disconnect(self) -> None:
        self._database.close()
