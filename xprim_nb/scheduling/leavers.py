"""Who may leave for a request, now or later, in the order in which they are taken.

    now       idle, nobody waits for it      least recently used first
              idle, may be stopped           others wait for it, and come after this request; its window has ended
              another kernel's, idle         what is ours goes before anybody else is asked
    later     spared for a moment            its last caller may ask again at once
              in use, its window runs        the oldest window first, so that it comes to its end
              in use                         least recently used first
              loads, or wakes
              others who are before need it
              another kernel's, in use
              what is gone                   its memory has not come back yet

Source: spec 4 §Residency (never a model in use or pinned); research residency §4.9 rule 3.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from xprim_nb.scheduling.eviction import Candidate, by_age, candidate_of, ghost_candidate, lease_candidate
from xprim_nb.scheduling.queue import Line, Ranks, is_before, may_stop, spared_until
from xprim_nb.scheduling.room import HOLDING, Amounts, is_fresh
from xprim_nb.scheduling.state import ModelState, Request, State

__all__ = ["Leavers"]


class Leavers:
    """All that may ever leave and does not yet, and is not promised to somebody.

    Attributes:
        rest: What all of them together could free.
        spared: Until when idle models are spared, each a time.
    """

    def __init__(
        self, state: State, lines: Mapping[str, Line], ranks: Ranks, without: Collection[str]
    ) -> None:
        self._state, self._now, self._limits = state, state.now, state.limits
        self._lines, self._ranks = lines, ranks
        self._gone: set[str] = set()
        self._amounts: dict[str, Amounts] = {}
        self.rest: Amounts = {}
        self.spared: list[float] = []
        self._sort_out(frozenset(without))

    def _sort_out(self, without: frozenset[str]) -> None:
        idle: list[tuple[tuple[float, float, str], Candidate]] = []
        busy: list[tuple[tuple[bool, bool, bool, float, float, float, str], Candidate, ModelState]] = []
        for key, model in self._state.models.items():
            if model.status not in HOLDING or model.status == "leaving" or model.pinned or key in without:
                continue
            candidate = self._added(candidate_of(model))
            is_idle = model.status == "parked" or (model.status == "resident" and not model.in_flight)
            is_free = is_idle and key not in self._lines
            until = (
                spared_until(model, self._now, self._limits)
                if is_free and model.status == "resident"
                else 0.0
            )
            if is_free and until <= self._now:
                idle.append((by_age(model), candidate))
                continue
            if is_free:
                self.spared.append(until)
            window, is_here = model.window_at, model.status in ("resident", "parked")
            order = (not is_free, not is_here, window is None, window or 0.0, *by_age(model))
            busy.append((order, candidate, model))
        self._idle = [each for _, each in sorted(idle, key=lambda each: each[0])]
        self._busy = [(each, model) for _, each, model in sorted(busy, key=lambda each: each[0])]
        leases = [each for each in self._state.foreign if each.lease_id not in without]
        self._theirs = [
            self._added(lease_candidate(each)) for each in leases if each.evictable and not each.asked
        ]
        self._strangers = [
            self._added(lease_candidate(each)) for each in leases if each.may_leave and not each.evictable
        ]
        self._strangers += [
            self._added(ghost_candidate(each))
            for each in self._state.models.values()
            if is_fresh(each, self._now, self._limits)
        ]

    def _added(self, candidate: Candidate) -> Candidate:
        self._amounts[candidate.key] = candidate.disk
        for device, size in candidate.disk.items():
            self.rest[device] = self.rest.get(device, 0) + size
        return candidate

    def remove(self, key: str) -> None:
        """It is promised to somebody, or is to stay for somebody."""
        for device, size in self._amounts.pop(key, {}).items():
            self.rest[device] -= size
        self._gone.add(key)

    def of(self, head: Request) -> tuple[list[Candidate], list[Candidate]]:
        """Who may leave for this request now, and who may later."""
        gone = self._gone
        stopped: list[Candidate] = []
        busy: list[Candidate] = []
        before: list[Candidate] = []
        for candidate, model in self._busy:
            if candidate.key in gone or candidate.key == head.model:
                continue
            line = self._lines.get(candidate.key)
            if line and self._is_free(model, line, head):
                stopped.append(candidate)
            elif line and is_before(line, head, self._ranks):
                before.append(candidate)
            else:
                busy.append(candidate)
        idle = [each for each in self._idle if each.key not in gone]
        theirs = [each for each in self._theirs if each.key not in gone]
        strangers = [each for each in self._strangers if each.key not in gone]
        return [*idle, *stopped, *theirs], [*busy, *before, *strangers]

    def rivals(self, head: Request) -> Iterator[Request]:
        """The first of each base that wait for what this request could take: their order decides what it takes."""
        for candidate, _ in self._busy:
            line = None if candidate.key in self._gone else self._lines.get(candidate.key)
            for base, requests in line.items() if line else ():
                if base != head.priority:
                    yield requests[0]

    def _is_free(self, model: ModelState, line: Line, head: Request) -> bool:
        if model.status == "parked":
            return True
        if model.status != "resident" or model.in_flight:
            return False
        return may_stop(model, line, head, self._now, self._limits, self._ranks)
