"""How often what is kept was used, and when last: counted in memory, and written together now and then.

An UPDATE for each hit would make a reader wait for writers, and cost more than the look-up itself.

Source: research/prompts §6 (16), §4.1 ("WAL with a hit-counter UPDATE per hit").
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping
from typing import TypeAlias

from xprim_nb._hashing import Digest

__all__ = ["Uses", "write_uses"]

# A killed kernel loses at most so much knowledge of what was used, and no answer.
_MOST_PENDING = 500
_MOST_AGE_S = 60.0

Pending: TypeAlias = Mapping[Digest, tuple[int, float]]


class Uses:
    """Counts that wait to be written. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: dict[Digest, tuple[int, float]] = {}
        self._since_s: float | None = None

    def note(self, request: Digest, now_s: float) -> None:
        """One answer was used."""
        with self._lock:
            self._pending[request] = (self._pending.get(request, (0, 0.0))[0] + 1, now_s)
            if self._since_s is None:
                self._since_s = now_s

    def due(self, now_s: float) -> bool:
        """True when so much waits, or for so long, that it should be written."""
        since_s = self._since_s
        return since_s is not None and (len(self._pending) >= _MOST_PENDING or now_s - since_s >= _MOST_AGE_S)

    @property
    def pending(self) -> int:
        """How many answers have uses that wait."""
        return len(self._pending)

    def take(self) -> Pending:
        """What waits; the caller writes it, or gives it back."""
        with self._lock:
            taken, self._pending, self._since_s = self._pending, {}, None
            return taken

    def give_back(self, taken: Pending, now_s: float) -> None:
        """What could not be written waits again."""
        with self._lock:
            for request, (uses, last_used_at) in taken.items():
                more, later = self._pending.get(request, (0, 0.0))
                self._pending[request] = (uses + more, max(last_used_at, later))
            if self._pending and self._since_s is None:
                self._since_s = now_s


def write_uses(connection: sqlite3.Connection, pending: Pending) -> None:
    """Add counts to those of the file; of answers that are gone nothing is kept."""
    connection.executemany(
        """INSERT INTO uses (request, last_used_at, uses) SELECT ?1, ?2, ?3
        WHERE EXISTS (SELECT 1 FROM answers WHERE request = ?1)
        ON CONFLICT (request) DO UPDATE SET uses = uses + excluded.uses,
            last_used_at = max(last_used_at, excluded.last_used_at)""",
        [(bytes.fromhex(request), at, uses) for request, (uses, at) in pending.items()],
    )
