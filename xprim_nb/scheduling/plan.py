"""What loading a model would do: who would leave, how many bytes, how long; or why it cannot be, with the numbers.

The plan is what the next decision would be, because that is made: a survey says what is to be expected, and where others
leave, the decision itself says who. It may let more of them go than the survey saw, where the room that one of them frees
belongs to somebody who waits for longer.

Source: spec 4 §Residency (`plan(model)`); research residency §6.3; the house's habit "plan, then do".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from xprim_nb._text import format_bytes, format_seconds
from xprim_nb.scheduling.eviction import Victim, candidate_of
from xprim_nb.scheduling.explain import queue_position, why_not_evict
from xprim_nb.scheduling.happenings import Arrived, Evict
from xprim_nb.scheduling.policy import decide
from xprim_nb.scheduling.room import WORKERS, Room
from xprim_nb.scheduling.state import PRIORITIES, Charges, ModelState, Option, Request, State
from xprim_nb.scheduling.survey import Outlook, survey
from xprim_nb.scheduling.wording import broken_message, name_of, shortage, where

__all__ = ["DeviceRoom", "Leaving", "ResidencyPlan", "plan"]

PlanVerdict: TypeAlias = Literal["resident", "coming", "fits", "evicts", "waits", "broken", "impossible"]
# The id of a request that nobody made; it sorts after those of who came in the same moment.
_ASKED = "~ a plan"


@dataclass(frozen=True, slots=True)
class Leaving:
    """One model that would leave.

    Attributes:
        model: `backend:name`, or the name that another kernel gave it.
        to: `parked` or `disk`.
        frees: Bytes by device; below zero where it would be parked.
        idle_s: How long it has been idle; 0.0 while it is in use.
        kernel_pid: Of another kernel that holds it; 0 when it is ours.
        waits_for: Why it cannot leave at once, in a sentence; empty when it can.
    """

    model: str
    to: Literal["parked", "disk"]
    frees: Charges
    idle_s: float = 0.0
    kernel_pid: int = 0
    waits_for: str = ""

    def __str__(self) -> str:
        gives = ", ".join(
            f"{'gives back' if size > 0 else 'takes'} {format_bytes(abs(size))} on {where(device)}"
            for device, size in self.frees
            if size
        )
        how = "is parked" if self.to == "parked" else "leaves"
        since = f"idle for {format_seconds(self.idle_s)}" if not self.waits_for else self.waits_for
        whose = f" of another kernel (process {self.kernel_pid})" if self.kernel_pid else ""
        return f"{name_of(self.model)}{whose} {how}: {since}; {gives or 'gives back its worker process'}"


@dataclass(frozen=True, slots=True)
class DeviceRoom:
    """One device of a plan: what is needed of it, what is free at once, and what it has for models."""

    device: str
    needed_bytes: int
    free_bytes: int
    budget_bytes: int


@dataclass(frozen=True, slots=True)
class ResidencyPlan:
    """What loading a model would do, as things stand. `str` gives its lines.

    Attributes:
        model: `backend:name`.
        verdict: `resident` already; `coming`: it loads or wakes already; `fits` at once; `evicts` idle models first;
            `waits` for models in use, or for those before it in the queue; `broken`; `impossible`.
        message: In a sentence: why it waits or cannot be; empty when nothing is in the way.
        device: Where it would be; empty when it cannot be.
        context_tokens: Room for prompt and answer that it would have.
        degraded: How that is less than was asked for; empty when it is not.
        source: Whether its size is `measured`, `estimated` or `given`.
        load_s: How long loading or waking takes, once there is room; None when nobody knows.
        wakes: It is parked, and is woken instead of loaded.
        rooms: What it needs of each device.
        leaving: Who would leave, in this order.
        needed_bytes: What is needed where it is tightest, when it is `impossible`.
        available_bytes: What could be had there at most.
    """

    model: str
    verdict: PlanVerdict
    message: str = ""
    device: str = ""
    context_tokens: int = 0
    degraded: str = ""
    source: str = ""
    load_s: float | None = None
    wakes: bool = False
    rooms: tuple[DeviceRoom, ...] = ()
    leaving: tuple[Leaving, ...] = ()
    needed_bytes: int = 0
    available_bytes: int = 0

    @property
    def freed_bytes(self) -> int:
        """What all who would leave give back on the model's device together."""
        return sum(size for each in self.leaving for device, size in each.frees if device == self.device)

    def __str__(self) -> str:
        name = name_of(self.model)
        if self.verdict in ("broken", "impossible"):
            return self.message
        if self.verdict in ("resident", "coming"):
            return (
                f"{name} {'is on' if self.verdict == 'resident' else 'comes to'} {where(self.device)} already"
            )
        degraded = f", with less than was asked for ({self.degraded})" if self.degraded else ""
        lines = [
            f"{name} {'would wake' if self.wakes else 'would be loaded'} on {where(self.device)}{degraded}"
        ]
        lines += [
            f"  needs {format_bytes(each.needed_bytes)} ({self.source}) on {where(each.device)}: "
            f"{format_bytes(each.free_bytes)} of {format_bytes(each.budget_bytes)} are free"
            for each in self.rooms
        ]
        lines += [f"  {each}" for each in self.leaving]
        lines += [f"  waits: {self.message}"] if self.message else []
        took = (
            "is not known before it has been done once"
            if self.load_s is None
            else f"{format_seconds(self.load_s)}"
        )
        return "\n".join([*lines, f"  time to {'wake' if self.wakes else 'load'}: {took}"])


def plan(
    state: State,
    model: str,
    options: Sequence[Option] = (),
    *,
    slots: int = 1,
    priority: int = PRIORITIES["default"],
) -> ResidencyPlan:
    """What would happen, were the model asked for now.

    Args:
        state: As it is; nothing is changed.
        model: `backend:name`.
        options: Ways to hold it, best first; those that are known when left out.
        slots: Answers at once.
        priority: Base priority of who would ask.
    """
    known = state.models.get(model) or ModelState(model, tuple(options), slots=slots)
    if options:
        known = replace(known, options=tuple(options))
    if known.status in ("resident", "loading", "waking"):
        return _of_option(state, known, known.placed, "resident" if known.status == "resident" else "coming")
    if known.status == "broken" and state.now < known.retry_at:
        return ResidencyPlan(model, "broken", broken_message(known, state.now))
    if known.status == "broken":
        known = replace(known, status="absent")
    asked = Request(_ASKED, model, priority, state.now)
    supposed = replace(state, models={**state.models, model: known}, waiting=(*state.waiting, asked))
    outlook = next((each for each in survey(supposed).outlooks if each.request.model == model), None)
    if outlook is not None and outlook.verdict == "impossible":
        told = shortage(supposed, known)
        return ResidencyPlan(
            model,
            "impossible",
            told.message,
            needed_bytes=told.needed_bytes,
            available_bytes=told.available_bytes,
        )
    if outlook is not None and outlook.verdict == "evicts":
        outlook = outlook._replace(victims=(*outlook.victims, *_further(state, known, asked, outlook)))
    return _of_outlook(supposed, known, outlook)


def _further(state: State, known: ModelState, asked: Request, outlook: Outlook) -> tuple[Victim, ...]:
    """Who leaves for it in the next decision, beyond those that the survey chose."""
    effects = decide(state, Arrived(state.now, asked, known.options, known.slots)).effects
    seen = {victim.who.key for victim in outlook.victims}
    return tuple(
        Victim(candidate_of(state.models[each.model]), each.to)
        for each in effects
        if isinstance(each, Evict) and each.for_model == known.key and each.model not in seen
    )


def _of_outlook(state: State, known: ModelState, outlook: Outlook | None) -> ResidencyPlan:
    option = (outlook.option if outlook else None) or known.placed or next(iter(known.options), None)
    if outlook is not None and outlook.verdict == "fits":
        return _of_option(state, known, option, "fits", outlook)
    if outlook is not None and outlook.verdict == "evicts":
        return _of_option(state, known, option, "evicts", outlook)
    place = queue_position(state, outlook.request.id if outlook else _ASKED)
    found = _of_option(state, known, option, "waits", outlook)
    return replace(found, message=place.reason if place else "")


def _of_option(
    state: State,
    known: ModelState,
    option: Option | None,
    verdict: PlanVerdict,
    outlook: Outlook | None = None,
) -> ResidencyPlan:
    if option is None:
        return ResidencyPlan(known.key, verdict)
    wakes = known.status == "parked" and outlook is not None and outlook.option is not None
    seconds = option.wake_s if wakes else option.load_s
    room, budgets = Room(state).now, {each.id: each.budget_bytes for each in state.devices}
    need: Mapping[str, int] = (outlook.need if outlook else None) or {}
    return ResidencyPlan(
        known.key,
        verdict,
        device=option.device,
        context_tokens=option.context_tokens,
        degraded=option.degraded,
        source=option.source,
        load_s=seconds or None,
        wakes=wakes,
        rooms=tuple(
            DeviceRoom(device, size, max(0, room.get(device, 0)), budgets.get(device, 0))
            for device, size in sorted(need.items())
            if device != WORKERS
        ),
        leaving=tuple(_leaving(state, each) for each in (outlook.victims if outlook else ())),
    )


def _leaving(state: State, victim: Victim) -> Leaving:
    frees = tuple(sorted((device, size) for device, size in victim.frees.items() if device != WORKERS))
    if victim.who.is_foreign:
        lease = next(each for each in state.foreign if each.lease_id == victim.who.key)
        idle_s = max(0.0, state.now - lease.last_used) if lease.evictable else 0.0
        waits = "" if lease.evictable else "it is in use there"
        return Leaving(lease.model, victim.to, frees, idle_s, lease.kernel_pid, waits)
    if victim.who.is_ghost:
        return Leaving(victim.who.key, victim.to, frees, waits_for="its memory has not come back yet")
    model = state.models[victim.who.key]
    waits = why_not_evict(model)
    if not waits and any(each.model == model.key and each.id != _ASKED for each in state.waiting):
        waits = "others wait for it"
    return Leaving(
        model.key, victim.to, frees, 0.0 if waits else max(0.0, state.now - model.last_used), 0, waits
    )
