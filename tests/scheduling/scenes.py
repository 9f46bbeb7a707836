"""Small scenes in words: a device, some models of so many gigabytes, and what is decided as `load a` or `start 1`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from xprim_nb.scheduling.happenings import (
    Alarm,
    Arrived,
    AskForeign,
    Crashed,
    Departed,
    Effect,
    Event,
    Evict,
    EvictAsked,
    EvictRefused,
    Finished,
    Left,
    Load,
    Loaded,
    LoadFailed,
    Observed,
    PinRefused,
    PinSet,
    Recovered,
    Refused,
    Reject,
    Retried,
    Start,
    Ticked,
    Wake,
)
from xprim_nb.scheduling.policy import decide
from xprim_nb.scheduling.replay import Entry
from xprim_nb.scheduling.state import (
    PRIORITIES,
    Charges,
    DeviceState,
    Foreign,
    Limits,
    ModelState,
    Option,
    Request,
    State,
)

GB = 1024**3


def gb(**sizes: float) -> Charges:
    """Charges from gigabytes by device."""
    return tuple(sorted((device, int(size * GB)) for device, size in sizes.items()))


def device(name: str, budget: float, external: float = 0.0, free: float | None = None) -> DeviceState:
    """A device of so many gigabytes."""
    return DeviceState(name, int(budget * GB), int(external * GB), None if free is None else int(free * GB))


def option(size: float, parked: Charges | None = None, **changes: Any) -> Option:
    """One way to hold a model: so many gigabytes of `gpu`."""
    return replace(Option("gpu", 4096, gb(gpu=size), parked, load_s=1.0), **changes)


class Scene:
    """One engine, told what happens; `log` has all of it. Models are named by a letter, requests by a number."""

    def __init__(
        self,
        budget: float = 8.0,
        *,
        devices: tuple[DeviceState, ...] = (),
        foreign: tuple[Foreign, ...] = (),
        parked: Charges | None = None,
        **limits: Any,
    ) -> None:
        # No lingering, unless a scene is about it: what is idle may go at once.
        numbers = {"linger_s": 0.0, "max_workers": 10, **limits}
        self.state = State(
            devices or (device("gpu", budget),), foreign=foreign, limits=Limits(**numbers), now=100.0
        )
        self.log: list[Entry] = []
        self.effects: tuple[Effect, ...] = ()
        self.parked = parked
        self.number = 0

    @property
    def now(self) -> float:
        """The time, which begins at 100 s."""
        return self.state.now

    def model(self, name: str) -> ModelState:
        """A model by its letter."""
        return self.state.models[f"numpy:{name}"]

    def tell(self, event: Event) -> list[str]:
        """What is decided, in words; alarms are not among them."""
        self.state, self.effects = decide(self.state, event)
        self.log.append(Entry(event, self.effects))
        return [words(each) for each in self.effects if not isinstance(each, Alarm)]

    @property
    def alarm(self) -> float | None:
        """When the latest decision wants to be asked again."""
        return next((each.at for each in self.effects if isinstance(each, Alarm)), None)

    @property
    def reasons(self) -> list[str]:
        """The latest decision's sentences."""
        found = (getattr(each, "reason", "") or getattr(each, "message", "") for each in self.effects)
        return [each for each in found if each]

    def ask(
        self,
        name: str,
        size: float | tuple[Option, ...] = 3.2,
        priority: str = "default",
        *,
        after: float = 0.0,
        slots: int = 1,
        kind: Any = "generate",
    ) -> list[str]:
        """Somebody asks a model, which takes so many gigabytes."""
        self.number += 1
        options = (option(size, self.parked),) if not isinstance(size, tuple) else size
        request = Request(str(self.number), f"numpy:{name}", PRIORITIES[priority], self.now + after, kind)
        return self.tell(Arrived(self.now + after, request, options, slots))

    def loaded(self, name: str, *, after: float = 0.0, charges: Charges | None = None) -> list[str]:
        """A model is resident, and takes what was reserved unless told otherwise."""
        placed = self.model(name).placed
        measured = charges if charges is not None else placed.awake if placed else ()
        return self.tell(Loaded(self.now + after, f"numpy:{name}", measured))

    def load_fails(
        self, name: str, *, after: float = 0.0, is_final: bool = False, left: Charges = ()
    ) -> list[str]:
        """Loading ended without a model."""
        return self.tell(
            LoadFailed(self.now + after, f"numpy:{name}", "its files are strange", is_final, left)
        )

    def left(
        self, name: str, *, after: float = 0.0, parked: bool = False, charges: Charges = ()
    ) -> list[str]:
        """A model has left."""
        if parked and not charges:
            placed = self.model(name).placed
            charges = (placed.parked if placed else None) or ()
        return self.tell(Left(self.now + after, f"numpy:{name}", parked, charges))

    def crashed(self, name: str, *, after: float = 0.0, left: Charges = ()) -> list[str]:
        """A worker is gone."""
        return self.tell(Crashed(self.now + after, f"numpy:{name}", "it was killed", left))

    def refused(
        self, name: str, *devices: DeviceState, foreign: tuple[Foreign, ...] = (), after: float = 0.0
    ) -> list[str]:
        """The ledger would not reserve."""
        seen = devices or self.state.devices
        return self.tell(Refused(self.now + after, f"numpy:{name}", seen, foreign))

    def finish(self, number: int, *, after: float = 0.0) -> list[str]:
        """An answer has ended."""
        return self.tell(Finished(self.now + after, str(number)))

    def depart(self, number: int, *, after: float = 0.0) -> list[str]:
        """Somebody waits no more."""
        return self.tell(Departed(self.now + after, str(number)))

    def look(self, *devices: DeviceState, foreign: tuple[Foreign, ...] = (), after: float = 0.0) -> list[str]:
        """The devices and the ledger are looked at."""
        return self.tell(Observed(self.now + after, devices or self.state.devices, foreign))

    def pin(self, name: str, size: float | None = None) -> list[str]:
        """A model shall be pinned."""
        options = () if size is None else (option(size),)
        return self.tell(PinSet(self.now, f"numpy:{name}", True, options))

    def unpin(self, name: str) -> list[str]:
        """A model shall be pinned no more."""
        return self.tell(PinSet(self.now, f"numpy:{name}", False))

    def evict(self, name: str) -> list[str]:
        """Somebody wants a model out."""
        return self.tell(EvictAsked(self.now, f"numpy:{name}", "asked for by its user"))

    def retry(self, name: str) -> list[str]:
        """Somebody wants a broken model back."""
        return self.tell(Retried(self.now, f"numpy:{name}"))

    def recovered(self, name: str, charges: Charges = ()) -> list[str]:
        """A ghost is smaller, or gone."""
        return self.tell(Recovered(self.now, f"numpy:{name}", charges))

    def wait(self, seconds: float) -> list[str]:
        """Time passes."""
        return self.tell(Ticked(self.now + seconds))

    def have(self, *names: str, size: float = 3.2) -> None:
        """These models are here and idle, the first used longest ago, a second apart."""
        for name in names:
            assert self.ask(name, size, after=1.0) == [f"load {name}"]
            assert self.loaded(name) == [f"start {self.number}"]
            assert self.finish(self.number) == []


def words(effect: Effect) -> str:
    """What is to be done, as short as it can be said."""
    match effect:
        case Load() | Wake():
            degraded = f" ({effect.option.degraded})" if effect.option.degraded else ""
            return f"{type(effect).__name__.lower()} {effect.model[6:]}{degraded}"
        case Evict():
            return f"evict {effect.model[6:]}" if effect.to == "disk" else f"park {effect.model[6:]}"
        case Start():
            return f"start {effect.request_id}"
        case Reject():
            return f"reject {effect.request_id}: {effect.kind}"
        case AskForeign():
            return f"ask for {effect.lease_id}"
        case PinRefused():
            return f"no pin for {effect.model[6:]}"
        case EvictRefused():
            return f"{effect.model[6:]} stays"
        case Alarm():
            return f"alarm at {effect.at}"
