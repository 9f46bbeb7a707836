"""Pins may not starve the rest: a pin is refused when another model that we know could never be loaded beside it.

All pinned models count with what they are charged with, or with their first option while they are not here. What could
not be loaded before either is no reason to refuse.

Source: spec 4 §Residency ("pins may not starve the rest"); research residency §4.9 (SGLang's rule of N - 1).
"""

from __future__ import annotations

from xprim_nb._text import format_bytes
from xprim_nb.scheduling.happenings import PinRefused
from xprim_nb.scheduling.room import HOLDING, WORKERS, Amounts, covers, holds_worker, need_of
from xprim_nb.scheduling.state import ModelState, State
from xprim_nb.scheduling.survey import ever
from xprim_nb.scheduling.wording import name_of, tightest

__all__ = ["refuse_pin"]


def refuse_pin(state: State, model: ModelState) -> PinRefused | None:
    """Why `model` cannot be pinned, with the numbers; None when it can."""
    room = _without_pins(state, model)
    before = _less(room, [each for each in state.models.values() if each.pinned and each.key != model.key])
    after = _less(before, [model])
    starved = [
        each
        for each in state.models.values()
        if each.key != model.key
        and not each.pinned
        and _can_be_had(each, before)
        and not _can_be_had(each, after)
    ]
    if not starved:
        return None
    largest = max(starved, key=lambda each: (sum(size for _, size in each.options[0].awake), each.key))
    need = _new_need(largest)
    device = tightest(need, after)
    name, other = name_of(model.key), name_of(largest.key)
    most = max(0, after.get(device, 0))
    if device == WORKERS:
        limit = state.limits.max_workers
        message = f"{name} is not pinned: of {limit} worker processes none would be left for {other}"
        return PinRefused(model.key, message)
    message = (
        f"{name} is not pinned: {other} needs {format_bytes(need[device])} on {device}, "
        f"and {format_bytes(most)} would be left for it"
    )
    return PinRefused(model.key, message, need[device], most)


def _without_pins(state: State, model: ModelState) -> Amounts:
    """Room, were all of ours gone."""
    room = ever(state, ModelState(model.key, ()))
    for each in state.models.values():
        if each.pinned and each.status in HOLDING:
            for device, size in each.charges:
                room[device] = room.get(device, 0) + size
            room[WORKERS] += holds_worker(each)
    return room


def _less(room: Amounts, pinned: list[ModelState]) -> Amounts:
    rest = dict(room)
    for model in pinned:
        if model.status in HOLDING:
            held = dict(model.charges)
            held[WORKERS] = int(holds_worker(model))
        else:
            held = _new_need(model) if model.options else {}
        for device, size in held.items():
            rest[device] = rest.get(device, 0) - size
    return rest


def _new_need(model: ModelState) -> Amounts:
    return need_of(ModelState(model.key, model.options), model.options[0])


def _can_be_had(model: ModelState, room: Amounts) -> bool:
    """True when one of its undegraded options fits."""
    absent = ModelState(model.key, model.options)
    return any(covers(room, need_of(absent, option)) for option in model.options if not option.degraded)
