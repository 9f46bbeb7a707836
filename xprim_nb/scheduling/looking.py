"""One look at everything that is awake, made from the scheduler's state, the devices and the ledger.

Source: spec 4 §Faces (`ps`, ResidencyPanel).
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Sequence

from xprim_nb.scheduling import explain
from xprim_nb.scheduling.leases import Lease
from xprim_nb.scheduling.ledger import Ledger
from xprim_nb.scheduling.monitor import DeviceMonitor
from xprim_nb.scheduling.scheduler import Scheduler
from xprim_nb.scheduling.state import PRIORITIES, ModelState
from xprim_nb.scheduling.values import Charge, DeviceView, EngineSnapshot, ModelView, QueueView
from xprim_nb.workers.values import CrashReport

__all__ = ["foreign_lease", "foreign_view", "snapshot", "view"]

_NAMES = {number: name for name, number in PRIORITIES.items()}


def snapshot(
    scheduler: Scheduler,
    monitor: DeviceMonitor,
    ledger: Ledger,
    crashes: tuple[CrashReport, ...],
    at: float,
) -> EngineSnapshot:
    """Everything that is awake, at the moment `at`.

    Raises:
        StorageError: The ledger cannot be read.
    """
    leases = ledger.leases()
    theirs = {each.lease_id for each in ledger.foreign()}
    foreign = [each for each in leases if each.id in theirs]
    mine = [view(scheduler, key) for key in sorted(scheduler.held)]
    return EngineSnapshot(
        at,
        _devices(monitor, leases, theirs),
        (*mine, *map(foreign_view, foreign)),
        tuple(_queue(scheduler)),
        crashes,
    )


def view(scheduler: Scheduler, key: str) -> ModelView:
    """One model of this engine."""
    held, model = scheduler.held[key], scheduler.state.models.get(key)
    if model is None:
        model = ModelState(key, ())
    runner, placed = held.runner, model.placed
    is_remote = held.backend.capabilities.is_remote
    idle_s = 0.0 if model.in_flight or not model.last_used else max(0.0, scheduler.now() - model.last_used)
    device = placed.device if placed is not None and not is_remote else ""
    return ModelView(
        key=key,
        name=held.name,
        backend=held.backend.name,
        status="elsewhere" if is_remote and model.status in ("absent", "resident") else model.status,
        device=device,
        size_bytes=dict(model.charges).get(device, 0),
        source=placed.source if placed is not None else "estimated",
        context_tokens=placed.context_tokens if placed is not None else 0,
        in_flight=len(model.in_flight),
        waiting=scheduler.waited_for(key),
        served=held.served,
        pinned=model.pinned,
        idle_s=idle_s,
        worker_pid=runner.pid if runner is not None else None,
        kernel_pid=os.getpid(),
        why_not_evict=_why_not(model, is_remote=is_remote),
        cause=model.cause,
        load_s=held.load_s,
        note=held.note,
        fraction=held.fraction if model.status in ("loading", "waking") else 0.0,
    )


def foreign_lease(ledger: Ledger, model: str) -> Lease | None:
    """The lease of a model that another kernel holds, by its key or its name."""
    theirs = {each.lease_id for each in ledger.foreign()}
    named = (each for each in ledger.leases() if model in (each.model, each.model.partition(":")[2]))
    return next((each for each in named if each.id in theirs), None)


def foreign_view(lease: Lease) -> ModelView:
    """A model that another kernel holds."""
    backend, _, name = lease.model.partition(":")
    device, size = max(lease.charges, key=lambda each: each[1], default=("", 0))
    state = lease.state
    return ModelView(
        key=lease.model,
        name=name,
        backend=backend,
        status={"reserved": "loading", "draining": "leaving", "releasing": "leaving"}.get(state, state),
        device=device,
        size_bytes=size,
        source="measured" if state == "resident" else "estimated",
        pinned=lease.pinned,
        idle_s=max(0.0, time.time() - lease.last_used) if lease.idle and lease.last_used else 0.0,
        worker_pid=lease.worker_pid,
        kernel_pid=lease.kernel.pid,
        is_mine=False,
        why_not_evict="" if lease.idle and not lease.pinned else "Another kernel uses it.",
        note=lease.note,
    )


def _devices(
    monitor: DeviceMonitor, leases: Sequence[Lease], theirs: Collection[str]
) -> tuple[DeviceView, ...]:
    states = {each.id: each for each in monitor.observe(leases)}
    return tuple(
        DeviceView(
            id=device.id,
            name=device.name or device.id,
            kind=device.kind,
            total_bytes=device.total_bytes,
            budget_bytes=states[device.id].budget_bytes,
            external_bytes=states[device.id].external_bytes,
            free_bytes=states[device.id].free_bytes,
            charges=tuple(
                Charge(each.model, size, each.state, each.kernel.pid, each.id not in theirs)
                for each in leases
                for where, size in each.charges
                if where == device.id
            ),
        )
        for device in monitor.devices
    )


def _queue(scheduler: Scheduler) -> Iterator[QueueView]:
    waiting = {each.id: each for each in scheduler.state.waiting}
    for place in explain.queue_positions(scheduler.state):
        request = waiting[place.request_id]
        yield QueueView(
            request.id,
            request.model,
            _NAMES.get(request.priority, str(request.priority)),
            place.position,
            place.reason,
            max(0.0, scheduler.now() - request.arrived),
            request.note,
        )


def _why_not(model: ModelState, *, is_remote: bool) -> str:
    if is_remote:
        return "It runs on a server."
    if model.status in ("absent", "broken"):
        return "It is not loaded."
    why = explain.why_not_evict(model)
    return f"{why}." if why else ""
