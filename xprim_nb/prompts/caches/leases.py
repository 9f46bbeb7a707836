"""Who is being answered: equal requests of several processes are one call, and the others wait for what comes of it.

A lease is a row that says who asks, and until when that is believed unless it is said again:

    1. There is none, or one that has ended, or that nobody renewed: it is ours.
    2. Its process is dead: it is ours. A number alone is given out again, so it is compared with the process's start.
    3. Else another has it.

A process of another boot or namespace, a container that shares the folder say, cannot be looked at: of its lease only the
time tells. A lease that claims to be longer than any is none: the clock was set back.

A lease saves a call and guards nothing: an answer that two have asked for is kept twice under one name.

Source: spec 6 §Caches ("single-flight for equal requests").
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from xprim_nb._hashing import Digest
from xprim_nb._processes import started_mark, this_boot
from xprim_nb.prompts.answers import Answer
from xprim_nb.prompts.caches.answers import find_answer
from xprim_nb.prompts.caches.file import CacheFile

__all__ = ["LEASE_S", "RENEWED_S", "Lease", "Leases", "Seen", "Wish"]

LEASE_S: Final = 15.0
"""A process that is stopped or hangs holds others up for so long; a dead one is seen at once."""
RENEWED_S: Final = 4.0
"""A lease is renewed so often: two renewals may be late."""
# Clocks are set by fractions of a second all the time; a lease that is further ahead was written before one was set back.
_MOST_AHEAD_S: Final = 2 * LEASE_S

Wish: TypeAlias = Literal["use", "refresh"]
"""`use` is content with any answer, `refresh` only with one that was asked for by another `refresh`."""

_COLUMNS: Final = ("id", "pid", "started", "boot", "since_s", "until_s", "ended")
_OF_REQUEST: Final = f"""SELECT {", ".join(_COLUMNS)} FROM leases
    WHERE request = ?1 AND (?2 = 'use' OR wish = ?2) ORDER BY since_s"""


@dataclass(frozen=True, slots=True)
class Lease:
    """One process's word that it asks.

    Attributes:
        id: Random.
        pid: Its process.
        started: The process's `started_mark`.
        boot: Where that number means something.
        since_s: When it began, in seconds since 1970.
        until_s: Until when it is believed.
        ended: It has been answered or not; there is nothing more to wait for.
    """

    id: str = field(default_factory=lambda: secrets.token_hex(8))
    pid: int = field(default_factory=os.getpid)
    started: float = field(default_factory=lambda: started_mark(os.getpid()) or 0.0)
    boot: str = field(default_factory=this_boot)
    since_s: float = 0.0
    until_s: float = 0.0
    ended: bool = False

    def is_live(self, now_s: float) -> bool:
        """Whether its holder may still be asking."""
        if self.ended or not now_s < self.until_s <= now_s + _MOST_AHEAD_S:
            return False
        return self.boot != this_boot() or started_mark(self.pid) == self.started


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is of a request.

    Attributes:
        lease: Whose turn it is; None when it is ours, or nobody's.
        answer: What was kept meanwhile.
    """

    lease: Lease | None = None
    answer: Answer | None = None


class Leases:
    """The leases of one base. Thread-safe; its file is its owner's.

    Args:
        file: Where the answers are, too.
        now: Seconds since 1970.
    """

    def __init__(self, file: CacheFile, now: Callable[[], float]) -> None:
        self._file, self._now = file, now

    def take(self, request: Digest, wish: Wish, own: Lease) -> Seen:
        """Ours from now on, by the rules above, unless it is another's or there is an answer by now.

        Raises:
            StorageError: The file cannot be written.
            MissingExtraError: The answer was packed by zstandard, which is not installed here.
        """
        now_s = self._now()

        def take(connection: sqlite3.Connection) -> Seen:
            answer = find_answer(connection, request).answer if wish == "use" else None
            held = next((each for each in _leases(connection, request, wish) if each.is_live(now_s)), None)
            if held is None and answer is None:
                _enter(connection, request, wish, own, now_s)
            return Seen(held, answer)

        return self._file.write(take)

    def look(self, request: Digest, wish: Wish, held: Lease) -> Seen:
        """What has become of another's lease; its answer, if it is there. None of both: nobody's turn, by the rules above.

        Raises:
            StorageError: The file cannot be read.
            MissingExtraError: See `take`.
        """
        now_s = self._now()

        def look(connection: sqlite3.Connection) -> Seen:
            # An answer is kept before its lease ends, and so is looked for after.
            found = next((each for each in _leases(connection, request, "use") if each.id == held.id), None)
            since_s = held.since_s if wish == "refresh" else 0.0
            answer = find_answer(connection, request, since_s).answer
            is_theirs = found is not None and (found.ended or found.is_live(now_s))
            return Seen(found if is_theirs else None, answer)

        return self._file.read(look)

    def renew(self, request: Digest, own: Lease) -> bool:
        """Say again that one asks; False when another has taken it over.

        Raises:
            StorageError: The file cannot be written.
        """
        return self._update(request, own, ended=False)

    def end(self, request: Digest, own: Lease) -> bool:
        """Say that there is nothing more to wait for: who waits has an answer by now, or asks for itself.

        Raises:
            StorageError: The file cannot be written.
        """
        return self._update(request, own, ended=True)

    def _update(self, request: Digest, own: Lease, *, ended: bool) -> bool:
        values = (self._now() + LEASE_S, ended, bytes.fromhex(request), own.id)
        sql = "UPDATE leases SET until_s = ?, ended = ? WHERE request = ? AND id = ? AND NOT ended"
        return self._file.write(lambda connection: connection.execute(sql, values).rowcount > 0)


def _enter(connection: sqlite3.Connection, request: Digest, wish: Wish, own: Lease, now_s: float) -> None:
    # With it go those that nobody came back to; an ended one is looked at within a moment by who waited for it.
    connection.execute(
        "DELETE FROM leases WHERE until_s <= ?1 OR until_s > ?2 OR (request = ?3 AND wish = ?4)",
        (now_s, now_s + _MOST_AHEAD_S, bytes.fromhex(request), wish),
    )
    connection.execute(
        f"INSERT INTO leases (request, wish, {', '.join(_COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)",
        (bytes.fromhex(request), wish, own.id, own.pid, own.started, own.boot, now_s, now_s + LEASE_S),
    )


def _leases(connection: sqlite3.Connection, request: Digest, wish: Wish) -> list[Lease]:
    rows = connection.execute(_OF_REQUEST, (bytes.fromhex(request), wish)).fetchall()
    return [Lease(**dict(zip(_COLUMNS, row, strict=True))) for row in rows]
