"""What the ledger's rows mean: leases, the room that they leave, refusals, wishes. Frozen values, pure functions.

    RESERVED ─▶ LOADING ─▶ RESIDENT ─▶ DRAINING ─▶ RELEASING ─▶ (gone)
                   ▲           │ ▲         │  │         │
                   │           ▼ └─────────┘  ▼         ▼
                   └──────── (crash)        PARKED    GHOST ─▶ (gone)

A lease is charged in every state, RELEASING and GHOST among them.

    available = min(budget − external − Σ charges, free by the driver − Σ charges that it cannot see yet)

Source: spec 4 §Residency (`ledger`); research residency §4.9.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from xprim_nb._text import clean, format_bytes
from xprim_nb.scheduling.state import Charges, DeviceState, Foreign

__all__ = [
    "TRANSITIONS",
    "Ask",
    "KernelId",
    "Lease",
    "LeaseState",
    "Refusal",
    "Shortage",
    "TimelineRow",
    "Wish",
    "foreign",
    "freed_at",
    "may_release",
    "shortages",
]

LeaseState: TypeAlias = Literal["reserved", "loading", "resident", "draining", "releasing", "parked", "ghost"]
Wish: TypeAlias = Literal["evict", "pin", "unpin"]

TRANSITIONS: Mapping[LeaseState, frozenset[LeaseState]] = {
    "reserved": frozenset({"loading", "releasing"}),
    "loading": frozenset({"resident", "releasing", "ghost"}),
    # Measured again; or its worker has crashed.
    "resident": frozenset({"resident", "draining", "releasing", "ghost"}),
    # An eviction may be called off while nothing has been stopped.
    "draining": frozenset({"resident", "parked", "releasing", "ghost"}),
    "releasing": frozenset({"ghost"}),
    # Woken up; or ended.
    "parked": frozenset({"loading", "draining", "releasing", "ghost"}),
    "ghost": frozenset({"ghost"}),
}
# What a state may change to; removal is `may_release`.
_RELEASABLE = frozenset({"reserved", "releasing", "ghost"})
# A ghost's memory counts as returned when so much of it is free that was not: allocators round, others allocate.
# Source: ollama's VRAM watch (75 %), research residency §4.1.
_RECOVERED = 0.75


def may_release(state: LeaseState) -> bool:
    """True when a lease may go: nothing was started, or it has ended, or its ghost has faded."""
    return state in _RELEASABLE


@dataclass(frozen=True, slots=True)
class KernelId:
    """A process that holds leases, told from every other that had or will have its number.

    Attributes:
        pid: Its number.
        started: When it started, in the system's own count (Linux: clock ticks since boot, which setting the clock
            does not move; elsewhere seconds since the epoch).
        boot: The boot and the process namespace that pid and start belong to; empty where neither matters.
        label: What a person knows it by: the notebook's name, when it is known.
    """

    pid: int
    started: float
    boot: str = ""
    label: str = ""

    def is_same(self, other: KernelId) -> bool:
        """True when both are one process; labels do not count."""
        return (self.pid, self.started, self.boot) == (other.pid, other.started, other.boot)

    def __str__(self) -> str:
        return f"{clean(self.label)} (process {self.pid})" if self.label else f"process {self.pid}"


@dataclass(frozen=True, slots=True)
class Lease:
    """A model's claim on memory. Times in seconds since the epoch.

    Attributes:
        id: Unique.
        model: `backend:name`.
        state: See the drawing above.
        charges: What it is charged with.
        kernel: Who holds it.
        measured: What it was last seen to take; empty before it was loaded.
        worker_pid: Its process; None when there is none.
        worker_started: Of that process, like `KernelId.started`.
        created: When it was reserved.
        since: When it came into its state.
        idle: Nobody uses it.
        pinned: Its owner will not let it go.
        last_used: When its latest answer began or ended.
        note: What caused it: the cell.
        freed_at: Of a ghost: `(device id, free bytes)` at which its memory counts as returned.
        over: What it takes beyond what there is, device by device, in the answer to the call that found it.
    """

    id: str
    model: str
    state: LeaseState
    charges: Charges
    kernel: KernelId
    measured: Charges = ()
    worker_pid: int | None = None
    worker_started: float = 0.0
    created: float = 0.0
    since: float = 0.0
    idle: bool = False
    pinned: bool = False
    last_used: float = 0.0
    note: str = ""
    freed_at: Charges = ()
    over: Charges = ()

    def charge_on(self, device_id: str) -> int:
        """What it is charged with there, in bytes."""
        return _on(self.charges, device_id)

    def measured_on(self, device_id: str) -> int:
        """What it was last seen to take there, in bytes."""
        return _on(self.measured, device_id)

    def unseen_on(self, device_id: str) -> int:
        """What it is charged with there and no driver can see yet, in bytes."""
        return max(0, self.charge_on(device_id) - self.measured_on(device_id))

    def __str__(self) -> str:
        sizes = ", ".join(f"{format_bytes(size)} on {name}" for name, size in self.charges)
        return f"{clean(self.model)}: {self.state}, {sizes or 'no memory here'}, held by {self.kernel}"


@dataclass(frozen=True, slots=True)
class Shortage:
    """Why a device cannot take a charge. Sizes in bytes.

    Attributes:
        device: Its id.
        needed_bytes: What was asked for.
        available_bytes: What there was; below 0 when more is charged already than may be.
        budget_bytes: What all our models together may take.
        external_bytes: What other programs take of it.
        charged_bytes: What leases of all kernels are charged with.
        free_bytes: What the driver says is free; None when it does not say.
        unseen_bytes: What is charged and no driver can see yet.
        known: False when nobody has described this device.
    """

    device: str
    needed_bytes: int
    available_bytes: int
    budget_bytes: int = 0
    external_bytes: int = 0
    charged_bytes: int = 0
    free_bytes: int | None = None
    unseen_bytes: int = 0
    known: bool = True

    @property
    def over_bytes(self) -> int:
        """How much too much was asked for."""
        return self.needed_bytes - self.available_bytes

    def __str__(self) -> str:
        if not self.known:
            return f"there is no device {self.device}"
        told = (
            f"{self.device} has {format_bytes(max(0, self.available_bytes))} of {format_bytes(self.budget_bytes)}"
            f" left ({format_bytes(self.charged_bytes)} charged, {format_bytes(self.external_bytes)} used by others"
        )
        if self.free_bytes is not None and self.available_bytes == self.free_bytes - self.unseen_bytes:
            told += (
                f"; {format_bytes(self.free_bytes)} free, {format_bytes(self.unseen_bytes)} of it promised"
            )
        return f"{told}), {format_bytes(self.needed_bytes)} needed"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The ledger would not reserve.

    Attributes:
        model: For which.
        charges: What was asked for.
        shortages: The devices that cannot take it, at least one.
    """

    model: str
    charges: Charges
    shortages: tuple[Shortage, ...]

    def __str__(self) -> str:
        return f"No room for {clean(self.model)}: {'; '.join(map(str, self.shortages))}."


@dataclass(frozen=True, slots=True)
class Ask:
    """A wish about another process's lease.

    Attributes:
        id: Its number.
        lease_id: Which lease.
        model: Of that lease.
        wish: `evict`, `pin` or `unpin`.
        by: Who wishes, as part of a sentence: `asked for by xprim ai evict`.
        at: When, in seconds since the epoch.
        answer: What the owner said; empty while it has not.
    """

    id: int
    lease_id: str
    model: str
    wish: Wish
    by: str
    at: float
    answer: str = ""


@dataclass(frozen=True, slots=True)
class TimelineRow:
    """A change of a lease.

    Attributes:
        at: When, in seconds since the epoch.
        lease_id: Which.
        model: Of which model.
        state: What it came to; `gone` when it was released.
        device: Where it computes; `cpu` when it is charged nowhere else.
        device_bytes: Charged there from then on.
        host_bytes: Charged of the machine's memory from then on.
        reason: Why.
        note: What caused the lease: the cell.
        kernel: Who holds it.
        kernel_pid: The same by number.
    """

    at: float
    lease_id: str
    model: str
    state: str
    device: str
    device_bytes: int
    host_bytes: int
    reason: str
    note: str
    kernel: str
    kernel_pid: int


def shortages(
    charges: Charges, devices: Sequence[DeviceState], leases: Iterable[Lease]
) -> tuple[Shortage, ...]:
    """The devices that cannot take these charges beside those leases; empty when all can."""
    known = {device.id: device for device in devices}
    held = tuple(leases)
    found = []
    for name, needed in charges:
        device = known.get(name)
        if device is None:
            found.append(Shortage(name, needed, 0, known=False))
            continue
        charged = sum(lease.charge_on(name) for lease in held)
        unseen = sum(lease.unseen_on(name) for lease in held)
        available = device.budget_bytes - device.external_bytes - charged
        if device.free_bytes is not None:
            available = min(available, device.free_bytes - unseen)
        if needed > available:
            found.append(
                Shortage(
                    name,
                    needed,
                    available,
                    device.budget_bytes,
                    device.external_bytes,
                    charged,
                    device.free_bytes,
                    unseen,
                )
            )
    return tuple(found)


def foreign(leases: Iterable[Lease], asked: Iterable[str] = ()) -> tuple[Foreign, ...]:
    """Leases of others as the policy sees them.

    Args:
        leases: None of our own.
        asked: Ids of leases that somebody has asked for already, and got no answer.
    """
    waiting = frozenset(asked)
    return tuple(
        Foreign(
            lease.id,
            lease.model,
            lease.charges,
            lease.kernel.pid,
            evictable=lease.idle and not lease.pinned and lease.state in ("resident", "parked"),
            last_used=lease.last_used,
            asked=lease.id in waiting,
            may_leave=not lease.pinned and lease.state != "ghost",
        )
        for lease in leases
    )


def freed_at(charges: Charges, free_now: Mapping[str, int]) -> Charges:
    """What must be free on a ghost's devices for it to have faded: three quarters of it more than now."""
    return tuple(
        (name, free_now[name] + int(_RECOVERED * size)) for name, size in charges if name in free_now
    )


def _on(charges: Charges, device_id: str) -> int:
    return next((size for name, size in charges if name == device_id), 0)
