"""What the requests that need room are to expect: one outlook for each model that is asked for and not here.

`decide` carries the outlooks out, `plan` and `explain` show them: the three cannot disagree. The numbers are those of
the decision tree in `policy`.

Source: spec 4 §Residency (eviction, queue, degrade); research residency §4.9 rule 2, §4.6; EASY backfilling (a smaller
request may pass a larger one only where that does not delay it).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from functools import cached_property
from typing import Literal, NamedTuple, TypeAlias

from xprim_nb.scheduling.eviction import Victim, candidate_of, choose
from xprim_nb.scheduling.leavers import Leavers
from xprim_nb.scheduling.queue import (
    Line,
    first_of,
    lines_of,
    may_stop,
    next_swap,
    ranks_of,
    window_end,
)
from xprim_nb.scheduling.room import (
    HOLDING,
    WORKERS,
    Amounts,
    Room,
    covers,
    holds_worker,
    is_coming,
    is_fresh,
    need_of,
    takes_worker,
)
from xprim_nb.scheduling.state import ModelState, Option, Request, State

__all__ = ["Outlook", "Survey", "ever", "survey"]

Verdict: TypeAlias = Literal[
    "fits", "evicts", "coming", "blocked", "behind", "backoff", "leaving", "impossible"
]
# Who needs room and has none yet: what these wait for may change when others pass them.
_WAITING = frozenset({"coming", "blocked", "behind"})


class Outlook(NamedTuple):
    """What the first request for one model is to expect.

    Attributes:
        request: The first one.
        verdict: `fits` now; `evicts` idle models for it; `coming`: fits when what leaves already has left; `blocked`
            by models in use; `behind` others who need room; `backoff`: not tried again yet; `leaving`: its own model
            leaves first; `impossible`.
        option: How it would be held; None where that is open.
        need: What that takes beyond what is charged already.
        victims: Who leaves for it, now or (`blocked`) when they may.
        stops: Of the victims of `blocked`, who begins no new answer from now on.
        oldest: The least recently used of all that could leave now; empty when nobody could.
    """

    request: Request
    verdict: Verdict
    option: Option | None = None
    need: Amounts | None = None
    victims: tuple[Victim, ...] = ()
    stops: frozenset[str] = frozenset()
    oldest: str = ""


class Survey(NamedTuple):
    """All outlooks, next first; who waits, by model; and when the passing of time alone changes anything."""

    outlooks: tuple[Outlook, ...]
    lines: dict[str, Line]
    alarm: float | None


def ever(state: State, model: ModelState) -> Amounts:
    """What a model could have at most, were everything gone that may go some time.

    Pinned models stay, other kernels' models in which nothing hints that they will go, and old ghosts.
    """
    return _without_own(_ever(state, Room(state).now), model)


def _ever(state: State, now: Amounts) -> Amounts:
    room = dict(now)
    for model in state.models.values():
        if not model.pinned and model.status in HOLDING:
            for device, size in model.charges:
                room[device] = room.get(device, 0) + size
            room[WORKERS] += holds_worker(model)
        if is_fresh(model, state.now, state.limits):
            for device, size in model.ghost:
                room[device] = room.get(device, 0) + size
    for lease in state.foreign:
        may_go = is_coming(lease, state.now, state.limits) or (lease.evictable and not lease.asked)
        if may_go or lease.may_leave:
            for device, size in lease.charges:
                room[device] = room.get(device, 0) + size
    return room


def _without_own(room: Amounts, model: ModelState) -> Amounts:
    """Room for a model beyond what it holds itself."""
    if model.status not in HOLDING or model.pinned:
        return room
    room = dict(room)
    for device, size in model.charges:
        room[device] -= size
    room[WORKERS] -= holds_worker(model)
    return room


def survey(state: State) -> Survey:
    """The outlooks of everybody who needs room, in the order of the queue."""
    lines = lines_of(state.waiting)
    needy = [key for key in lines if state.models[key].status in ("absent", "parked")]
    return _Surveyor(state, lines).run(needy) if needy else Survey((), lines, None)


class _Surveyor:
    """One pass over the queue; what it promises to the first is gone for the next."""

    def __init__(self, state: State, lines: dict[str, Line]) -> None:
        self.state, self.now, self.limits = state, state.now, state.limits
        self.lines = lines
        self.ranks = ranks_of(lines, state.now, state.limits)
        self.room = Room(state)
        self.most = _ever(state, self.room.now)
        self.alarm = math.inf
        self.taken: set[str] = set()  # leave for somebody who is before
        self.kept: set[str] = set()  # have their outlook: nobody behind takes their models

    @cached_property
    def leavers(self) -> Leavers:
        """Who may leave: looked at when somebody needs it first."""
        return Leavers(self.state, self.lines, self.ranks, self.kept)

    def run(self, needy: Iterable[str]) -> Survey:
        """The outlooks of the first request of each of these models, next first."""
        heads = [first_of(self.lines[key], self.ranks) for key in needy]
        heads.sort(key=lambda each: self.ranks[each.id])
        outlooks: list[Outlook] = []
        ahead: dict[int, Request] = {}  # the last of each base that is before, and for whose sake others wait
        for head in heads:
            outlook = self._outlook(head)
            outlooks.append(outlook)
            self._keep(head.model)
            if outlook.verdict in _WAITING:
                own = (requests[0] for requests in self.lines[head.model].values())
                self._notice_swaps(head, (*ahead.values(), *own))
            if outlook.verdict in ("coming", "blocked", "evicts"):
                ahead[head.priority] = head
        if any(each.verdict in _WAITING for each in outlooks):
            self._notice_ends()
        return Survey(tuple(outlooks), self.lines, self.alarm if self.alarm < math.inf else None)

    def _notice(self, at: float) -> None:
        """Something may change by itself then; only the first such time matters."""
        if self.now < at < self.alarm:
            self.alarm = at

    def _notice_ends(self) -> None:
        """Idle models are spared no more, other kernels have not answered, ghosts have not gone."""
        for at in self.leavers.spared if "leavers" in self.__dict__ else ():
            self._notice(at)
        for lease in self.state.foreign:
            if is_coming(lease, self.now, self.limits):
                self._notice(lease.asked_at + self.limits.foreign_s)
        for model in self.state.models.values():
            if model.ghost:
                self._notice(model.ghost_at + self.limits.ghost_s)

    def _keep(self, key: str) -> None:
        """Nobody behind takes this model."""
        self.kept.add(key)
        if "leavers" in self.__dict__:
            self.leavers.remove(key)

    def _take(self, key: str) -> None:
        """It leaves for the request that is looked at."""
        self.taken.add(key)
        self.leavers.remove(key)

    def _outlook(self, head: Request) -> Outlook:
        model = self.state.models[head.model]
        if model.key in self.taken:
            return Outlook(head, "leaving")
        if model.retry_at > self.now:  # 4.1
            self._notice(model.retry_at)
            return Outlook(head, "backoff")
        is_parked = model.status == "parked" and model.placed is not None
        full: list[tuple[Option, Amounts]] = []
        degraded: list[tuple[Option, Amounts]] = []
        for option in (model.placed,) if is_parked and model.placed else model.options:
            group = degraded if option.degraded and not is_parked else full
            group.append((option, need_of(model, option)))
        found = self._among(head, model, full)
        if found is None and degraded:  # 4.7
            found = self._among(head, model, degraded)
        if found is not None:
            return found
        if is_parked and not model.pinned and self._fits_once_gone(model):  # 4.8
            victim = Victim(candidate_of(model), "disk")
            self._take(model.key)
            self.room.leave(victim.frees)
            return Outlook(head, "evicts", victims=(victim,))
        return Outlook(head, "impossible")  # 4.9

    def _fits_once_gone(self, model: ModelState) -> bool:
        """True when a parked model that cannot be woken could be loaded anew, were its residue gone."""
        return any(
            covers(self.most, dict(each.awake)) and takes_worker(each) <= self.most[WORKERS]
            for each in model.options
        )

    def _among(self, head: Request, model: ModelState, group: list[tuple[Option, Amounts]]) -> Outlook | None:
        """The outlook with one of these options; None when none of them can ever be had."""
        for option, need in group:  # 4.2
            if self.room.fits(need):
                self.room.take(need)
                return Outlook(head, "fits", option, need)
        for option, need in group:  # 4.3
            if covers(self.room.later, need):
                self.room.claim(need)
                return Outlook(head, "coming", option, need)
        # Of the others even all who are left to leave would free too little.
        hopeful = [each for each in group if self.room.will_fit(each[1], self.leavers.rest)]
        if hopeful:
            found = self._by_leaving(head, hopeful)
            if found is not None:
                return found
        room = _without_own(self.most, model)
        for option, need in group:
            if covers(room, need):
                return Outlook(head, "behind", option, need)  # 4.6
        return None

    def _by_leaving(self, head: Request, group: list[tuple[Option, Amounts]]) -> Outlook | None:
        """The outlook when others leave; None when those who are left to leave free too little."""
        idle, busy = self.leavers.of(head)
        self._notice_swaps(head, self.leavers.rivals(head))
        for option, need in group if idle else ():  # 4.4
            victims = choose(need, self.room, idle)
            if victims is not None:
                self._promise(need, victims, is_now=True)
                return Outlook(head, "evicts", option, need, victims, oldest=idle[0].key)
        for option, need in group:  # 4.5
            victims = choose(need, self.room, [*idle, *busy])
            if victims is not None:
                self._promise(need, victims, is_now=False)
                return Outlook(
                    head,
                    "blocked",
                    option,
                    need,
                    victims,
                    self._stopped(head, victims, {each.key for each in idle}),
                )
        return None

    def _promise(self, need: Amounts, victims: Iterable[Victim], *, is_now: bool) -> None:
        """Nobody behind counts on this room, and on these victims."""
        for victim in victims:
            self._take(victim.who.key)
            self.room.leave(victim.frees)
            if is_now and victim.to == "parked":  # a part of that is taken at once
                for device, size in victim.who.takes.items():
                    self.room.now[device] -= size
        self.room.claim(need)

    def _stopped(self, head: Request, victims: tuple[Victim, ...], ready: Collection[str]) -> frozenset[str]:
        """Who begins no new answer: all of the plan, and only when all may be stopped; else it would be for nothing."""
        stopped: set[str] = set()
        is_whole = True
        for key in (victim.who.key for victim in victims):
            model = self.state.models.get(key)
            if model is None or model.status != "resident":
                is_whole = is_whole and key in ready
                continue
            line = self.lines.get(key)
            if may_stop(model, line, head, self.now, self.limits, self.ranks):
                stopped.add(key)
            elif key not in ready:
                is_whole = False
            self._notice(window_end(model, self.now, self.limits))
        return frozenset(stopped) if is_whole else frozenset()

    def _notice_swaps(self, head: Request, others: Iterable[Request]) -> None:
        for other in others:
            at = next_swap(other, head, self.now, self.limits, self.ranks, self.alarm)
            if at is not None:
                self._notice(at)
