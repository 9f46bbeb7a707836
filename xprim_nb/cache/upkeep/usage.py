"""When each model was last used, and how often: counted in memory, written in batches.

What is lost in a crash is a few counts. Reading never writes.

Source: spec 2 §Status ("usage is recorded in batches, so that reading does not write").
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from xprim_nb.cache.state import State
from xprim_nb.refs import ModelRef

__all__ = ["Usage", "Used"]

# Whichever comes first: a notebook that opens one file a minute is written down within the hour, a loop at once.
_BATCH = 64
_OLDEST_S = 300.0


@dataclass(frozen=True, slots=True)
class Used:
    """How a model was used.

    Attributes:
        ref: Which, as text.
        last_used_at: In unix seconds.
        uses: How often.
    """

    ref: str
    last_used_at: float
    uses: int

    @property
    def when(self) -> datetime:
        """The last use, in UTC."""
        return datetime.fromtimestamp(self.last_used_at, UTC)


class Usage:
    """Counts uses. Thread-safe; `flush` writes, and is called at the end.

    Args:
        state: The database.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._pending: dict[str, Used] = {}
        self._since = 0.0

    def touch(self, ref: ModelRef, at: float | None = None) -> bool:
        """Count one use; in memory only. True when it is time to `flush`.

        Args:
            ref: Which model.
            at: When, in unix seconds; now when None.
        """
        when, key = time.time() if at is None else at, str(ref)
        with self._lock:
            if not self._pending:
                self._since = time.monotonic()
            self._pending[key] = _sum(self._pending.get(key), Used(key, when, 1))
            counted = sum(each.uses for each in self._pending.values())
            return counted >= _BATCH or time.monotonic() - self._since >= _OLDEST_S

    def flush(self) -> None:
        """Write what was counted; kept for later when the database is not usable."""
        with self._lock:
            pending, self._pending = self._pending, {}
        if pending and not self._state.guarded(lambda: self._write(pending), False):
            with self._lock:
                for key, each in pending.items():
                    self._pending[key] = _sum(self._pending.get(key), each)

    def read(self) -> Mapping[str, Used]:
        """Each model that was ever used, by ref; what was not written yet included."""
        nothing: dict[str, Used] = {}
        found = self._state.guarded(self._read, nothing) if self._state.path.exists() else nothing
        with self._lock:
            pending = dict(self._pending)
        for key, each in pending.items():
            found[key] = _sum(found.get(key), each)
        return found

    def _read(self) -> dict[str, Used]:
        with self._state.reading() as connection:
            rows = connection.execute("SELECT ref, last_used_at, uses FROM usage").fetchall()
        return {str(ref): Used(str(ref), float(at), int(uses)) for ref, at, uses in rows}

    def _write(self, pending: Mapping[str, Used]) -> bool:
        with self._state.transaction() as connection:
            connection.executemany(
                "INSERT INTO usage (ref, last_used_at, uses) VALUES (?, ?, ?) ON CONFLICT (ref) DO UPDATE SET "
                "last_used_at = max(last_used_at, excluded.last_used_at), uses = uses + excluded.uses",
                [(each.ref, each.last_used_at, each.uses) for each in pending.values()],
            )
        return True


def _sum(one: Used | None, other: Used) -> Used:
    if one is None:
        return other
    return Used(other.ref, max(one.last_used_at, other.last_used_at), one.uses + other.uses)
