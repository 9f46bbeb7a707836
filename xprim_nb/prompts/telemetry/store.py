"""`prompts/telemetry.sqlite`: the records, gathered in memory and written together now and then.

Who records waits for no disk. What a killed process had not written yet is lost, at most `MOST_PENDING` records or those
of `MOST_AGE_S`; no answer hangs on them. Whoever reads, reads what others of this process have noted too.

Source: spec 6 §Telemetry; research/prompts §6 (16: no UPDATE for each hit).
"""

from __future__ import annotations

import functools
import json
import logging
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from xprim_nb._hashing import Digest
from xprim_nb._sqlite import Database
from xprim_nb.errors import StorageError
from xprim_nb.prompts.answers import Usage
from xprim_nb.prompts.asked import Passed
from xprim_nb.prompts.redaction import Redactor
from xprim_nb.prompts.telemetry.records import CACHES, Operation, Outcome, Record, record_of

__all__ = ["MIGRATIONS", "MOST_AGE_S", "MOST_PENDING", "OnRecord", "Telemetry"]

_log = logging.getLogger("xprim_nb.prompts")

OnRecord: TypeAlias = Callable[[Passed, Record], object]
"""Told each question that is over, with its record, free of secrets; it must not wait."""

MOST_PENDING: Final = 500
"""So many records are written together: some milliseconds of work for a thread that nobody waits for."""
MOST_AGE_S: Final = 60.0
"""No record waits longer, as long as others come."""
# What cannot be written waits; past this the oldest are given up, so that a full disk fills no memory too.
_MOST_WAITING: Final = 20 * MOST_PENDING
# A year of a busy person's calls, some 40 MB.
_MOST_KEPT: Final = 200_000

# The names in a record are the user's own words; each is searched for secrets before it is written.
_NAMES: Final = ("scaffold_type", "checkpoint", "model")
_USAGE: Final = tuple(each.name for each in fields(Usage))

MIGRATIONS = (
    # Hashes are their 32 bytes, empty for none; times seconds since 1970; money decimal text, so that no digit is lost.
    """
    CREATE TABLE records (
        id INTEGER PRIMARY KEY,
        at_s REAL NOT NULL,
        operation TEXT NOT NULL,
        provider TEXT NOT NULL,
        model TEXT NOT NULL,
        scaffold BLOB NOT NULL,
        scaffold_type TEXT NOT NULL,
        request BLOB NOT NULL,
        checkpoint TEXT NOT NULL,
        finish TEXT NOT NULL,
        error TEXT NOT NULL,
        is_sent INTEGER NOT NULL,
        input_tokens INTEGER,
        output_tokens INTEGER,
        cache_read_tokens INTEGER,
        cache_write_5m_tokens INTEGER,
        cache_write_1h_tokens INTEGER,
        reported INTEGER,
        estimated TEXT,
        billed TEXT,
        saved TEXT,
        saved_tokens INTEGER NOT NULL,
        latency_s REAL NOT NULL,
        first_token_s REAL NOT NULL,
        scaffold_hit INTEGER,
        scaffold_reason TEXT NOT NULL,
        response_hit INTEGER,
        response_reason TEXT NOT NULL,
        prefix_hit INTEGER,
        prefix_reason TEXT NOT NULL,
        predicted_read_tokens INTEGER
    );
    CREATE INDEX records_at ON records (at_s);
    CREATE INDEX records_of_checkpoint ON records (checkpoint, id);
    CREATE INDEX records_of_scaffold ON records (scaffold, id);
    CREATE INDEX scaffold_of_request ON records (request, id) WHERE scaffold != x''
    """,
)

_PLAIN: Final = (
    *("at_s", "operation", "provider", "model", "scaffold", "scaffold_type", "request", "checkpoint"),
    *("finish", "error", "is_sent"),
)
_MONEY: Final = ("estimated", "billed", "saved")
_LATER: Final = ("saved_tokens", "latency_s", "first_token_s")
_OUTCOMES: Final = tuple(f"{cache}_{what}" for cache in CACHES for what in ("hit", "reason"))
_COLUMNS: Final = (*_PLAIN, *_USAGE, *_MONEY, *_LATER, *_OUTCOMES, "predicted_read_tokens")

# An answer from the cache was not resolved: its scaffold is that of the call which it came from.
_SCAFFOLD: Final = """CASE WHEN :scaffold != x'' THEN :scaffold ELSE coalesce((SELECT scaffold FROM records
    WHERE request = :request AND scaffold != x'' ORDER BY id DESC LIMIT 1), x'') END"""
_VALUES: Final = ", ".join(_SCAFFOLD if name == "scaffold" else f":{name}" for name in _COLUMNS)
_INSERT: Final = f"INSERT INTO records ({', '.join(_COLUMNS)}) VALUES ({_VALUES})"


# All that write, so that who reads a file has the others' records of it written before. They go with their owners.
_writing: weakref.WeakSet[Telemetry] = weakref.WeakSet()
_writing_lock = threading.Lock()


class Telemetry:
    """The records of one base. Thread-safe; owns a thread and its connections until `close`.

    Args:
        folder: `<base>/prompts`; it is made, for this user alone.
        redact: Takes secrets out of names.
        now: Seconds since 1970.
        most_kept: The oldest records past so many are forgotten.
    """

    def __init__(
        self,
        folder: Path,
        *,
        redact: Redactor | None = None,
        now: Callable[[], float] = time.time,
        most_kept: int = _MOST_KEPT,
    ) -> None:
        self.path = folder / "telemetry.sqlite"
        self._database = Database(self.path, MIGRATIONS, sync="NORMAL", private=True, rebuilt="")
        self._now, self._most_kept = now, most_kept
        # People have few names, and each is searched for a tenth of a millisecond.
        self._clean = functools.lru_cache(maxsize=1000)((redact or Redactor()).text)
        self._lock, self._flushing = threading.Lock(), threading.Lock()
        self._pending: list[Record] = []
        self._since_s = 0.0
        self._is_due = False
        self._writer: ThreadPoolExecutor | None = None
        self.on_record: OnRecord | None = None
        """Whom an observer tells its questions to besides; what it raises goes to whoever asked the observer."""
        self.lost = 0
        """Records that could not be written for so long that they were given up."""
        self._place = self.path.resolve()
        with _writing_lock:
            _writing.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def record(self, record: Record) -> None:
        """Note it; it is written with others, later and by another thread. Never waits for a disk, never raises."""
        now_s = self._now()
        with self._lock:
            if not self._pending:
                self._since_s = now_s
            self._pending.append(record)
            is_due = len(self._pending) >= MOST_PENDING or now_s - self._since_s >= MOST_AGE_S
            if not is_due or self._is_due:
                return
            self._is_due = True
            if self._writer is None:
                self._writer = ThreadPoolExecutor(1, thread_name_prefix="xprim-telemetry")
            self._writer.submit(self._flush_quietly)

    def observer(self, operation: Operation = "ask") -> Callable[[Passed], None]:
        """What an `Asker` tells its questions to: `Asker(caches, on_call=telemetry.observer())`."""

        def on_call(passed: Passed) -> None:
            record = record_of(passed, operation)
            self.record(record)
            if self.on_record is not None:
                self.on_record(passed, self._cleaned(record))

        return on_call

    def checkpoints(self) -> frozenset[str]:
        """What records say that they belong to; what waits is written before.

        Raises:
            StorageError: The file cannot be read or written.
        """
        self._flush_all()
        return frozenset(row[0] for row in self._rows("SELECT DISTINCT checkpoint FROM records", ())) - {""}

    def records(
        self,
        *,
        checkpoints: Collection[str] = (),
        scaffold: str = "",
        since_s: float = 0.0,
        last: int = _MOST_KEPT,
    ) -> tuple[Record, ...]:
        """The last records, the earliest first; what waits is written before, here and by others of this process.

        Args:
            checkpoints: Of these alone; of all when empty.
            scaffold: Of this hash alone.
            since_s: None that began earlier, in seconds since 1970.
            last: So many.

        Raises:
            StorageError: The file cannot be read or written.
        """
        self._flush_all()
        wanted: list[tuple[str, object]] = [("at_s >= ?", since_s)]
        if checkpoints:
            # One value, however many they are: SQLite takes so many variables and no more.
            wanted.append(("checkpoint IN (SELECT value FROM json_each(?))", json.dumps(sorted(checkpoints))))
        if scaffold:
            wanted.append(("scaffold = ?", bytes.fromhex(scaffold)))
        where = " AND ".join(condition for condition, _ in wanted)
        query = f"SELECT {', '.join(_COLUMNS)} FROM records WHERE {where} ORDER BY id DESC LIMIT ?"
        rows = self._rows(query, (*(value for _, value in wanted), last))
        return tuple(_read(dict(zip(_COLUMNS, row, strict=True))) for row in reversed(rows))

    def flush(self) -> None:
        """Write what waits.

        Raises:
            StorageError: The file cannot be written; the records wait on.
        """
        with (
            self._flushing
        ):  # one at a time: an answer from the cache takes its scaffold from an earlier record
            with self._lock:
                taken, self._pending, self._is_due = self._pending, [], False
            if not taken:
                return
            try:
                with self._database.transaction() as connection:
                    connection.executemany(_INSERT, [self._row(record) for record in taken])
                    connection.execute(
                        """DELETE FROM records WHERE id <= (
                            SELECT id FROM records ORDER BY id DESC LIMIT 1 OFFSET ?)""",
                        (self._most_kept,),
                    )
            except (sqlite3.Error, StorageError) as error:
                self._give_back(taken)
                raise self._refused(error) from error

    def close(self) -> None:
        """Write what waits, where that is possible, and close the file; the next use opens it again."""
        with self._lock:
            writer, self._writer = self._writer, None
        if writer is not None:
            writer.shutdown()
        self._flush_quietly()
        self._database.close()

    def _rows(self, query: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        try:
            with self._database.reading() as connection:
                return connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._refused(error) from error

    def _flush_all(self) -> None:
        """Write what waits here, and with all others of this process that write the same file."""
        with _writing_lock:
            others = [each for each in _writing if each is not self and each._place == self._place]
        for each in (self, *others):
            each.flush()

    def _flush_quietly(self) -> None:
        try:
            self.flush()
        except StorageError as error:  # nobody waits for this, and it is tried again
            _log.warning("telemetry was not written: %s", error.message)

    def _give_back(self, taken: list[Record]) -> None:
        with self._lock:
            waiting = [*taken, *self._pending]
            self.lost += max(0, len(waiting) - _MOST_WAITING)
            self._pending, self._since_s = waiting[-_MOST_WAITING:], self._now()

    def _cleaned(self, record: Record) -> Record:
        names: dict[str, Any] = {name: self._clean(getattr(record, name)) for name in _NAMES}
        return replace(record, **names)

    def _row(self, record: Record) -> dict[str, object]:
        record = self._cleaned(record)
        row: dict[str, object] = {name: getattr(record, name) for name in (*_PLAIN, *_LATER)}
        row |= {name: bytes.fromhex(getattr(record, name)) for name in ("scaffold", "request")}
        row |= {name: None if record.usage is None else getattr(record.usage, name) for name in _USAGE}
        for name in _MONEY:
            amount = getattr(record, name)
            row[name] = None if amount is None else str(amount)
        for cache in CACHES:
            row[f"{cache}_hit"], row[f"{cache}_reason"] = record.outcome(cache)
        return row | {"predicted_read_tokens": record.predicted_read_tokens}

    def _refused(self, error: Exception) -> StorageError:
        if isinstance(error, StorageError):
            return error
        return StorageError(
            f"{self.path} cannot be used: {error}.",
            subject=str(self.path),
            hint="Check the disk and the file's permissions. Nothing but numbers is in it: it may be moved away.",
        )


def _read(row: Mapping[str, Any]) -> Record:
    usage = None
    if row["input_tokens"] is not None:
        usage = Usage(
            **{name: row[name] for name in _USAGE if name != "reported"}, reported=bool(row["reported"])
        )
    told: dict[str, Any] = {
        f"in_{cache}": Outcome(
            None if row[f"{cache}_hit"] is None else bool(row[f"{cache}_hit"]), row[f"{cache}_reason"]
        )
        for cache in CACHES
    }
    told |= {name: row[name] for name in (*_PLAIN, *_LATER) if name not in ("scaffold", "request", "is_sent")}
    told |= {name: None if row[name] is None else Decimal(row[name]) for name in _MONEY}
    return Record(
        **told,
        scaffold=Digest(row["scaffold"].hex()) if row["scaffold"] else "",
        request=Digest(row["request"].hex()) if row["request"] else "",
        is_sent=bool(row["is_sent"]),
        usage=usage,
        predicted_read_tokens=row["predicted_read_tokens"],
    )
