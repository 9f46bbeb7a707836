"""What the scheduler, its policy and its log talk about: models, devices, requests; events in, effects out.

Everything is frozen and plain, so that a log of events replays to the same decisions. Times are seconds of one clock
that only grows; sizes are bytes.

    absent ─Load─▶ loading ─Loaded─▶ resident ─Evict─▶ leaving ─Left─▶ absent, or parked where it can
                      │                 │  ▲                              │
                      └─LoadFailed──────┼──┼────── broken, until `retry_at`   └─Wake─▶ waking ─Loaded─▶ resident
                                        └─Crashed─▶ absent or broken

Source: spec 4 §Residency; research residency §4.2 (decide and effects apart), §4.9 (ledger).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

__all__ = [
    "PRIORITIES",
    "Charges",
    "DeviceState",
    "Foreign",
    "Limits",
    "ModelState",
    "Option",
    "Request",
    "State",
    "Status",
]

PRIORITIES: Mapping[str, int] = {"system": 100, "realtime": 90, "default": 70, "batch": 50}
"""By name. Source: seeds/003 (`prioritizeRequest`)."""

Status: TypeAlias = Literal["absent", "loading", "resident", "leaving", "parked", "waking", "broken"]
Charges: TypeAlias = tuple[tuple[str, int], ...]
"""`(device id, bytes)`, each device once, sorted: what a model takes of every device, the machine's memory among them."""


@dataclass(frozen=True, slots=True)
class Option:
    """One way to hold a model.

    Attributes:
        device: Where it computes, `cuda:0`, `cpu`, `sim:8gb`.
        context_tokens: Room for prompt and answer.
        awake: What it takes while it can answer.
        parked: What it takes while it is parked; None when it cannot be.
        source: `measured` here before, `estimated` from its headers, or `given` by its backend or its user.
        degraded: How it is less than what was asked for (`context of 2,048 tokens`, `on the CPU`); empty when it is not.
        load_s: How long loading takes, as measured here or estimated; 0.0 when nobody knows.
        wake_s: How long waking takes; 0.0 when nobody knows.
        takes_worker: A worker process of ours runs it. False for what runs elsewhere, or in a server of its own.
    """

    device: str
    context_tokens: int
    awake: Charges
    parked: Charges | None = None
    source: Literal["measured", "estimated", "given"] = "estimated"
    degraded: str = ""
    load_s: float = 0.0
    wake_s: float = 0.0
    takes_worker: bool = True


@dataclass(frozen=True)  # without slots: `changed` copies the whole dictionary in one step
class ModelState:
    """One model that has been asked for.

    The service window of a model opens when somebody who waits needs its room, and ends after `Limits.window_s` or
    `Limits.window_requests`; until then it goes on serving its own, so that models do not change places at each answer.

    Attributes:
        key: `backend:name`.
        options: Ways to hold it, best first; degraded ones last, and only when that is allowed.
        slots: Answers at once.
        status: See the drawing above.
        placed: The option in force from `loading` until it is gone.
        charges: What it is charged with now: what was reserved, then what was measured, what is left while it leaves.
        residue: Of these, what it took while it was parked: set while it wakes.
        ghost: Still charged though nothing runs any more, until `Recovered` says otherwise.
        ghost_at: Since when.
        in_flight: Ids of the requests that it answers now.
        pinned: Never evicted.
        last_used: When its latest answer began or ended, or it became resident.
        loaded_at: When it became resident.
        served: Answers that it began since then.
        wanted_out: Asked to leave as soon as it is idle; the reason. No new answer begins.
        wanted_for: Key of the model that needs the room; empty when a person asked.
        leaving_to: Where it goes while it is `leaving`.
        window_at: When its service window opened; None while nobody needs its room.
        window_served: `served` at that moment.
        window_for: Key of the model that needed the room then.
        failures: When its worker crashed or its load failed, oldest first, as far back as the circuit looks.
        retry_at: Not loaded again before. Of a broken one: when its circuit closes by itself.
        cause: Why it is broken, in a sentence.
    """

    key: str
    options: tuple[Option, ...]
    slots: int = 1
    status: Status = "absent"
    placed: Option | None = None
    charges: Charges = ()
    residue: Charges = ()
    ghost: Charges = ()
    ghost_at: float = 0.0
    in_flight: frozenset[str] = frozenset()
    pinned: bool = False
    last_used: float = 0.0
    loaded_at: float = 0.0
    served: int = 0
    wanted_out: str = ""
    wanted_for: str = ""
    leaving_to: Literal["", "parked", "disk"] = ""
    window_at: float | None = None
    window_served: int = 0
    window_for: str = ""
    failures: tuple[float, ...] = ()
    retry_at: float = 0.0
    cause: str = ""

    def changed(self, **changes: Any) -> ModelState:
        """The same model, with some fields new. `dataclasses.replace` takes eight times as long, at each answer.

        Raises:
            TypeError: There is no such field.
        """
        values = self.__dict__ | changes
        if len(values) != len(self.__dict__):
            raise TypeError(
                f"a model has no field {', '.join(sorted(changes.keys() - self.__dict__.keys()))}"
            )
        new = object.__new__(ModelState)
        object.__setattr__(new, "__dict__", values)
        return new


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody who waits.

    Attributes:
        id: Unique.
        model: Key of the model.
        priority: Base priority, see `PRIORITIES`.
        arrived: When.
        kind: `generate` ends with `Finished`; `load` only wants the model resident and ends with its `Start`.
        note: What asks: a cell, a command. Nothing is decided by it.
    """

    id: str
    model: str
    priority: int
    arrived: float
    kind: Literal["generate", "load"] = "generate"
    note: str = ""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A model that another kernel of this user holds on this machine.

    Attributes:
        lease_id: Unique.
        model: As its kernel names it.
        charges: What it takes.
        kernel_pid: Of the process that holds it.
        evictable: Idle and not pinned: it can be asked for.
        last_used: When it answered last, on this process's clock.
        asked: Its kernel has been asked to let it go.
        may_leave: Not evictable now, but it answers, loads or leaves, so that it may go some time: worth waiting for.
        asked_at: When it was asked.
    """

    lease_id: str
    model: str
    charges: Charges
    kernel_pid: int
    evictable: bool = False
    last_used: float = 0.0
    asked: bool = False
    may_leave: bool = False
    asked_at: float = 0.0


@dataclass(frozen=True, slots=True)
class DeviceState:
    """One device.

    Attributes:
        id: `cuda:0`, `mps`, `cpu`, `sim:…`.
        budget_bytes: What all our models together may take.
        external_bytes: What other programs take of the budget.
        free_bytes: What the driver says is free; None where nobody says. In a `State` it is kept as if what loads had
            taken nothing yet, and what leaves still had everything: a look at a device cannot tell how far these are.
    """

    id: str
    budget_bytes: int
    external_bytes: int = 0
    free_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Numbers of the policy.

    Attributes:
        max_workers: Worker processes at once, parked ones too.
        ageing_s: A request gains one point of priority each time it has waited so long; above 0.
        ageing_cap: No further: the system's own requests (100) stay above.
        window_s: A model whose room is needed serves its own for so long. LoRAX rotates adapters after as long.
        window_requests: Or so many of them, whichever comes first.
        linger_s: In its window, an idle model is kept for so long after an answer: a loop that asks it again and again
            needs a moment between two questions, and would otherwise lose its model at each.
        circuit_failures: So many failures ...
        circuit_within_s: ... within so many seconds, and nobody starts the model again for now.
        backoff_s: Wait after the first failure; it doubles with each recent one.
        backoff_cap_s: Longest wait between two tries.
        refused_s: Wait after the ledger has refused: whoever was quicker needs a moment to be seen.
        ghost_s: Memory of a model that is gone has so long to come back; after that it is not counted on.
        foreign_s: Another kernel has so long to let an idle model go; after that it is not counted on.
    """

    max_workers: int = 4
    ageing_s: float = 2.0
    ageing_cap: int = 99
    window_s: float = 2.0
    window_requests: int = 8
    linger_s: float = 0.05
    circuit_failures: int = 5
    circuit_within_s: float = 600.0
    backoff_s: float = 1.0
    backoff_cap_s: float = 30.0
    refused_s: float = 0.5
    ghost_s: float = 30.0
    foreign_s: float = 30.0


@dataclass(frozen=True, slots=True)
class State:
    """Everything that a decision depends on."""

    devices: tuple[DeviceState, ...] = ()
    models: Mapping[str, ModelState] = field(default_factory=dict)
    waiting: tuple[Request, ...] = ()
    foreign: tuple[Foreign, ...] = ()
    limits: Limits = Limits()
    now: float = 0.0
