"""What happens to the scheduler (events) and what it has done (effects).

A log of events replays to the same effects; each effect names its reason in words that a person is shown.

Source: spec 4 §Residency (`policy.decide(state, event) -> (state, effects)`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from xprim_nb.scheduling.state import Charges, DeviceState, Foreign, Option, Request

__all__ = [
    "Alarm",
    "Arrived",
    "AskForeign",
    "Crashed",
    "Departed",
    "Effect",
    "Event",
    "Evict",
    "EvictAsked",
    "EvictRefused",
    "Finished",
    "Left",
    "Load",
    "LoadFailed",
    "Loaded",
    "Observed",
    "PinRefused",
    "PinSet",
    "Recovered",
    "Refused",
    "Reject",
    "Retried",
    "Start",
    "Ticked",
    "Wake",
]

# --- events: what happened -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request came; `options` and `slots` are those of its model, as known now."""

    at: float
    request: Request
    options: tuple[Option, ...]
    slots: int = 1


@dataclass(frozen=True, slots=True)
class Departed:
    """Who had asked waits no more."""

    at: float
    request_id: str


@dataclass(frozen=True, slots=True)
class Finished:
    """An answer has ended, well or not."""

    at: float
    request_id: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model is resident; `charges` is what was measured."""

    at: float
    model: str
    charges: Charges


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """Loading or waking ended without a model; `left` is what is still charged (a ghost), mostly nothing.

    `is_final` when trying again cannot help (files that this backend cannot read): who waits is told at once.
    """

    at: float
    model: str
    cause: str
    is_final: bool = False
    left: Charges = ()


@dataclass(frozen=True, slots=True)
class Left:
    """A model has been evicted, and its memory was seen to come back; `charges` is what it still takes."""

    at: float
    model: str
    parked: bool
    charges: Charges = ()


@dataclass(frozen=True, slots=True)
class Crashed:
    """The worker of a resident, parked or leaving model is gone; what it answered has failed.

    `left` is what is still charged (a ghost), mostly nothing.
    """

    at: float
    model: str
    cause: str
    left: Charges = ()


@dataclass(frozen=True, slots=True)
class Recovered:
    """Memory of a model that is long gone has come back: `charges` is what its ghost still takes, mostly nothing."""

    at: float
    model: str
    charges: Charges = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """The ledger would not reserve: another kernel was quicker. `devices` and `foreign` are as it sees them."""

    at: float
    model: str
    devices: tuple[DeviceState, ...]
    foreign: tuple[Foreign, ...]


@dataclass(frozen=True, slots=True)
class Observed:
    """The devices were looked at again, and the ledger.

    While anybody waits for room, look again each second or so: that another program or kernel has let memory go is
    heard from nobody else.
    """

    at: float
    devices: tuple[DeviceState, ...]
    foreign: tuple[Foreign, ...]


@dataclass(frozen=True, slots=True)
class PinSet:
    """A model shall be pinned or unpinned; `options` may be left out when they are known or do not matter yet."""

    at: float
    model: str
    pinned: bool
    options: tuple[Option, ...] = ()


@dataclass(frozen=True, slots=True)
class EvictAsked:
    """Somebody wants a model out, as soon as it is idle; `by` is part of a sentence (`asked for by its user`)."""

    at: float
    model: str
    by: str


@dataclass(frozen=True, slots=True)
class Retried:
    """Somebody wants a broken model tried again at once."""

    at: float
    model: str


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time has passed: an `Alarm` rang."""

    at: float


Event: TypeAlias = (
    Arrived
    | Departed
    | Finished
    | Loaded
    | LoadFailed
    | Left
    | Crashed
    | Recovered
    | Refused
    | Observed
    | PinSet
    | EvictAsked
    | Retried
    | Ticked
)


# --- effects: what is to be done -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Load:
    """Reserve, start a worker, load. Ends with `Loaded`, `LoadFailed` or `Refused`."""

    model: str
    option: Option
    reason: str


@dataclass(frozen=True, slots=True)
class Wake:
    """Bring a parked model back; its additional charge is reserved first. Ends like `Load`."""

    model: str
    option: Option
    reason: str


@dataclass(frozen=True, slots=True)
class Evict:
    """Park or unload an idle model. Ends with `Left`, or `Crashed`.

    Parking may take more of the machine's memory than before; the model is charged with it from now on. `for_model` is
    the one that it makes room for; empty when a person wants it out.
    """

    model: str
    to: Literal["parked", "disk"]
    reason: str
    for_model: str = ""


@dataclass(frozen=True, slots=True)
class Start:
    """Let a request have its model."""

    request_id: str
    model: str


@dataclass(frozen=True, slots=True)
class Reject:
    """Tell a request that it will not be served.

    `kind`: `capacity`, `broken` (the circuit is open), or `refused` (a fault that trying again cannot mend).
    """

    request_id: str
    kind: Literal["capacity", "broken", "refused"]
    message: str
    needed_bytes: int = 0
    available_bytes: int = 0


@dataclass(frozen=True, slots=True)
class AskForeign:
    """Ask another kernel to let an idle model go."""

    lease_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class PinRefused:
    """A model is not pinned: another one could never be loaded beside it. The message has the numbers."""

    model: str
    message: str
    needed_bytes: int = 0
    available_bytes: int = 0


@dataclass(frozen=True, slots=True)
class EvictRefused:
    """Somebody wanted a pinned model out; the message says so."""

    model: str
    message: str


@dataclass(frozen=True, slots=True)
class Alarm:
    """Send `Ticked` at this time: the passing of time alone changes nothing before.

    The latest decision's alarm is the only one; a decision without one needs none.
    """

    at: float


Effect: TypeAlias = Load | Wake | Evict | Start | Reject | AskForeign | PinRefused | EvictRefused | Alarm
