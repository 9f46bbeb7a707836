"""What a model is charged with, from its reservation until its memory was seen to come back. Blocking: for threads.

    reserve ─▶ loading ─▶ commit (what was measured) ─▶ leave ─▶ release, or haunt: a ghost, until `faded`

Source: spec 4 §Residency (`ledger`); research residency §4.9.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from xprim_nb.scheduling.estimate import taken
from xprim_nb.scheduling.happenings import Event, EvictAsked, PinSet
from xprim_nb.scheduling.held import Held
from xprim_nb.scheduling.leases import Lease, Refusal
from xprim_nb.scheduling.ledger import Ledger
from xprim_nb.scheduling.monitor import DeviceMonitor
from xprim_nb.scheduling.options import Placement
from xprim_nb.scheduling.state import Charges, DeviceState, Foreign
from xprim_nb.workers.values import Measured

__all__ = ["Charging"]

_log = logging.getLogger("xprim_nb.scheduling")


class Charging:
    """Keeps the ledger in step with what one engine does.

    Args:
        ledger: Of this user and machine.
        monitor: Looks at the devices.
    """

    def __init__(self, ledger: Ledger, monitor: DeviceMonitor) -> None:
        self.ledger, self.monitor = ledger, monitor
        self._owed: dict[str, str] = {}
        self._paying = threading.Lock()

    @property
    def owes(self) -> bool:
        """True while something is charged that is gone: the ledger could not be written when it went."""
        return bool(self._owed)

    def pay(self) -> None:
        """Give back what is owed.

        Raises:
            StorageError: The ledger can still not be written; it stays owed.
        """
        with self._paying:
            for lease_id, reason in list(self._owed.items()):
                self._release(lease_id, reason)
                del self._owed[lease_id]

    def look(self) -> tuple[tuple[DeviceState, ...], tuple[Foreign, ...]]:
        """The devices as they are now, and what other kernels hold."""
        self.pay()
        return self.states(), self.ledger.foreign()

    def states(self) -> tuple[DeviceState, ...]:
        """The devices as they are now."""
        return self.monitor.observe(self.ledger.leases())

    def free(self) -> dict[str, int]:
        """What the drivers say is free now, by device, of those that tell, in bytes."""
        self.states()
        return self.monitor.free()

    def reserve(self, held: Held, placement: Placement) -> bool:
        """Charge what a model will take, before anything is started; False when there is no room."""
        charges = placement.option.awake
        if held.lease_id:  # parked: its residue is charged already, and grows
            return not isinstance(self.ledger.grow(held.lease_id, charges, self.states()), Refusal)
        found = self.ledger.reserve(held.key, charges, self.states(), note=held.note)
        if isinstance(found, Refusal):
            _log.info("%s", found)
            return False
        held.lease_id = found.id
        self.ledger.advance(found.id, "loading")
        return True

    def commit(self, held: Held, placement: Placement, measured: Measured) -> Charges:
        """Charge what was measured, and remember it."""
        device, runner = placement.device, held.runner
        reason = f"loaded in {held.load_s:.1f} s"
        if device is None:
            self.ledger.advance(held.lease_id, "resident", reason=reason)
            return ()
        charges = placement.estimate.after(measured).charges(device)
        self.ledger.advance(
            held.lease_id,
            "resident",
            charges=charges,
            measured=taken(device, measured, charges),
            worker=runner.pid if runner is not None else None,
            reason=reason,
        )
        self.ledger.footprints.learn(
            placement.key,
            measured,
            when="loaded",
            model=held.name,
            predicted=placement.estimate,
            load_s=held.load_s,
        )
        return charges

    def park(self, held: Held, placement: Placement, residue: Measured, reason: str) -> Charges:
        """Charge what a parked model still takes, and remember it."""
        assert placement.device is not None, "what is parked was placed"
        charges = taken(placement.device, residue, placement.option.parked or ())
        self.ledger.advance(held.lease_id, "parked", charges=charges, reason=reason)
        self.ledger.footprints.learn_parked(placement.key, residue)
        return charges

    def learn_use(self, held: Held, measured: Measured) -> None:
        """Remember what a model takes after it has answered: its cache has grown."""
        if held.placed is not None and held.placed.device is not None:
            self.ledger.footprints.learn(held.placed.key, measured, when="used", model=held.name)

    def drain(self, held: Held) -> None:
        """Say that it takes no more requests."""
        if held.lease_id:
            self.ledger.advance(held.lease_id, "draining")

    def leave(self, held: Held, reason: str) -> dict[str, int]:
        """Say that its process ends; the result is what was free before."""
        free = self.free()
        lease = self._lease(held.lease_id)
        if lease is not None and lease.state != "releasing":
            self.ledger.advance(lease.id, "releasing", reason=reason)
        return free

    def haunt(self, held: Held, charges: Charges, wanted: Charges, reason: str) -> Charges:
        """Keep charging what was not seen to come back."""
        self.ledger.advance(held.lease_id, "ghost", charges=charges, freed_at=wanted, reason=reason)
        _log.warning("%s: %s", held.key, reason)
        held.ghost_id, held.lease_id = held.lease_id, ""
        return charges

    def faded(self, helds: Sequence[Held]) -> list[Held]:
        """Models whose ghosts have gone since the last look."""
        ghosts = {each.ghost_id: each for each in helds if each.ghost_id}
        if not ghosts:
            return []
        gone = [ghosts[each.id] for each in self.ledger.recheck(self.free()) if each.id in ghosts]
        for held in gone:
            held.ghost_id = ""
        return gone

    def release(self, held: Held, reason: str) -> None:
        """Give the charge back; it is owed where that fails. Idempotent.

        Raises:
            StorageError: The ledger cannot be written.
        """
        lease_id, held.lease_id = held.lease_id, ""
        if lease_id:
            self._owed[lease_id] = reason
            self.pay()

    def _release(self, lease_id: str, reason: str) -> None:
        lease = self._lease(lease_id)
        if lease is None:
            return
        if lease.state not in ("reserved", "releasing", "ghost"):
            self.ledger.advance(lease.id, "releasing", reason=reason)
        self.ledger.release(lease.id, reason=reason)

    def mark(self, held: Held, *, idle: bool, pinned: bool, last_used: float) -> None:
        """Tell other kernels whether a model may leave."""
        if held.lease_id:
            self.ledger.mark(held.lease_id, idle=idle, pinned=pinned, last_used=last_used)

    def asked(self, now: float) -> list[Event]:
        """What other processes asked for since the last look, as events of the moment `now`."""
        self.pay()
        events: list[Event] = []
        for ask in self.ledger.asks():
            if ask.wish == "evict":
                events.append(EvictAsked(now, ask.model, ask.by))
            else:
                events.append(PinSet(now, ask.model, ask.wish == "pin"))
            self.ledger.answer(ask, "It is being done.")
        return events

    def _lease(self, lease_id: str) -> Lease | None:
        return next((each for each in self.ledger.leases() if each.id == lease_id), None)
