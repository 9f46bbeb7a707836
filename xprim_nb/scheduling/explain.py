"""Why something was decided, and why somebody waits: in a sentence, for the person who asks.

Source: spec 4 §Residency ("queue position and reason are visible", "why was X evicted?"); research residency §6.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from xprim_nb._text import format_count, format_seconds
from xprim_nb.scheduling.happenings import (
    AskForeign,
    Crashed,
    Effect,
    Event,
    Evict,
    EvictRefused,
    Load,
    LoadFailed,
    PinRefused,
    Refused,
    Reject,
    Wake,
)
from xprim_nb.scheduling.queue import ranked, window_end
from xprim_nb.scheduling.replay import Entry
from xprim_nb.scheduling.room import is_coming
from xprim_nb.scheduling.state import ModelState, Request, State
from xprim_nb.scheduling.survey import Outlook, survey
from xprim_nb.scheduling.wording import joined, name_of, shortage

__all__ = ["Place", "queue_position", "queue_positions", "why", "why_not_evict"]


class Place(NamedTuple):
    """Where somebody stands in the queue: 1 is next; and why they wait, in a sentence."""

    request_id: str
    position: int
    reason: str


def why(log: Sequence[Entry], model: str, now: float | None = None) -> str:
    """The latest thing that was decided about a model, or happened to it, why, and how long ago.

    Args:
        log: Oldest first.
        model: `backend:name`, or the id of another kernel's lease.
        now: On the log's clock, in seconds; None for its end, which may be long past where nothing happens.
    """
    if now is None:
        now = log[-1].event.at if log else 0.0
    asked = {
        request.id: request.model
        for event, _ in log
        if (request := getattr(event, "request", None)) is not None
    }
    for event, effects in reversed(log):
        told = next((text for each in reversed(effects) if (text := _of_effect(each, model, asked))), "")
        told = told or _of_event(event, model)
        if told:
            return f"{told} ({format_seconds(max(0.0, now - event.at))} ago)"
    return f"nothing has been decided about {name_of(model)} lately"


def _of_effect(effect: Effect, model: str, asked: dict[str, str]) -> str:
    match effect:
        case Load() | Wake() | Evict() if effect.model == model:
            return effect.reason
        case PinRefused() | EvictRefused() if effect.model == model:
            return effect.message
        case Reject() if asked.get(effect.request_id) == model:
            return effect.message
        case AskForeign() if effect.lease_id == model:
            return effect.reason
        case _:
            return ""


def _of_event(event: Event, model: str) -> str:
    match event:
        case Crashed() if event.model == model:
            return f"{name_of(model)} crashed: {event.cause}"
        case LoadFailed() if event.model == model:
            return f"{name_of(model)} could not be loaded: {event.cause}"
        case Refused() if event.model == model:
            return f"{name_of(model)} was not loaded, because another kernel took the memory first"
        case _:
            return ""


def why_not_evict(model: ModelState) -> str:
    """Why a model cannot be evicted now; empty when it can."""
    name = name_of(model.key)
    if model.pinned:
        return f"{name} is pinned"
    if model.in_flight:
        return f"{name} gives {format_count(len(model.in_flight), 'answer')}"
    return {
        "loading": f"{name} is being loaded",
        "waking": f"{name} wakes",
        "leaving": f"{name} leaves already",
    }.get(model.status, "")


def queue_position(state: State, request_id: str) -> Place | None:
    """Where one request stands, and why it waits; None when it does not wait."""
    return next((each for each in queue_positions(state) if each.request_id == request_id), None)


def queue_positions(state: State) -> list[Place]:
    """All who wait, next first."""
    if not state.waiting:
        return []
    outlooks = {each.request.model: each for each in survey(state).outlooks}
    before: dict[str, int] = {}
    places = []
    for position, request in enumerate(ranked(state.waiting, state.now, state.limits), 1):
        ahead = before.get(request.model, 0)
        before[request.model] = ahead + 1
        places.append(
            Place(request.id, position, _reason(state, request, ahead, outlooks.get(request.model)))
        )
    return places


def _reason(state: State, request: Request, ahead: int, outlook: Outlook | None) -> str:
    model = state.models[request.model]
    name = name_of(model.key)
    match model.status:
        case "resident" if model.wanted_out:
            return (
                f"{name} {model.wanted_out}, and is loaded again after that"
                if model.wanted_for
                else (f"{name} leaves ({model.wanted_out}), and is loaded again after that")
            )
        case "resident":
            others = f", and {format_count(ahead, 'request')} for it {_is_are(ahead)} before" if ahead else ""
            return f"{name} gives {format_count(len(model.in_flight), 'answer')} already{others}"
        case "loading":
            return f"{name} is being loaded"
        case "waking":
            return f"{name} wakes"
        case "leaving":
            return f"{name} leaves, and is loaded again after that"
        case _:
            return _reason_of_absent(state, model, outlook)


def _is_are(number: int) -> str:
    return "is" if number == 1 else "are"


def _reason_of_absent(state: State, model: ModelState, outlook: Outlook | None) -> str:
    name = name_of(model.key)
    match outlook.verdict if outlook else "fits":
        case "backoff":
            wait = format_seconds(model.retry_at - state.now)
            return (
                f"{name} failed and is tried again in {wait}: {model.cause}"
                if model.cause
                else (f"another kernel was quicker, and {name} is tried again in {wait}")
            )
        case "blocked":
            return _reason_of_blocked(state, outlook)
        case "impossible":
            return shortage(state, model).message
        case "behind":
            return f"{name} needs room that is promised to those before it"
        case "fits":
            return f"{name} is next to be loaded"
        case _:
            leaving = [name_of(each.key) for each in state.models.values() if each.status == "leaving"]
            leaving += [
                f"{name_of(each.model)} of another kernel"
                for each in state.foreign
                if is_coming(each, state.now, state.limits)
            ]
            return f"{name} fits when {joined(leaving)} {'has' if len(leaving) == 1 else 'have'} left"


def _reason_of_blocked(state: State, outlook: Outlook | None) -> str:
    parts = []
    for victim in outlook.victims if outlook else ():
        if victim.who.is_foreign:
            lease = next(each for each in state.foreign if each.lease_id == victim.who.key)
            parts.append(f"{name_of(lease.model)} of another kernel ends its work")
            continue
        if victim.who.is_ghost:
            parts.append(f"the memory of {name_of(victim.who.key)} has come back")
            continue
        model = state.models[victim.who.key]
        name = name_of(model.key)
        if model.status != "resident":
            parts.append(
                f"{name} has been loaded and had its turn" if model.status != "parked" else f"{name} leaves"
            )
        elif model.wanted_out:
            parts.append(f"{name} ends its {format_count(len(model.in_flight), 'answer')}")
        else:
            wait = max(0.0, window_end(model, state.now, state.limits) - state.now)
            parts.append(
                f"{name} has had its turn" + (f", in {format_seconds(wait)} at the latest" if wait else "")
            )
    name = name_of(outlook.request.model) if outlook else ""
    return f"{name} fits when {joined(parts)}"
