"""Who is next: effective priorities that grow with waiting, and windows that keep models from changing places too often.

    effective = base + 1 for each `ageing_s` waited, not above `ageing_cap`; a base above the cap stays as it is

Higher goes first; of equals, who came first. All requests age alike, so two of the same base never change places.
The window of a model opens when somebody needs its room. While it is open the model goes on with its own requests, also
with later ones; when it has ended, whoever needs the room and ranks before all of them stops it. A request of a higher
base waits for no window: that would let a batch of long answers begin in front of somebody who talks.

Source: spec 4 §Residency (queue); research residency §4.9 (ageing, service windows), §4.6 (LoRAX's rotation).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from xprim_nb.scheduling.state import Limits, ModelState, Request

__all__ = [
    "Line",
    "Rank",
    "Ranks",
    "effective",
    "first_of",
    "is_before",
    "line_length",
    "lines_of",
    "may_stop",
    "next_swap",
    "rank",
    "ranked",
    "ranks_of",
    "spared_until",
    "window_end",
]

Line: TypeAlias = dict[int, list[Request]]
"""Requests that wait for one model, by base priority; those of one base in order of arrival, which is their order."""
Rank: TypeAlias = tuple[int, float, str]
Ranks: TypeAlias = Mapping[str, Rank]
"""By the id of a request, all at one time: of those that are first in their line by base."""


def _steps(request: Request, now: float, limits: Limits) -> int:
    """Whole ageing steps waited; exact at the very times that `next_swap` names, whatever floats round to."""
    steps = int((now - request.arrived) // limits.ageing_s) if now > request.arrived else 0
    if request.arrived + (steps + 1) * limits.ageing_s <= now:
        return steps + 1
    return steps - 1 if steps and request.arrived + steps * limits.ageing_s > now else steps


def effective(request: Request, now: float, limits: Limits) -> int:
    """The priority of a request that has waited until `now`.

    >>> effective(Request("r", "m", 50, arrived=0.0), 7.0, Limits())
    53
    """
    if request.priority >= limits.ageing_cap:
        return request.priority
    return min(request.priority + _steps(request, now, limits), limits.ageing_cap)


def rank(request: Request, now: float, limits: Limits) -> Rank:
    """Sorts requests, next first: by effective priority, then arrival, then id."""
    return (-effective(request, now, limits), request.arrived, request.id)


def ranked(waiting: Iterable[Request], now: float, limits: Limits) -> list[Request]:
    """All of them, next first."""
    return sorted(waiting, key=lambda each: rank(each, now, limits))


def lines_of(waiting: Iterable[Request]) -> dict[str, Line]:
    """Who waits, by model and base priority; `waiting` is in order of arrival."""
    lines: dict[str, Line] = {}
    for request in waiting:
        line = lines.get(request.model)
        if line is None:
            lines[request.model] = {request.priority: [request]}
        elif (same := line.get(request.priority)) is None:
            line[request.priority] = [request]
        else:
            same.append(request)
    return lines


def ranks_of(lines: Mapping[str, Line], now: float, limits: Limits) -> dict[str, Rank]:
    """The ranks of the first of each base that wait for each model: who is next is among these."""
    ranks: dict[str, Rank] = {}
    cap = limits.ageing_cap
    for line in lines.values():
        for base, requests in line.items():
            first = requests[0]
            points = base if base >= cap else min(base + _steps(first, now, limits), cap)
            ranks[first.id] = (-points, first.arrived, first.id)
    return ranks


def first_of(line: Line, ranks: Ranks) -> Request:
    """Who is next of those that wait for one model."""
    firsts = [requests[0] for requests in line.values()]
    return min(firsts, key=lambda each: ranks[each.id]) if len(firsts) > 1 else firsts[0]


def next_swap(
    one: Request,
    other: Request,
    now: float,
    limits: Limits,
    ranks: Ranks | None = None,
    until: float = math.inf,
) -> float | None:
    """The next time after `now`, and before `until`, at which the two change their order; None when they do not.

    The one behind can pass only at a step of its own. While both grow, their difference at these steps is always the
    same, so its next step tells; after the other has reached its highest, there is one more chance: reaching that.
    """
    if one.priority == other.priority:
        return None
    if ranks is None:
        ranks = {each.id: rank(each, now, limits) for each in (one, other)}
    mine, theirs = ranks[one.id], ranks[other.id]
    if mine < theirs:
        ahead, behind, first, second = one, other, mine, theirs
    else:
        ahead, behind, first, second = other, one, theirs, mine
    cap, age, points = limits.ageing_cap, limits.ageing_s, -second[0]
    if points >= cap:  # it grows no more
        return None
    at = behind.arrived + (points - behind.priority + 1) * age
    if at >= until:
        return None
    # One point more does not pass whoever has two more now: those do not become fewer.
    if at > now and points + 1 >= -first[0] and rank(behind, at, limits) < rank(ahead, at, limits):
        return at
    if ahead.priority > cap:
        return None
    at = behind.arrived + (cap - behind.priority) * age
    if now < at < until and rank(behind, at, limits) < rank(ahead, at, limits):
        return at
    return None


def window_end(model: ModelState, now: float, limits: Limits) -> float:
    """When the model's service window ends, or ended by time; `now` when it has answered enough. It may open just now."""
    if model.window_at is None:
        return now + limits.window_s
    if model.served - model.window_served >= limits.window_requests:
        return now
    return model.window_at + limits.window_s


def spared_until(model: ModelState, now: float, limits: Limits) -> float:
    """Until when an idle model that nobody waits for is kept, in case that its last caller asks again at once."""
    return min(model.last_used + limits.linger_s, window_end(model, now, limits))


def may_stop(
    model: ModelState,
    line: Line | None,
    waiter: Request,
    now: float,
    limits: Limits,
    ranks: Ranks,
) -> bool:
    """True when a resident model shall begin no new answer, because `waiter` needs its room.

    What was loaded for somebody who still waits answers once at least: loading for nothing helps nobody.

    Args:
        model: The model in the way.
        line: Who waits for it.
        waiter: Who needs its room.
        now: The time.
        limits: Of the policy.
        ranks: Of the line's first of each base, and of `waiter`, at this time.
    """
    is_over = now >= window_end(model, now, limits)
    if not line:
        return is_over
    if not model.served:
        return False
    if is_before(line, waiter, ranks):
        return False
    return is_over or waiter.priority > max(line)


def is_before(line: Line, waiter: Request, ranks: Ranks) -> bool:
    """True when one of those who wait in a line ranks before somebody else."""
    mine = ranks[waiter.id]
    for requests in line.values():  # noqa: SIM110  # a generator costs more than all the rest
        if ranks[requests[0].id] < mine:
            return True
    return False


def line_length(lines: Mapping[str, Line], model: str) -> int:
    """How many wait for a model."""
    return sum(len(requests) for requests in lines.get(model, {}).values())
