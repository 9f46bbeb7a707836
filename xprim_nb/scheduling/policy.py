"""What is to be done: `decide(state, event) -> (state, effects)`, with no clock, no chance and no waiting of its own.

    0. A request to a model that is resident and has a free slot starts at once, where nobody waits and nobody is to
       leave: 1 to 6 would come to the same, and most requests are of this kind.
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

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from xprim_nb.scheduling.changes import absorb
from xprim_nb.scheduling.draft import Draft
from xprim_nb.scheduling.happenings import Alarm, Arrived, AskForeign, Effect, Event, Load, Start, Wake
from xprim_nb.scheduling.queue import Line, rank, ranked
from xprim_nb.scheduling.room import highest
from xprim_nb.scheduling.state import Request, State
from xprim_nb.scheduling.survey import Outlook, survey
from xprim_nb.scheduling.wording import ask_reason, evict_reason, load_reason, name_of, shortage

__all__ = ["Decision", "decide", "weigh"]


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
    if isinstance(event, Arrived) and not state.waiting:
        decided = _at_once(state, event)  # 0
        if decided is not None:
            return decided
    return weigh(state, event)


def weigh(state: State, event: Event) -> Decision:
    """Decide by 1 to 6 alone: what the short way of `decide` is held against."""
    draft = Draft(state, event.at)
    absorb(draft, event)  # 1
    _let_go(draft)  # 2
    alarm = _settle(draft)
    if alarm is not None:  # 6
        draft.effects.append(Alarm(alarm))
    return Decision(draft.freeze(), tuple(draft.effects))


def _at_once(state: State, event: Arrived) -> Decision | None:  # 0
    """The decision where nobody else is concerned; None where somebody may be."""
    request = event.request
    model = state.models.get(request.model)
    if model is None or model.status != "resident" or request.kind != "generate":
        return None
    is_known = model.slots == event.slots and (not event.options or model.options == event.options)
    if not is_known or len(model.in_flight) >= model.slots:
        return None
    for each in state.models.values():
        if each.wanted_out or each.window_for or request.id in each.in_flight:
            return None
    now = max(state.now, event.at)
    changed = model.changed(in_flight=model.in_flight | {request.id}, served=model.served + 1, last_used=now)
    models = {**state.models, request.model: changed}
    return Decision(
        State(state.devices, models, (), state.foreign, state.limits, now),
        (Start(request.id, request.model),),
    )


def _settle(draft: Draft) -> float | None:
    """Decide until nothing more follows, and say when time alone changes anything.

    This ends. Each effect takes somebody out of the queue, sets a model in motion that is absent, parked or resident, or
    asks for a lease that nobody asked for; nothing here puts any of these back, so that there are so many effects at
    most. Between two of them a model's window closes once at most, opens once at most, and stays open then, whatever
    else is seen. A survey reads nothing else that a pass without effects changes: after one in which no window moved,
    the next sees the same, and changes nothing. So between two effects there are at most as many passes as there are
    windows to move, and two.
    """
    fresh: set[str] = set()  # whose windows have opened since the latest effect
    while draft.waiting:
        done, before = len(draft.effects), draft.freeze()
        found = survey(before)  # 3
        for outlook in found.outlooks:  # 4
            _carry_out(draft, before, outlook, fresh)
        _reopen(draft, found.outlooks, fresh)
        _start(draft, found.lines)  # 5
        if len(draft.effects) > done:
            fresh.clear()
        elif draft.models == before.models:
            return found.alarm
    _reopen(draft, (), ())
    return None


def _let_go(draft: Draft) -> None:  # 2
    for model in list(draft.models.values()):
        is_idle = model.status in ("resident", "parked") and not model.in_flight
        if is_idle and model.wanted_out and not model.wanted_for:
            draft.evict(model.key, "disk", f"{name_of(model.key)} leaves: {model.wanted_out}")


def _carry_out(draft: Draft, before: State, outlook: Outlook, fresh: set[str]) -> None:
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
            _stop(draft, outlook, fresh)
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


def _stop(draft: Draft, outlook: Outlook, fresh: set[str]) -> None:
    """The windows of who is in the way begin; who may be stopped begins no new answer."""
    head = outlook.request.model
    for victim in outlook.victims:
        model = draft.models.get(victim.who.key)
        if model is None or model.status != "resident":
            continue
        if model.window_at is None:
            draft.change(model.key, window_at=draft.now, window_served=model.served, window_for=head)
            fresh.add(model.key)
        if (
            model.key in outlook.stops
            and model.wanted_for != head
            and not (model.wanted_out and not model.wanted_for)
        ):
            draft.change(model.key, wanted_out=f"makes room for {name_of(head)}", wanted_for=head)


def _reopen(draft: Draft, outlooks: Iterable[Outlook], fresh: Collection[str]) -> None:
    """Whoever is in nobody's way any more goes on as before; a window that runs is handed to the next who needs it.

    One of the `fresh` ones stays: that it opened has changed what others wait for, and its end would change it back.
    """
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
            elif model.key not in fresh:
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
