"""What happened, written down: each event's own consequences, before anything is decided. Rule 1 of `policy`.

Events that come late (a model that has left meanwhile, a request that has ended) change nothing.

Source: spec 4 §Workers (crash, backoff, circuit), §Residency (ledger); research residency §4.9 rule 4 (ghosts).
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from xprim_nb.scheduling.draft import Draft, summed
from xprim_nb.scheduling.happenings import (
    Arrived,
    Crashed,
    Departed,
    Event,
    EvictAsked,
    EvictRefused,
    Finished,
    Left,
    Loaded,
    LoadFailed,
    Observed,
    PinSet,
    Recovered,
    Refused,
    Retried,
    Ticked,
)
from xprim_nb.scheduling.pinning import refuse_pin
from xprim_nb.scheduling.room import HOLDING
from xprim_nb.scheduling.state import Charges, Limits, ModelState
from xprim_nb.scheduling.wording import broken_message, name_of

__all__ = ["absorb"]

_ON_ITS_WAY = frozenset({"loading", "waking"})


def absorb(draft: Draft, event: Event) -> None:
    """Write down what happened."""
    match event:
        case Arrived():
            _arrived(draft, event)
        case Departed():
            draft.dequeue([event.request_id])
        case Finished():
            _finished(draft, event)
        case Loaded():
            _loaded(draft, event)
        case LoadFailed():
            _load_failed(draft, event)
        case Left():
            _left(draft, event)
        case Crashed():
            _crashed(draft, event)
        case Recovered():
            _recovered(draft, event)
        case Refused():
            _refused(draft, event)
        case Observed():
            draft.look(event.devices, event.foreign)
        case PinSet():
            _pin_set(draft, event)
        case EvictAsked():
            _evict_asked(draft, event)
        case Retried():
            _retried(draft, event)
        case Ticked():
            pass
        case _:
            assert_never(event)


def _arrived(draft: Draft, event: Arrived) -> None:  # 1.1
    request, known = event.request, draft.models.get(event.request.model)
    if request.id in [each.id for each in draft.waiting] or _answering(draft, request.id):
        return
    if known is None:
        known = ModelState(request.model, event.options, slots=event.slots)
        draft.models[request.model] = known
    elif known.slots != event.slots or (event.options and known.options != event.options):
        known = draft.change(request.model, options=event.options or known.options, slots=event.slots)
    if known.status == "broken" and draft.now >= known.retry_at:  # the circuit closes by itself
        recent = tuple(at for at in known.failures if draft.now < at + draft.limits.circuit_within_s)
        known = draft.change(request.model, status="absent", failures=recent)
    draft.enqueue(request)
    if known.status == "broken":
        draft.reject_all(request.model, "broken", broken_message(known, draft.now))


def _answering(draft: Draft, request_id: str) -> ModelState | None:
    for model in draft.models.values():
        if request_id in model.in_flight:
            return model
    return None


def _finished(draft: Draft, event: Finished) -> None:  # 1.2
    model = _answering(draft, event.request_id)
    if model is not None:
        draft.change(model.key, in_flight=model.in_flight - {event.request_id}, last_used=draft.now)


def _loaded(draft: Draft, event: Loaded) -> None:  # 1.3
    model = draft.models.get(event.model)
    if model is None or model.status not in _ON_ITS_WAY:
        return
    placed, options = model.placed, model.options
    if placed is not None and event.charges:  # what was measured is used when it is loaded or woken again
        measured = replace(
            placed, awake=event.charges, source="given" if placed.source == "given" else "measured"
        )
        options = tuple(measured if each == placed else each for each in options)
        placed = measured
    draft.moved(model.residue, event.charges)
    draft.change(
        model.key,
        status="resident",
        placed=placed,
        options=options,
        charges=event.charges,
        residue=(),
        last_used=draft.now,
        loaded_at=draft.now,
        served=0,
        window_at=None,
        cause="",
    )


def _load_failed(draft: Draft, event: LoadFailed) -> None:  # 1.4
    model = draft.models.get(event.model)
    if model is None or model.status not in _ON_ITS_WAY:
        return
    draft.moved(model.residue, event.left)
    _gone(draft, model.key, event.left)
    if event.is_final:
        draft.change(model.key, cause=event.cause)
        draft.reject_all(model.key, "refused", f"{name_of(model.key)} cannot be loaded: {event.cause}")
    else:
        _failed(draft, model.key, event.cause)


def _left(draft: Draft, event: Left) -> None:  # 1.5
    model = draft.models.get(event.model)
    if model is None or model.status not in HOLDING:
        return
    draft.moved(model.residue if model.status in _ON_ITS_WAY else model.charges, event.charges)
    if not event.parked or model.placed is None:
        _gone(draft, model.key, event.charges)
        return
    _gone(draft, model.key, ())
    placed = replace(model.placed, parked=event.charges)
    draft.change(model.key, status="parked", placed=placed, charges=event.charges)


def _crashed(draft: Draft, event: Crashed) -> None:  # 1.6
    model = draft.models.get(event.model)
    if model is None or model.status not in HOLDING:
        return
    draft.moved(model.residue if model.status in _ON_ITS_WAY else model.charges, event.left)
    _gone(draft, model.key, event.left)
    if model.status != "leaving":  # it was to go anyhow
        _failed(draft, model.key, event.cause)


def _gone(draft: Draft, key: str, ghost: Charges) -> None:
    """No process has it any more; what did not come back stays charged."""
    draft.change(
        key,
        status="absent",
        placed=None,
        charges=(),
        residue=(),
        ghost=summed(draft.models[key].ghost, ghost),
        ghost_at=draft.now if ghost else draft.models[key].ghost_at,
        in_flight=frozenset(),
        wanted_out="",
        wanted_for="",
        leaving_to="",
        window_at=None,
        window_served=0,
        window_for="",
    )


def _failed(draft: Draft, key: str, cause: str) -> None:  # 1.7
    """Try again after a while that doubles; after too many failures not at all for a long one."""
    limits, now = draft.limits, draft.now
    earlier = draft.models[key].failures
    failures = (*(at for at in earlier if now < at + limits.circuit_within_s), now)
    if len(failures) >= limits.circuit_failures:
        closes = failures[-limits.circuit_failures] + limits.circuit_within_s
        model = draft.change(key, status="broken", failures=failures, retry_at=closes, cause=cause)
        draft.reject_all(key, "broken", broken_message(model, now))
        return
    draft.change(key, failures=failures, retry_at=now + _backoff(limits, len(failures)), cause=cause)


def _backoff(limits: Limits, failures: int) -> float:
    doublings = min(failures - 1, 60)  # a float holds no more of them
    return min(limits.backoff_cap_s, limits.backoff_s * 2.0**doublings)


def _recovered(draft: Draft, event: Recovered) -> None:  # 1.8
    model = draft.models.get(event.model)
    if model is not None:
        draft.moved(model.ghost, event.charges)
        draft.change(event.model, ghost=event.charges)


def _refused(draft: Draft, event: Refused) -> None:  # 1.9
    model = draft.models.get(event.model)
    if model is not None and model.status in _ON_ITS_WAY:
        again = draft.now + draft.limits.refused_s
        if model.status == "waking":
            draft.change(model.key, status="parked", charges=model.residue, residue=(), retry_at=again)
        else:
            _gone(draft, model.key, ())
            draft.change(model.key, retry_at=again)
    draft.look(event.devices, event.foreign)


def _pin_set(draft: Draft, event: PinSet) -> None:  # 1.10
    known = draft.models.get(event.model)
    model = known or ModelState(event.model, event.options)
    if event.options and model.options != event.options:
        model = replace(model, options=event.options)
    if not event.pinned:
        if known is not None:
            draft.change(event.model, pinned=False)
        return
    refused = refuse_pin(draft.freeze(), model)
    if refused is not None:
        draft.effects.append(refused)
        return
    draft.models[event.model] = replace(model, pinned=True, wanted_out="", wanted_for="")


def _evict_asked(draft: Draft, event: EvictAsked) -> None:  # 1.11
    model = draft.models.get(event.model)
    if model is None or model.status not in HOLDING or model.status == "leaving":
        return
    if model.pinned:
        message = f"{name_of(model.key)} is pinned and stays; unpin it first"
        draft.effects.append(EvictRefused(model.key, message))
        return
    draft.change(model.key, wanted_out=event.by, wanted_for="")


def _retried(draft: Draft, event: Retried) -> None:  # 1.12
    model = draft.models.get(event.model)
    if model is None:
        return
    status = "absent" if model.status == "broken" else model.status
    draft.change(event.model, status=status, failures=(), retry_at=0.0, cause="")
