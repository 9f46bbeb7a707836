"""Everybody's side of the ledger: what is held on this machine, what happened, wishes about other kernels' models.

Source: spec 4 §Residency, §Faces (`xprim ai ps|evict|pin` from another process).
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from xprim_nb.errors import EngineError
from xprim_nb.scheduling import ledgerlog
from xprim_nb.scheduling.kernels import end_orphan, is_alive, this_kernel
from xprim_nb.scheduling.leases import Ask, KernelId, Lease, TimelineRow, Wish, foreign
from xprim_nb.scheduling.ledgerfile import LedgerFile
from xprim_nb.scheduling.ledgertables import insert, read_leases
from xprim_nb.scheduling.state import Foreign

__all__ = ["LedgerView"]

_log = logging.getLogger("xprim_nb.scheduling")


class LedgerView:
    """What any process of this user may see and ask. Thread-safe; `Ledger` adds what a kernel does with its own.

    Args:
        directory: Where the file lies; None for this user's runtime directory.
        kernel: Who looks; None for this process.
        clock: Seconds since the epoch: other kernels read these times.

    Attributes:
        kernel: Who looks.

    Raises:
        StorageError: There is no place for the file; later, from every call: it cannot be read or written.
    """

    def __init__(
        self,
        directory: Path | None,
        *,
        kernel: KernelId | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.kernel = kernel or this_kernel()
        # Whoever only looks has none. Replaced, never changed: the file may ask for them at any time.
        self._own: Mapping[str, Lease] = {}
        self._file = LedgerFile(directory, self._enter_own)
        self._clock = clock

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    def leases(self) -> list[Lease]:
        """Every kernel's, oldest first, after those of dead kernels were reaped."""
        return self._living()[0]

    def reap(self) -> list[Lease]:
        """Leases of dead kernels, removed; a worker of theirs that still lives is ended first, or keeps its lease."""
        return self._living()[1]

    def foreign(self) -> tuple[Foreign, ...]:
        """Leases that are not of this ledger, as the policy sees them: another engine of this process is another."""
        asked = {ask.lease_id for ask in self._file.read(ledgerlog.open_asks) if ask.wish == "evict"}
        return foreign([lease for lease in self.leases() if lease.id not in self._own], asked)

    def changed(self) -> bool:
        """True when another kernel has written since this was last asked; costs some microseconds."""
        return self._file.changed()

    def timeline(self) -> list[TimelineRow]:
        """What happened to leases, oldest first: the latest 10,000 changes of all kernels."""
        return self._file.read(ledgerlog.rows)

    def ask(self, lease_id: str, wish: Wish, by: str) -> Ask:
        """A wish that the lease's kernel will hear of.

        Args:
            lease_id: Anybody's lease.
            wish: What is wanted.
            by: Who wants it, as part of a sentence: `asked for by xprim ai evict`.

        Raises:
            EngineError: There is no such lease.
        """
        now = self._clock()

        def put(connection: sqlite3.Connection) -> Ask | None:
            lease = next((lease for lease in read_leases(connection) if lease.id == lease_id), None)
            return None if lease is None else ledgerlog.put_ask(connection, lease, wish, by, now)

        asked = self._file.write(put)
        if asked is None:
            raise EngineError(
                f"There is no lease {lease_id}.",
                subject=lease_id,
                hint="`xprim ai ps` shows those there are.",
            )
        return asked

    def asked(self, ask: Ask) -> Ask:
        """The wish as it stands now; one whose lease is gone has been answered by that."""
        return self._file.read(lambda connection: ledgerlog.read_ask(connection, ask))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _living(self) -> tuple[list[Lease], list[Lease]]:
        """Leases of living kernels, and those of dead ones, which are removed."""
        held = self._file.read(read_leases)
        kernels = {lease.kernel for lease in held}
        dead = {kernel for kernel in kernels if not kernel.is_same(self.kernel) and not is_alive(kernel)}
        gone = [lease for lease in held if lease.kernel in dead and _worker_ended(lease)]
        if gone:
            self._remove(gone, "its kernel has died")
            _log.info("leases of dead kernels were removed", extra={"leases": [lease.id for lease in gone]})
        return [lease for lease in held if lease not in gone], gone

    def _remove(self, leases: Sequence[Lease], reason: str) -> None:
        now = self._clock()

        def remove(connection: sqlite3.Connection) -> None:
            for lease in leases:
                if not connection.execute("DELETE FROM leases WHERE id = ?", (lease.id,)).rowcount:
                    continue  # another kernel was quicker
                connection.execute("DELETE FROM charges WHERE lease_id = ?", (lease.id,))
                ledgerlog.put_change(connection, replace(lease, charges=()), "gone", now, reason, lease)
                ledgerlog.answer_gone(connection, lease.id)

        self._file.write(remove)

    def _enter_own(self, connection: sqlite3.Connection) -> None:
        for lease in self._own.values():
            insert(connection, lease)


def _worker_ended(lease: Lease) -> bool:
    return lease.worker_pid is None or end_orphan(lease.worker_pid, lease.worker_started, lease.kernel.boot)
