"""How much room there is: on each device, and for worker processes, which are counted like one more device.

    available(device) = min(budget - external - charges of ours and of other kernels' models,
                            free by the driver - what is reserved and not taken yet)

`now` is there at this moment; `later` adds what leaves already, and takes off what is promised to those who are before.
Memory of gone models that did not come back (ghosts) is charged until it does.

Source: research residency §4.9 (`available`); spec 4 §Residency (ledger).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from xprim_nb.scheduling.state import Charges, Foreign, Limits, ModelState, Option, State

__all__ = [
    "HOLDING",
    "WORKERS",
    "Amounts",
    "Room",
    "covers",
    "highest",
    "holds_worker",
    "is_coming",
    "is_fresh",
    "need_of",
    "residue_of",
    "takes_worker",
    "total",
]

# The name of the device that worker processes are counted on. No device id has a space in it.
WORKERS = "worker processes"
# Who takes memory or a process.
HOLDING = frozenset({"loading", "resident", "leaving", "parked", "waking"})

Amounts: TypeAlias = dict[str, int]
"""Bytes by device id, and processes under `WORKERS`."""


def takes_worker(option: Option) -> bool:
    """True when a worker process of ours runs it; what takes no memory here runs elsewhere."""
    return option.takes_worker and bool(option.awake)


def holds_worker(model: ModelState) -> bool:
    """True when a worker process is taken by it now."""
    return model.status in HOLDING and model.placed is not None and takes_worker(model.placed)


def need_of(model: ModelState, option: Option) -> Amounts:
    """What holding it takes beyond what is charged already; a parked one keeps its residue and its process."""
    if model.status == "parked":
        residue = dict(model.charges)
        return {
            device: size - residue.get(device, 0)
            for device, size in option.awake
            if size > residue.get(device, 0)
        }
    need = {device: size for device, size in option.awake if size > 0}
    if takes_worker(option):
        need[WORKERS] = 1
    return need


def highest(one: Charges, other: Charges) -> Charges:
    """The larger of both, on each device: what is charged while a model moves between them."""
    sizes = dict(one)
    for device, size in other:
        sizes[device] = max(size, sizes.get(device, 0))
    return tuple(sorted(sizes.items()))


def residue_of(model: ModelState) -> Charges:
    """What will be charged when it has left."""
    if model.leaving_to != "parked" or model.placed is None:
        return ()
    return model.placed.parked or ()


def is_coming(lease: Foreign, now: float, limits: Limits) -> bool:
    """True when another kernel has been asked for it, and still has time to answer."""
    return lease.asked and lease.evictable and now < lease.asked_at + limits.foreign_s


def covers(there: Amounts, need: Amounts) -> bool:
    """True when all that is needed is there."""
    for device, size in need.items():  # noqa: SIM110  # asked so often that a generator shows
        if size > there.get(device, 0):
            return False
    return True


def is_fresh(model: ModelState, now: float, limits: Limits) -> bool:
    """True when it has a ghost that may still go."""
    return bool(model.ghost) and now < model.ghost_at + limits.ghost_s


class Room:
    """The room of one state, and what a pass over the queue promises of it.

    Attributes:
        now: Available at this moment.
        later: Available when all that leaves has left, and all that is promised is taken.
    """

    __slots__ = ("later", "now")

    def __init__(self, state: State) -> None:
        coming: Amounts = {}
        left = {each.id: each.budget_bytes - each.external_bytes for each in state.devices}
        unseen: Amounts = dict.fromkeys(left, 0)
        workers = state.limits.max_workers
        for model in state.models.values():
            if model.ghost:
                _add(left, model.ghost, -1)
            if model.status not in HOLDING:
                continue
            _add(left, model.charges, -1)
            workers -= holds_worker(model)
            if model.status in ("loading", "waking"):
                _add(unseen, model.charges)
                _add(unseen, model.residue, -1)
            elif model.status == "leaving":
                _add(coming, model.charges)
                _add(coming, residue_of(model), -1)
                if holds_worker(model) and model.leaving_to != "parked":
                    coming[WORKERS] = coming.get(WORKERS, 0) + 1
        for lease in state.foreign:
            _add(left, lease.charges, -1)
            if is_coming(lease, state.now, state.limits):
                _add(coming, lease.charges)
        self.now = {
            each.id: left[each.id]
            if each.free_bytes is None
            else min(left[each.id], each.free_bytes - unseen[each.id])
            for each in state.devices
        }
        self.now[WORKERS] = workers
        self.later = dict(self.now)
        self.leave(coming)

    def fits(self, need: Amounts) -> bool:
        """True when it fits at this moment, and takes nothing that is promised."""
        return covers(self.now, need) and covers(self.later, need)

    def will_fit(self, need: Amounts, further: Amounts) -> bool:
        """True when it would fit later with so much further room."""
        later = self.later
        for device, size in need.items():  # noqa: SIM110  # as in `covers`
            if size > later.get(device, 0) + further.get(device, 0):
                return False
        return True

    def take(self, need: Amounts) -> None:
        """It is taken at this moment."""
        for device, size in need.items():
            self.now[device] = self.now.get(device, 0) - size
        self.claim(need)

    def claim(self, need: Amounts) -> None:
        """It is promised to somebody who waits for it."""
        for device, size in need.items():
            self.later[device] = self.later.get(device, 0) - size

    def leave(self, freed: Amounts) -> None:
        """So much will be free; a size below zero is taken instead."""
        for device, size in freed.items():
            self.later[device] = self.later.get(device, 0) + size


def _add(amounts: Amounts, charges: Charges, sign: int = 1) -> None:
    for device, size in charges:
        amounts[device] = amounts.get(device, 0) + sign * size


def total(charges: Charges | Mapping[str, int]) -> int:
    """Bytes on all devices together; processes are not counted."""
    pairs = charges.items() if isinstance(charges, Mapping) else charges
    return sum(size for device, size in pairs if device != WORKERS)
