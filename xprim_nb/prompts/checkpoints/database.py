"""One way to talk to SQLite and to PostgreSQL: a piece of work is handed a session, and is a transaction.

Work is written once, as a function of a `Session`, in SQL that both databases read. `write` runs it in one transaction and
may run it again when the connection broke or another writer was in the way, so work must be repeatable: it inserts by
key, and changes nothing outside the session. Whoever is on an event loop takes `aside`, which runs anything here on
a thread of the database's own.

    database ─┬─▶ sqlite_database     a file, one connection a thread
              └─▶ postgres_database   a pool of connections

SQL differs in these words only, which scripts and statements write in braces: `{bytes}`, `{integer}`, `{serial}`, `{text}`,
`{compact}`. A parameter is `?`.

Source: spec 6 §Checkpoints; research prompts §3 (locked databases), §6.22.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar

from xprim_nb.errors import DatabaseUnavailableError

__all__ = ["AbsentError", "Database", "Row", "Session", "Value", "chunks", "marks"]

T = TypeVar("T")
P = ParamSpec("P")

Value: TypeAlias = str | bytes | int | float | None
"""What a column holds."""
Row: TypeAlias = tuple[Any, ...]
"""One row of an answer; the statement says what its columns are."""

# A statement names at most this many values; both databases take more, and a longer one gains nothing.
_MOST_MARKS = 500
# Work on a database is short, and SQLite lets one writer in at a time.
_THREADS = 4


class AbsentError(Exception):
    """A row was to have something that another row says, and there is no such row; nothing was written."""


class Session(Protocol):
    """One transaction, as the work that is done in it sees it."""

    def rows(self, sql: str, parameters: Sequence[Value] = ()) -> list[Row]:
        """All rows of an answer."""
        ...

    def run(self, sql: str, parameters: Sequence[Value] = ()) -> None:
        """Carry a statement out, before any later one; what it raises may come with a later one, or at the end."""
        ...

    def run_many(self, sql: str, parameters: Iterable[Sequence[Value]]) -> None:
        """Carry a statement out for each of the parameters."""
        ...

    def insert(self, into: str, row: str, rows: Sequence[Sequence[Value]]) -> None:
        """Insert these in their order, but those whose key is there already.

        Two calls in a row for two tables may be one statement, in which neither sees what the other inserts.

        Args:
            into: The table and its columns: `items (name, size)`.
            row: What one row is made of: `(?, ?)`.
            rows: The parameters of each.
        """
        ...


class Database(ABC):
    """A database that outlives the kernel. Thread-safe; `close` ends it, and it may be opened again by use.

    It belongs to the process that used it first: a forked child opens another, and closing this one there does nothing.

    Raises:
        StorageError: The disk refused, the database is damaged, or a newer version wrote it.
        DatabaseUnavailableError: It does not answer, or a forked child uses what its parent has open. What was
            acknowledged before is kept.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self._process: int | None = None

    @property
    @abstractmethod
    def address(self) -> str:
        """Where it is, with no password in it."""

    @abstractmethod
    def prepare(self) -> None:
        """Connect, and bring the schema to this version. Any other call does so too."""

    @abstractmethod
    def read(self, work: Callable[[Session], T]) -> T:
        """What the work makes of one unchanging state of the database."""

    @abstractmethod
    def write(self, work: Callable[[Session], T], *, alone: bool = False) -> T:
        """The work's result, once all that it wrote is kept; nothing is kept when it raises.

        Args:
            work: May run more than once.
            alone: Nobody else writes meanwhile, and what they wrote before is seen: for whoever takes away what
                nothing refers to any more.

        Raises:
            AbsentError: A column that must have a value would have none.
        """

    @abstractmethod
    def compact(self) -> int:
        """Give back the room of what was taken away; so many bytes less than before.

        SQLite writes the file anew, which takes as much room again meanwhile, keeps writers out, and waits for none;
        where somebody reads, the file gets shorter when they have ended. A PostgreSQL server gives back what it can
        without keeping anybody out, and uses the rest again.
        """

    @abstractmethod
    def _disconnect(self) -> None:
        """End every connection."""

    async def aside(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a call made on one of the database's threads, while the loop goes on.

        A call that was cancelled runs to its end, and its result is dropped.
        """
        self._belong()
        with self._guard:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="xprim-database")
            threads = self._threads
        call = functools.partial(contextvars.copy_context().run, function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(threads, call)

    async def aread(self, work: Callable[[Session], T]) -> T:
        """`read`, for callers on an event loop."""
        return await self.aside(self.read, work)

    async def awrite(self, work: Callable[[Session], T], *, alone: bool = False) -> T:
        """`write`, for callers on an event loop."""
        return await self.aside(self.write, work, alone=alone)

    def close(self) -> None:
        """End it when what runs has ended. Closing twice is closing once."""
        if self._process not in (None, os.getpid()):
            return  # the parent's connections: ending them here would end them there
        with self._guard:
            threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=True)
        self._disconnect()
        self._process = None

    def _belong(self) -> None:
        """Before anything else: a lock may be held, and a connection shared, by what the child does not have."""
        process = os.getpid()
        if self._process is None:
            self._process = process
        elif self._process != process:
            raise DatabaseUnavailableError(
                f"{self.address} was opened by process {self._process}, and this is its child {process}.",
                subject=self.address,
                hint="Open another saver or store in the child: one connection cannot serve two processes.",
            )

    async def aclose(self) -> None:
        """`close`, for callers on an event loop."""
        await asyncio.to_thread(self.close)


def marks(count: int) -> str:
    """So many `?`, with commas between.

    >>> marks(3)
    '?,?,?'
    """
    return ",".join("?" * count)


def chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """The values in pieces that a statement can name."""
    for start in range(0, len(values), _MOST_MARKS):
        yield values[start : start + _MOST_MARKS]
