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
from typing import Literal, TypeAlias

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
        load_s: How long loading takes, as measured here or estimated.
    """

    device: str
    context_tokens: int
    awake: Charges
    parked: Charges | None = None
    source: Literal["measured", "estimated", "given"] = "estimated"
    degraded: str = ""
    load_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelState:
    """One model that has been asked for.

    Attributes:
        key: `backend:name`.
        options: Ways to hold it, best first; degraded ones last, and only when that is allowed.
        slots: Answers at once.
        status: See the drawing above.
        placed: The option in force from `loading` until it is gone.
        charges: What it is charged with now: what was reserved, then what was measured, what is left while it leaves.
        in_flight: Ids of the requests that it answers now.
        pinned: Never evicted.
        last_used: When its latest answer began or ended.
        loaded_at: When it became resident.
        wanted_out: Asked to leave as soon as it is idle; the reason. No new answer begins.
        failures: When its worker crashed or its load failed, oldest first, as far back as the circuit looks.
        retry_at: Not loaded again before.
        cause: Why it is broken, in a sentence.
    """

    key: str
    options: tuple[Option, ...]
    slots: int = 1
    status: Status = "absent"
    placed: Option | None = None
    charges: Charges = ()
    in_flight: frozenset[str] = frozenset()
    pinned: bool = False
    last_used: float = 0.0
    loaded_at: float = 0.0
    wanted_out: str = ""
    failures: tuple[float, ...] = ()
    retry_at: float = 0.0
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody who waits.

    Attributes:
        id: Unique.
        model: Key of the model.
        priority: Base priority, see `PRIORITIES`.
        arrived: When.
        kind: `generate` ends with `Finished`; `load` only wants the model resident and ends with its `Start`.
    """

    id: str
    model: str
    priority: int
    arrived: float
    kind: Literal["generate", "load"] = "generate"


@dataclass(frozen=True, slots=True)
class Foreign:
    """A model that another kernel of this user holds on this machine."""

    lease_id: str
    model: str
    charges: Charges
    kernel_pid: int
    evictable: bool = False
    last_used: float = 0.0
    asked: bool = False


@dataclass(frozen=True, slots=True)
class DeviceState:
    """One device.

    Attributes:
        id: `cuda:0`, `mps`, `cpu`, `sim:…`.
        budget_bytes: What all our models together may take.
        external_bytes: What other programs take of the budget.
        free_bytes: What the driver says is free now; None where nobody says.
    """

    id: str
    budget_bytes: int
    external_bytes: int = 0
    free_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Numbers of the policy, each with its reason there."""

    max_workers: int = 4
    ageing_s: float = 2.0
    ageing_cap: int = 99
    window_s: float = 2.0
    window_requests: int = 8
    circuit_failures: int = 5
    circuit_within_s: float = 600.0
    backoff_s: float = 1.0
    backoff_cap_s: float = 30.0


@dataclass(frozen=True, slots=True)
class State:
    """Everything that a decision depends on."""

    devices: tuple[DeviceState, ...] = ()
    models: Mapping[str, ModelState] = field(default_factory=dict)
    waiting: tuple[Request, ...] = ()
    foreign: tuple[Foreign, ...] = ()
    limits: Limits = Limits()
    now: float = 0.0
