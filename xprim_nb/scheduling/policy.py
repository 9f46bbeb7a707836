"""What is to be done: `decide(state, event) -> (state, effects)`, with no clock, no chance and no waiting of its own.

    1. What happened is written down (`changes`).
       1.1 A request waits; that of a broken model is rejected, unless its circuit has closed meanwhile.
       1.2 An answer has ended: its slot is free.
       1.3 A model is resident: what was measured replaces what was reserved.
       1.4 A load failed: for good, and who waits is rejected (refused); or for now, see 1.7. It may leave a ghost,
           which is charged until 1.8, and counted on to go for `ghost_s`.
       1.5 A model has left: to disk, or parked with its residue. Until this event it was charged in full.
       1.6 A worker crashed: its answers are gone, see 1.7; one that was leaving has left.
       1.7 After a failure the model is tried again when somebody waits, after `backoff_s` doubled by each recent one;
           after `circuit_failures` within `circuit_within_s` it is broken, and who waits is rejected (broken).
       1.8 A ghost has become smaller, or is gone.
       1.9 The ledger refused: what it saw replaces what we thought, and the model is tried again after `refused_s`.
       1.10 A pin is refused when another model could never be loaded beside it (`pinning`).
       1.11 Somebody wants a model out: no new answer begins, and it leaves when idle. A pinned one stays.
       1.12 Somebody wants a broken model back: its circuit is closed and its failures are forgotten.
    2. Who was asked to leave by a person, and is idle, goes to disk.
    3. Who needs room is looked at in the order of the queue (`survey`, `queue`): the first request of each model that
       is absent or parked. What is promised to one is gone for those behind it; they pass only where that harms nobody.
    4. For each of these, with its options in their order:
       4.1 Its model failed lately: it waits until `retry_at`.
       4.2 An option fits now: load, or wake. One load serves all who wait for the model; it goes on when they depart,
           and the model then stays, as the first to go when room is needed.
       4.3 What leaves already makes room: it waits.
       4.4 Idle models can make room: the whole plan leaves (`eviction`), our own before other kernels' are asked.
       4.5 Models in use are in the way: their service windows begin. When all of the plan may be stopped (`queue`), they
           begin no new answer, and leave by 4.4 when they are idle. A model that is loaded answers once at least.
       4.6 All of that is promised to those before: it waits behind them.
       4.7 Only when no undegraded option can ever be had, the degraded ones are looked at.
       4.8 A parked model that cannot be woken beside what stays goes to disk, to be loaded anew.
       4.9 Nothing can ever be had: everybody who waits for it is rejected (capacity), with the numbers.
    5. Who waits for a resident model that is not to leave starts, as many as it has slots, the next first.
    6. When the passing of time alone may change any of this, an alarm says when; if nobody waits there is none.

A model is never evicted while it answers, loads or is pinned, and nothing is loaded above the budget. Nobody waits for
ever, as long as answers and loads end: a request's rank only rises, up to the cap, where who came first is first; whoever
is first is promised its room; and who is in its way is stopped. Above the cap are the system's requests: these are few.

Source: spec 4 §Residency; research residency §4.1 (what to beat), §4.2 (decide and effects apart), §4.9.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from xprim_nb.scheduling.changes import absorb
from xprim_nb.scheduling.draft import Draft
from xprim_nb.scheduling.happenings import Alarm, AskForeign, Effect, Event, Load, Start, Wake
from xprim_nb.scheduling.queue import Line, rank, ranked
from xprim_nb.scheduling.room import highest
from xprim_nb.scheduling.state import Request, State
from xprim_nb.scheduling.survey import Outlook, survey
from xprim_nb.scheduling.wording import ask_reason, evict_reason, load_reason, name_of, shortage

__all__ = ["Decision", "decide"]


class Decision(NamedTuple):
    """What comes of an event."""

    state: State
    effects: tuple[Effect, ...]


def decide(state: State, event: Event) -> Decision:
    """The state after an event, and what is to be done now, in this order.

    Args:
        state: As the decision before left it.
        event: What happened; its time is not before that of the state.
    """
    draft = Draft(state, event.at)
    absorb(draft, event)  # 1
    _let_go(draft)  # 2
    alarm = _settle(draft)
    if alarm is not None:  # 6
        draft.effects.append(Alarm(alarm))
    return Decision(draft.freeze(), tuple(draft.effects))


def _settle(draft: Draft) -> float | None:
    """Decide until nothing more follows, and say when time alone changes anything."""
    while draft.waiting:
        done, before = len(draft.effects), draft.freeze()
        found = survey(before)  # 3
        for outlook in found.outlooks:  # 4
            _carry_out(draft, before, outlook)
        _reopen(draft, found.outlooks)
        _start(draft, found.lines)  # 5
        # Windows that begin may change who is in the way of whom, once; after that a pass changes nothing.
        if len(draft.effects) == done and draft.models == before.models:
            return found.alarm
    _reopen(draft, ())
    return None


def _let_go(draft: Draft) -> None:  # 2
    for model in list(draft.models.values()):
        is_idle = model.status in ("resident", "parked") and not model.in_flight
        if is_idle and model.wanted_out and not model.wanted_for:
            draft.evict(model.key, "disk", f"{name_of(model.key)} leaves: {model.wanted_out}")


def _carry_out(draft: Draft, before: State, outlook: Outlook) -> None:
    """One outlook becomes effects; the reasons have the numbers of the state `before`."""
    match outlook.verdict:
        case "fits":  # 4.2
            _load(draft, before, outlook)
        case "evicts":  # 4.4, 4.8
            for victim in outlook.victims:
                if victim.who.is_foreign:
                    _ask(draft, victim.who.key, ask_reason(before, outlook, victim))
                else:
                    reason = evict_reason(before, outlook, victim)
                    draft.evict(victim.who.key, victim.to, reason, outlook.request.model)
        case "blocked":  # 4.5
            _stop(draft, outlook)
        case "impossible":  # 4.9
            told = shortage(before, before.models[outlook.request.model])
            draft.reject_all(
                outlook.request.model, "capacity", told.message, told.needed_bytes, told.available_bytes
            )
        case _:  # 4.1, 4.3, 4.6: it waits
            pass


def _load(draft: Draft, before: State, outlook: Outlook) -> None:
    key, option = outlook.request.model, outlook.option
    assert option is not None  # it fits
    model, reason = draft.models[key], load_reason(before, outlook)
    is_parked = model.status == "parked"
    residue = model.charges if is_parked else ()
    draft.change(
        key,
        status="waking" if is_parked else "loading",
        placed=option,
        charges=highest(option.awake, residue),
        residue=residue,
        wanted_out="",
        wanted_for="",
    )
    draft.effects.append((Wake if is_parked else Load)(key, option, reason))


def _ask(draft: Draft, lease_id: str, reason: str) -> None:
    draft.foreign = tuple(
        replace(each, asked=True, asked_at=draft.now) if each.lease_id == lease_id else each
        for each in draft.foreign
    )
    draft.effects.append(AskForeign(lease_id, reason))


def _stop(draft: Draft, outlook: Outlook) -> None:
    """The windows of who is in the way begin; who may be stopped begins no new answer."""
    head = outlook.request.model
    for victim in outlook.victims:
        model = draft.models.get(victim.who.key)
        if model is None or model.status != "resident":
            continue
        if model.window_at is None:
            draft.change(model.key, window_at=draft.now, window_served=model.served, window_for=head)
        if (
            model.key in outlook.stops
            and model.wanted_for != head
            and not (model.wanted_out and not model.wanted_for)
        ):
            draft.change(model.key, wanted_out=f"makes room for {name_of(head)}", wanted_for=head)


def _reopen(draft: Draft, outlooks: Iterable[Outlook]) -> None:
    """Whoever is in nobody's way any more goes on as before; a window that runs is handed to the next who needs it."""
    stopped: set[str] = set()
    waiting: set[str] = set()
    needed_by: dict[str, str] = {}
    for outlook in outlooks:
        if outlook.verdict in ("blocked", "behind"):
            waiting.add(outlook.request.model)
        if outlook.verdict == "blocked":
            stopped |= outlook.stops
            needed_by.update(dict.fromkeys((each.who.key for each in outlook.victims), outlook.request.model))
    for model in list(draft.models.values()):
        if model.wanted_for and model.status == "resident" and model.key not in stopped:
            draft.change(model.key, wanted_out="", wanted_for="")
        if model.window_for and model.window_for not in waiting:
            if model.key in needed_by:
                draft.change(model.key, window_for=needed_by[model.key])
            else:
                draft.change(model.key, window_at=None, window_served=0, window_for="")


def _start(draft: Draft, lines: Mapping[str, Line]) -> None:
    started: list[Request] = []
    for key, line in lines.items():
        model = draft.models[key]
        if model.status != "resident" or model.wanted_out:
            continue
        free = model.slots - len(model.in_flight)
        answers, others = _next_of(line, free, draft)
        if not answers and not others:
            continue
        draft.change(
            key,
            in_flight=model.in_flight.union(each.id for each in answers),
            served=model.served + len(answers),
            last_used=draft.now,
        )
        started += answers + others
    started.sort(key=lambda each: rank(each, draft.now, draft.limits))
    draft.effects += [Start(each.id, each.model) for each in started]
    draft.dequeue([each.id for each in started])


def _next_of(line: Line, free: int, draft: Draft) -> tuple[list[Request], list[Request]]:
    """The next answers, as many as slots are free; and who only wanted the model to be here, who takes none."""
    waiting = [each for requests in line.values() for each in requests]
    others = [each for each in waiting if each.kind == "load"]
    if free <= 0:
        return [], others
    answers = [each for each in waiting if each.kind == "generate"]
    if len(line) > 1:
        answers = ranked(answers, draft.now, draft.limits)
    return answers[:free], others
