"""The owner of the three caches: one file, what is pending in memory, and the verbs over both.

Source: spec 6 §Caches.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from xprim_nb._hashing import Digest
from xprim_nb.errors import StorageError
from xprim_nb.prompts.answers import Answer
from xprim_nb.prompts.caches.answers import KEPT, Found, find_answer, has_answer, keep_answer
from xprim_nb.prompts.caches.aside import put_answer_aside
from xprim_nb.prompts.caches.calls import MOST_PER_MODEL, Call, calls_before, keep_call, last_finish
from xprim_nb.prompts.caches.file import CacheFile
from xprim_nb.prompts.caches.leases import Leases
from xprim_nb.prompts.caches.reasons import MissKind, MissReason, Remembered, first_difference, settings_of
from xprim_nb.prompts.caches.rotation import (
    Entry,
    Limits,
    Rotation,
    entries,
    erase,
    forget,
    plan_rotation,
    shrink,
)
from xprim_nb.prompts.caches.scaffolds import find_scaffold, has_scaffold, keep_scaffold, nearest
from xprim_nb.prompts.caches.uses import Uses, write_uses
from xprim_nb.prompts.prefix import Sent
from xprim_nb.prompts.rendered import Rendered
from xprim_nb.prompts.values import ResolveInput

__all__ = ["CacheStats", "Caches"]

_log = logging.getLogger("xprim_nb.prompts")


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What the caches hold; three figures, never one.

    Attributes:
        answers: Answers that are kept.
        scaffolds: Rendered prompts.
        sent: Calls in the record of prefixes.
        damaged: Rows that were put aside.
        size_bytes: What the file takes on the disk.
        moved_aside: Whole files that could not be read and lie beside this one.
    """

    answers: int
    scaffolds: int
    sent: int
    damaged: int
    size_bytes: int
    moved_aside: tuple[Path, ...]


class Caches:
    """The caches of one base, and in `leases` who is asking. Thread-safe; owns its connections until `close`.

    Args:
        folder: `<base>/prompts`; it is made, for this user alone.
        limits: How much is kept by `rotate`.
        most_sent: Calls remembered of each provider's model.
        now: Seconds since 1970.
    """

    def __init__(
        self,
        folder: Path,
        *,
        limits: Limits | None = None,
        most_sent: int = MOST_PER_MODEL,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.path = folder / "cache.sqlite"
        self.limits = limits or Limits()
        self._file, self._uses = CacheFile(self.path), Uses()
        self._most_sent, self.now = most_sent, now
        self.leases = Leases(self._file, now)

    def look_up(self, request: Digest) -> Found:
        """The kept answer of a request. A hit writes nothing: its use is counted in memory.

        Raises:
            StorageError: The file cannot be read.
            MissingExtraError: The answer was packed by zstandard, which is not installed here.
        """
        found = self._file.read(lambda connection: find_answer(connection, request))
        if found.answer is not None:
            self._uses.note(request, self.now())
        elif found.trouble == "damaged":
            self._put_aside(request, found)
        return found

    def holds(self, request: Digest, renderer: str = "") -> tuple[bool, bool]:
        """Whether an answer of a request is kept, and what this renderer made of it; looking is no use of either.

        Raises:
            StorageError: The file cannot be read.
        """
        return self._file.read(lambda db: (has_answer(db, request), has_scaffold(db, request, renderer)))

    def keep(
        self,
        request: Digest,
        asked: ResolveInput,
        rendered: Rendered,
        answer: Answer | None,
        sent: Call | None = None,
    ) -> None:
        """Keep what was rendered, what was sent, and the answer where there is one to keep; all of it or nothing.

        What is handed in is written as it is: it must be free of secrets.

        Raises:
            StorageError: The file cannot be written.
            TypeError: Something in it is not JSON.
        """
        now_s = self.now()
        remembered = Remembered(request, now_s, settings_of(asked), rendered)

        def write(connection: sqlite3.Connection) -> None:
            keep_scaffold(connection, remembered)
            if answer is not None and answer.finish in KEPT:
                # By when it was asked for: whoever wants one from now on is not served with what was under way then.
                keep_answer(connection, request, asked, answer, min(now_s, sent.at) if sent else now_s)
            if sent is not None:
                keep_call(connection, sent, self._most_sent)

        self._writing(write)

    def why_missed(
        self, request: Digest, asked: ResolveInput, rendered: Rendered, found: Found
    ) -> MissReason:
        """What tells a request from the nearest earlier one; asked before this one is kept.

        Raises:
            StorageError: The file cannot be read.
        """
        if found.trouble == "damaged":
            return MissReason("damaged", earlier=request, detail=found.detail)
        if found.trouble == "version":
            return MissReason("version", earlier=request, detail=found.detail)

        def read(connection: sqlite3.Connection) -> tuple[str, Remembered | None]:
            finish = last_finish(connection, request)
            same = find_scaffold(connection, request, rendered.renderer)
            return finish, same or nearest(connection, rendered)

        finish, near = self._file.read(read)
        if finish:
            kind: MissKind = "gone" if finish in KEPT else "not_kept"
            at = near.at if near is not None and near.request == request else 0.0
            return MissReason(kind, earlier=request, earlier_at=at, detail=finish)
        if near is None:
            return MissReason("first")
        return first_difference(Remembered(request, self.now(), settings_of(asked), rendered), near)

    def scaffold(self, request: Digest, renderer: str = "") -> Remembered | None:
        """What was rendered for a request.

        Raises:
            StorageError: The file cannot be read.
        """
        return self._file.read(lambda connection: find_scaffold(connection, request, renderer))

    def calls(self, provider: str = "", model: str = "", last: int = MOST_PER_MODEL) -> tuple[Call, ...]:
        """The last calls of a model, the earliest first; of all when none is named.

        Raises:
            StorageError: The file cannot be read.
        """
        return self._file.read(lambda connection: calls_before(connection, provider, model, last))

    def history(self, provider: str, model: str, last: int = 50, with_texts: int = 8) -> tuple[Sent, ...]:
        """What a provider's cache remembers of a model, for `prefix.predict` and `explain`; the earliest first.

        Args:
            provider: Whose cache.
            model: Which model.
            last: So many calls.
            with_texts: So many of the latest with their texts, where they are still known: each is read from the disk.

        Raises:
            StorageError: The file cannot be read.
        """

        def read(connection: sqlite3.Connection) -> tuple[Sent, ...]:
            calls = [each for each in calls_before(connection, provider, model, last) if each.scope]
            told = []
            for index, call in enumerate(calls):
                near = index >= len(calls) - with_texts
                known = find_scaffold(connection, call.request, call.renderer) if near else None
                segments = known.rendered.segments if known is not None else ()
                told.append(call.as_sent(tuple(each.text for each in segments)))
            return tuple(told)

        return self._file.read(read)

    def entries(self) -> list[Entry]:
        """All that is kept, as `rotate` weighs it."""
        self.flush()
        return self._file.read(entries)

    def plan_rotation(self, limits: Limits | None = None) -> Rotation:
        """What `rotate` would forget now."""
        return plan_rotation(self.entries(), limits or self.limits, self.now())

    def rotate(self, plan: Rotation | None = None) -> Rotation:
        """Forget what is too old or too much, and tell what; what was used since the plan stays.

        Raises:
            StorageError: The file cannot be written.
        """
        plan = plan or self.plan_rotation()
        if plan.forgotten:
            self._writing(lambda connection: forget(connection, plan))
            try:
                self._file.read(shrink)
            except StorageError as error:  # others are at work; there will be another rotation
                _log.info("the cache's file was not made smaller: %s", error.message)
        return plan

    def erase(self, request: Digest) -> int:
        """Erase all that is kept of a request, its bytes in free pages and in the log too; how many rows went.

        Raises:
            StorageError: The file cannot be written.
        """
        return self._erase(request)

    def clear(self) -> int:
        """Erase everything that is kept; how many rows went.

        Raises:
            StorageError: The file cannot be written.
        """
        return self._erase(None)

    def stats(self) -> CacheStats:
        """What there is.

        Raises:
            StorageError: The file cannot be read.
        """
        tables = ("answers", "scaffolds", "sent", "damaged")

        def count(connection: sqlite3.Connection) -> list[int]:
            return [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]

        answers, scaffolds, sent, damaged = self._file.read(count)
        aside = sorted(self.path.parent.glob(f"{self.path.name}.damaged-*"))
        whole = tuple(path for path in aside if not path.name.endswith(("-wal", "-shm")))
        return CacheStats(answers, scaffolds, sent, damaged, self._file.size_bytes(), whole)

    @property
    def flush_due(self) -> bool:
        """True when so many uses wait, or for so long, that `flush` should be called, from wherever nobody waits."""
        return self._uses.due(self.now())

    def flush(self) -> None:
        """Write the uses that wait.

        Raises:
            StorageError: The file cannot be written; they wait on.
        """
        if self._uses.pending:
            self._writing(lambda _: None)

    def close(self) -> None:
        """Write what waits, where that is possible, and close the file; the next use opens it again."""
        try:
            self.flush()
        except StorageError as error:
            _log.warning("uses of cached answers were not written: %s", error.message)
        self._file.close()

    def _writing(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """One transaction that takes the pending uses with it."""
        taken = self._uses.take()

        def whole(connection: sqlite3.Connection) -> None:
            write_uses(connection, taken)
            work(connection)

        try:
            self._file.write(whole)
        except BaseException:
            self._uses.give_back(taken, self.now())
            raise

    def _put_aside(self, request: Digest, found: Found) -> None:
        now_s = self.now()
        try:
            self._file.write(lambda file: put_answer_aside(file, request, found.detail, found.value, now_s))
        except StorageError as error:
            _log.warning("a damaged answer stays where it is: %s", error.message)

    def _erase(self, request: Digest | None) -> int:
        gone = self._file.write(lambda connection: erase(connection, request))
        # The log holds copies of pages as they were.
        self._file.read(lambda connection: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone())
        return gone
