"""Who holds which memory: one ledger for a user and a machine, shared by all kernels.

Memory is reserved before a process is started, and let go of after it was seen to come back; in between a lease tells
everybody what it is charged with. What a dead kernel left behind is reaped by whoever looks next.

Source: spec 4 §Residency (`ledger`); research residency §4.9 (rules 1, 4, 5), §5.2-12.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from xprim_nb._text import format_bytes
from xprim_nb.errors import EngineError
from xprim_nb.scheduling import ledgerlog
from xprim_nb.scheduling.footprints import Footprints
from xprim_nb.scheduling.kernels import started_mark
from xprim_nb.scheduling.leases import (
    TRANSITIONS,
    Ask,
    KernelId,
    Lease,
    LeaseState,
    Refusal,
    may_release,
    shortages,
)
from xprim_nb.scheduling.ledgertables import insert, read_leases
from xprim_nb.scheduling.ledgerview import LedgerView
from xprim_nb.scheduling.state import Charges, DeviceState

__all__ = ["Ledger"]

_log = logging.getLogger("xprim_nb.scheduling")
_T = TypeVar("_T")


class Ledger(LedgerView):
    """The ledger, for one kernel. Thread-safe; every call takes well under a millisecond, unless an orphan is ended.

    Calls that change a lease are for its owner. The ledger remembers the leases of its owner: when the file was lost
    or damaged, they are entered again.

    Args:
        directory: Where the file lies; None for this user's runtime directory.
        kernel: Who holds the leases; None for this process.
        clock: Seconds since the epoch: other kernels read these times.

    Attributes:
        kernel: Who holds the leases.
        footprints: What models were seen to take on this machine; kept in the same file.

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
        super().__init__(directory, kernel=kernel, clock=clock)
        self.footprints = Footprints(self._file, clock=clock)
        self._devices: Mapping[str, DeviceState] = {}
        self._lock = threading.Lock()

    def reserve(
        self, model: str, charges: Charges, devices: Sequence[DeviceState], *, note: str = ""
    ) -> Lease | Refusal:
        """A lease in RESERVED, or the numbers that speak against it. All devices, or none; one kernel at a time.

        Args:
            model: `backend:name`.
            charges: What it will take.
            devices: As they are now; each that is charged must be among them.
            note: What causes it: the cell.
        """
        now = self._clock()
        lease = Lease(
            secrets.token_hex(8), model, "reserved", charges, self.kernel, created=now, since=now, note=note
        )
        return self._claim(lease, devices, "reserved")

    def grow(
        self, lease_id: str, charges: Charges, devices: Sequence[DeviceState], *, reason: str = "wakes up"
    ) -> Lease | Refusal:
        """The same for a parked lease that wants to be LOADING with these charges: checked before anything moves.

        Raises:
            EngineError: There is no such lease of this kernel.
            ValueError: It is not parked.
        """
        lease = self._mine(lease_id)
        _require_step(lease, "loading")
        return self._claim(
            replace(lease, state="loading", charges=charges, since=self._clock(), idle=False), devices, reason
        )

    def advance(
        self,
        lease_id: str,
        state: LeaseState,
        *,
        charges: Charges | None = None,
        measured: Charges | None = None,
        worker: int | None = None,
        devices: Sequence[DeviceState] = (),
        freed_at: Charges = (),
        reason: str = "",
    ) -> Lease:
        """The lease in its next state.

        What is taken already is entered, whatever the budget says; `Lease.over` tells how much too much it is.

        Args:
            lease_id: Of a lease of this kernel.
            state: See the drawing in `leases`.
            charges: What it is charged with from now on; None for as before.
            measured: What it was seen to take; None for as before, and for `charges` when it becomes resident, parked
                or a ghost, which are states that drivers can see.
            worker: Its process; None for as before.
            devices: To check growth against; those of the latest call when empty.
            freed_at: Of a ghost: what must be free on its devices for it to have faded, see `recheck`.
            reason: Told in the timeline.

        Raises:
            EngineError: There is no such lease of this kernel.
            ValueError: The state cannot follow the one it is in.
        """
        lease = self._mine(lease_id)
        _require_step(lease, state)
        wanted = lease.charges if charges is None else charges
        if measured is None:
            visible = state in ("resident", "parked", "ghost") and (charges is not None or not lease.measured)
            measured = wanted if visible else lease.measured
        changed = replace(lease, state=state, charges=wanted, measured=measured, freed_at=freed_at, over=())
        if state != lease.state:
            changed = replace(changed, since=self._clock())
        if worker is not None:
            changed = replace(changed, worker_pid=worker, worker_started=started_mark(worker) or 0.0)
        if state in ("ghost", "reserved"):
            changed = replace(changed, worker_pid=None, worker_started=0.0)
        self._remember_devices(devices)
        return self._enter(changed, lease, reason)

    def release(self, lease_id: str, *, reason: str = "") -> None:
        """Let go of it: nothing was started, or its process has ended and its memory has come back. Idempotent.

        Raises:
            ValueError: It is in a state in which its memory is in use.
        """
        lease = self._own.get(lease_id)
        if lease is None:
            return
        if not may_release(lease.state):
            raise ValueError(f"a lease that is {lease.state} cannot be released: {lease}")
        self._remove([lease], reason)

    def recheck(self, free_now: Mapping[str, int]) -> list[Lease]:
        """Ghosts of this kernel whose memory has come back; they are removed.

        Args:
            free_now: Free bytes by device, as the drivers say.
        """
        faded = [
            lease
            for lease in self._own.values()
            if lease.state == "ghost"
            and all(name in free_now and free_now[name] >= size for name, size in lease.freed_at)
        ]
        if faded:
            self._remove(faded, "its memory has come back")
        return faded

    def mark(self, lease_id: str, *, idle: bool, pinned: bool, last_used: float) -> None:
        """Tell other kernels whether it may leave. Nothing is written when they know.

        Raises:
            EngineError: There is no such lease of this kernel.
        """
        lease = self._mine(lease_id)
        changed = replace(lease, idle=idle, pinned=pinned, last_used=last_used)
        if changed != lease:
            self._write(changed, lambda connection: insert(connection, changed))

    def asks(self) -> list[Ask]:
        """Wishes about this kernel's leases that have no answer, oldest first."""
        return [ask for ask in self._file.read(ledgerlog.open_asks) if ask.lease_id in self._own]

    def answer(self, ask: Ask, answer: str) -> None:
        """Say what became of a wish, in a sentence."""
        self._file.write(lambda connection: ledgerlog.put_answer(connection, ask.id, answer))

    def restore(self, leases: Iterable[Lease]) -> None:
        """Enter leases of living workers of this kernel again, as they are, without looking at budgets."""
        again = [replace(lease, kernel=self.kernel) for lease in leases]
        with self._lock:
            self._own = {**self._own, **{lease.id: lease for lease in again}}
        self._file.write(self._enter_own)

    def close(self) -> None:
        """Close the file. Leases stay until they are released, or until this process has ended."""
        if self._own:
            _log.warning(
                "the ledger was closed with leases", extra={"leases": sorted(map(str, self._own.values()))}
            )
        super().close()

    def _claim(self, lease: Lease, devices: Sequence[DeviceState], reason: str) -> Lease | Refusal:
        self.reap()
        self._remember_devices(devices)

        def claim(connection: sqlite3.Connection) -> Lease | Refusal:
            others = [each for each in read_leases(connection) if each.id != lease.id]
            short = shortages(lease.charges, devices, others)
            if short:
                return Refusal(lease.model, lease.charges, short)
            insert(connection, lease)
            ledgerlog.put_change(connection, lease, lease.state, lease.since, reason)
            return lease

        return self._write(lease, claim)

    def _enter(self, lease: Lease, before: Lease, reason: str) -> Lease:
        grown = any(size > before.charge_on(name) for name, size in lease.charges)
        now, known = self._clock(), tuple(self._devices.values())

        def enter(connection: sqlite3.Connection) -> Charges:
            over: Charges = ()
            if grown:
                others = [each for each in read_leases(connection) if each.id != lease.id]
                # The driver's free bytes are without what this lease has taken already: only the sum tells.
                blind = [replace(device, free_bytes=None) for device in known]
                short = shortages(lease.charges, blind, others)
                over = tuple((each.device, each.over_bytes) for each in short if each.known)
            insert(connection, lease)
            ledgerlog.put_change(connection, lease, lease.state, now, _with_over(reason, over))
            return over

        over = self._write(lease, enter)
        if over:
            _log.warning("a model takes more than there is: %s", lease, extra={"over": dict(over)})
        return replace(lease, over=over)

    def _remove(self, leases: Sequence[Lease], reason: str) -> None:
        gone = {lease.id for lease in leases}
        kept = {key: lease for key, lease in self._own.items() if key in gone}
        with self._lock:  # first: a lease that is being let go of is not entered again
            self._own = {key: lease for key, lease in self._own.items() if key not in gone}
        try:
            super()._remove(leases, reason)
        except BaseException:
            with self._lock:
                self._own = {**self._own, **kept}
            raise

    def _mine(self, lease_id: str) -> Lease:
        lease = self._own.get(lease_id)
        if lease is None:
            raise EngineError(f"This kernel has no lease {lease_id}.", subject=lease_id)
        return lease

    def _write(self, lease: Lease, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """What `work` returns, which enters the lease unless it refuses; the lease is remembered then."""
        epoch = self._file.epoch
        done = self._file.write(work)
        if isinstance(done, Refusal):
            return done
        with self._lock:
            self._own = {**self._own, lease.id: lease}
        if self._file.epoch != epoch:  # the file may have begun anew before the lease could be remembered
            self._file.write(lambda connection: insert(connection, lease))
        return done

    def _remember_devices(self, devices: Sequence[DeviceState]) -> None:
        with self._lock:
            self._devices = {**self._devices, **{device.id: device for device in devices}}


def _require_step(lease: Lease, state: LeaseState) -> None:
    if state not in TRANSITIONS[lease.state]:
        raise ValueError(f"a lease cannot go from {lease.state} to {state}: {lease}")


def _with_over(reason: str, over: Charges) -> str:
    if not over:
        return reason
    told = ", ".join(f"{format_bytes(size)} on {name}" for name, size in over)
    return f"{reason}; more than there is by {told}".removeprefix("; ")
