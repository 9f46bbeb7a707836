"""A state while it changes: what a decision works on, frozen again at its end.

The driver's free bytes are kept as if what loads had taken nothing yet and what leaves still had everything. A look at a
device in between sees something between the two; `look` keeps what we know, inside the limits that this look sets.

Source: research residency §4.9 (`nvml_free - reserved but not yet visible`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal

from xprim_nb.scheduling.happenings import Effect, Evict, Reject
from xprim_nb.scheduling.room import Amounts, highest
from xprim_nb.scheduling.state import Charges, DeviceState, Foreign, ModelState, Request, State

__all__ = ["Draft", "summed"]


def summed(one: Charges, other: Charges) -> Charges:
    """Both together, by device."""
    sizes = dict(one)
    for device, size in other:
        sizes[device] = sizes.get(device, 0) + size
    return tuple(sorted(sizes.items()))


class Draft:
    """One decision in the making."""

    __slots__ = ("devices", "effects", "foreign", "limits", "models", "now", "waiting")

    def __init__(self, state: State, at: float) -> None:
        self.devices, self.foreign, self.limits = state.devices, state.foreign, state.limits
        self.models = dict(state.models)
        self.waiting = state.waiting
        self.now = max(state.now, at)  # of two happenings at odds about the time, the later is right
        self.effects: list[Effect] = []

    def freeze(self) -> State:
        """The state as it stands."""
        return State(self.devices, dict(self.models), self.waiting, self.foreign, self.limits, self.now)

    def change(self, key: str, **changes: Any) -> ModelState:
        """Some fields of a model are new."""
        self.models[key] = changed = self.models[key].changed(**changes)
        return changed

    def enqueue(self, request: Request) -> None:
        """It waits; one that comes again keeps its place in time."""
        self.waiting = (*self.waiting, request)
        if len(self.waiting) > 1 and self.waiting[-2].arrived > request.arrived:
            self.waiting = tuple(sorted(self.waiting, key=lambda each: each.arrived))

    def dequeue(self, ids: Iterable[str]) -> None:
        """They wait no more."""
        gone = frozenset(ids)
        if gone:
            self.waiting = tuple(each for each in self.waiting if each.id not in gone)

    def reject_all(
        self,
        key: str,
        kind: Literal["capacity", "broken", "refused"],
        message: str,
        needed: int = 0,
        most: int = 0,
    ) -> None:
        """Everybody who waits for a model is told that it will not be."""
        ids = [each.id for each in self.waiting if each.model == key]
        self.effects += [Reject(each, kind, message, needed, most) for each in ids]
        self.dequeue(ids)

    def evict(self, key: str, to: Literal["parked", "disk"], reason: str, for_model: str = "") -> None:
        """A model begins to leave, for another one if that is named."""
        model = self.models[key]
        parked = model.placed.parked if model.placed and to == "parked" else None
        charges = highest(model.charges, parked or ())
        self.moved(model.charges, charges)
        self.change(
            key,
            status="leaving",
            leaving_to=to,
            charges=charges,
            window_at=None,
            window_served=0,
            window_for="",
        )
        self.effects.append(Evict(key, to, reason, for_model))

    def moved(self, before: Charges, after: Charges) -> None:
        """What is taken of the devices changes, as far as we know."""
        if before == after:
            return
        freed: Amounts = dict(before)
        for device, size in after:
            freed[device] = freed.get(device, 0) - size
        self.devices = tuple(
            replace(each, free_bytes=each.free_bytes + freed[each.id])
            if each.free_bytes is not None and freed.get(each.id)
            else each
            for each in self.devices
        )

    def look(self, devices: tuple[DeviceState, ...], foreign: tuple[Foreign, ...]) -> None:
        """The devices and the ledger were looked at."""
        known = {each.id: each.free_bytes for each in self.devices}
        arriving: Amounts = {}
        leaving: Amounts = {}
        for model in self.models.values():
            if model.status in ("loading", "waking"):
                for device, size in model.charges:
                    arriving[device] = arriving.get(device, 0) + size
                for device, size in model.residue:
                    arriving[device] = arriving.get(device, 0) - size
            elif model.status == "leaving":
                for device, size in model.charges:
                    leaving[device] = leaving.get(device, 0) + size
        self.devices = tuple(
            _narrowed(each, known.get(each.id), arriving.get(each.id, 0), leaving.get(each.id, 0))
            for each in devices
        )
        before = {each.lease_id: each for each in self.foreign}
        self.foreign = tuple(_remembered(each, before.get(each.lease_id)) for each in foreign)


def _narrowed(seen: DeviceState, known: int | None, arriving: int, leaving: int) -> DeviceState:
    if seen.free_bytes is None or known is None:
        return seen
    return replace(seen, free_bytes=min(max(known, seen.free_bytes - leaving), seen.free_bytes + arriving))


def _remembered(seen: Foreign, before: Foreign | None) -> Foreign:
    """That a kernel was asked is remembered until the model was in use again: then it may be asked anew."""
    if before is None or not (before.asked and seen.evictable):
        return replace(seen, asked=False) if seen.asked else seen
    return replace(seen, asked=True, asked_at=before.asked_at)
