"""What the scheduler holds of one model beside its decisions: backend, runner, lease, and how it has fared.

Source: spec 4 §Residency.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from xprim_nb.errors import XprimError
from xprim_nb.scheduling.options import Placement
from xprim_nb.scheduling.state import Option
from xprim_nb.workers.contract import Backend, Runner
from xprim_nb.workers.values import ModelFacts

__all__ = ["OUR_SETTINGS", "Grant", "Held"]

OUR_SETTINGS = ("context_tokens", "footprint_bytes")
"""Settings of a model that are the engine's own; all others are its backend's."""


@dataclass(slots=True)
class Held:
    """One model of one engine. Written by the scheduler alone, on its loop.

    Attributes:
        key: `backend:name`.
        name: As its backend names it.
        backend: Which runs it.
        facts: What it is.
        settings: The backend's own settings that it is loaded with.
        placements: Ways to hold it with what they are made from: the latest of each device and context, newest first.
        placed: The one in force.
        runner: While it is loaded.
        lease_id: Of its charge in the ledger.
        ghost_id: Of a charge that its end has left behind.
        fraction: Of its loading.
        served: Answers it has given.
        load_s: How long loading it took last.
        note: What caused its load.
        making_room: Models that leave so that it can be loaded.
        evicted: Those of the load in force.
        departures: How often it has left, or its worker has ended.
        failure: Why the latest load failed.
        leaving: Its end is ours, no crash.
    """

    key: str
    name: str
    backend: Backend
    facts: ModelFacts
    settings: Mapping[str, object] = field(default_factory=dict)
    placements: tuple[Placement, ...] = ()
    placed: Placement | None = None
    runner: Runner | None = None
    lease_id: str = ""
    ghost_id: str = ""
    fraction: float = 0.0
    served: int = 0
    load_s: float = 0.0
    note: str = ""
    making_room: tuple[str, ...] = ()
    evicted: tuple[str, ...] = ()
    departures: int = 0
    failure: XprimError | None = None
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class Grant:
    """A request's turn: the loaded model is its own until it is released.

    Attributes:
        request_id: Whose.
        held: The model.
        runner: Loaded.
        option: How it is loaded.
        loading_s: For how long it was being loaded or woken while this request waited.
        evicted: Models that left so that it could be.
    """

    request_id: str
    held: Held
    runner: Runner
    option: Option
    loading_s: float = 0.0
    evicted: tuple[str, ...] = ()
