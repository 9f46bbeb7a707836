"""Who is next: priorities that grow with waiting, and when one passes the other."""

from __future__ import annotations

import math

from hypothesis import example, given
from hypothesis import strategies as st

from xprim_nb.scheduling.queue import (
    Line,
    effective,
    first_of,
    line_length,
    lines_of,
    may_stop,
    next_swap,
    rank,
    ranked,
    ranks_of,
    spared_until,
    window_end,
)
from xprim_nb.scheduling.state import Limits, ModelState, Request

_LIMITS = Limits(ageing_s=2.0)
_requests = st.builds(
    Request,
    id=st.uuids().map(str),
    model=st.sampled_from("ab"),
    priority=st.sampled_from([50, 70, 90, 98, 99, 100]),
    arrived=st.floats(0, 300, width=32),
)


def _request(priority: int, arrived: float = 0.0, name: str = "r", model: str = "a") -> Request:
    return Request(name, model, priority, arrived)


def test_a_point_is_gained_for_each_two_seconds() -> None:
    """Not before they are over, and not for less."""
    request = _request(50, arrived=10.0)
    assert [effective(request, 10.0 + waited, _LIMITS) for waited in (0, 1.9, 2.0, 3.9, 4.0, 40.0)] == [
        50,
        50,
        51,
        51,
        52,
        70,
    ]


def test_ageing_stops_at_the_cap_and_the_systems_stay_above() -> None:
    """However long they wait, all but the system's own end at 99."""
    assert [effective(_request(base), 1e6, _LIMITS) for base in (50, 70, 90, 99, 100)] == [
        99,
        99,
        99,
        99,
        100,
    ]


def test_a_request_from_the_future_has_its_base() -> None:
    """Clocks of several callers may differ a little."""
    assert effective(_request(50, arrived=10.0), 3.0, _LIMITS) == 50


@given(_requests, st.integers(0, 60))
def test_the_step_is_exact_at_its_own_time(request: Request, steps: int) -> None:
    """At the very time that an alarm names, the point has been gained, whatever floats round to."""
    at = request.arrived + (steps + 1) * 0.3
    expected = request.priority if request.priority >= 99 else min(99, request.priority + steps + 1)
    assert effective(request, at, Limits(ageing_s=0.3)) >= expected


def test_of_equals_who_came_first_is_first() -> None:
    """By effective priority, then arrival, then id."""
    late, early, twin = _request(70, 5.0, "late"), _request(70, 4.0, "early"), _request(70, 4.0, "zwin")
    aged = _request(50, -41.0, "aged")
    assert ranked([late, twin, early, aged], 5.0, _LIMITS) == [aged, early, twin, late]


@given(st.lists(_requests, min_size=2, max_size=6), st.floats(300, 500), st.floats(0, 100))
def test_of_one_base_nobody_ever_passes(waiting: list[Request], now: float, later: float) -> None:
    """All age alike: within one base the order is that of arrival, at any time."""
    same = [Request(each.id, each.model, 70, each.arrived) for each in waiting]
    assert ranked(same, now, _LIMITS) == ranked(same, now + later, _LIMITS)


@given(_requests, _requests, st.floats(300, 400))
@example(_request(50, 0.0, "x"), _request(70, 39.5, "y"), 39.6)
def test_the_next_swap_is_where_the_order_changes(one: Request, other: Request, now: float) -> None:
    """Looked at in small steps, two requests keep their order until the time that is told, and have changed it then."""

    def is_first(at: float) -> bool:
        return rank(one, at, _LIMITS) < rank(other, at, _LIMITS)

    at = next_swap(one, other, now, _LIMITS)
    until = at if at is not None else now + 250.0
    steps = max(1, math.ceil((until - now) / 0.25))
    for number in range(steps):
        assert is_first(now + (until - now) * number / steps) == is_first(now)
    if at is not None:
        assert at > now
        assert is_first(at) != is_first(now)


def test_lines_keep_the_order_of_arrival() -> None:
    """By model, then by base; the first of a line is the highest of its firsts."""
    waiting = [
        _request(70, 1.0, "1"),
        _request(90, 2.0, "2"),
        _request(70, 3.0, "3"),
        _request(50, 3.0, "4", "b"),
    ]
    lines = lines_of(waiting)
    assert {
        key: {base: [each.id for each in them] for base, them in line.items()} for key, line in lines.items()
    } == {
        "a": {70: ["1", "3"], 90: ["2"]},
        "b": {50: ["4"]},
    }
    assert first_of(lines["a"], ranks_of(lines, 3.0, _LIMITS)).id == "2"
    assert (line_length(lines, "a"), line_length(lines, "c")) == (3, 0)


def _model(**changes: object) -> ModelState:
    return ModelState("a", (), status="resident", served=5, last_used=9.99, **changes)  # type: ignore[arg-type]  # any fields


def test_a_window_ends_by_time_or_by_answers() -> None:
    """One that would open now ends two seconds from now; one that has given its eight answers has ended."""
    assert window_end(_model(), 10.0, _LIMITS) == 12.0
    assert window_end(_model(window_at=9.0, window_served=5), 10.0, _LIMITS) == 11.0
    assert window_end(_model(window_at=9.0, window_served=-3), 10.0, _LIMITS) == 10.0


def test_a_model_is_spared_for_a_moment_after_an_answer_and_never_beyond_its_window() -> None:
    """50 ms by default."""
    assert spared_until(_model(), 10.0, _LIMITS) == 9.99 + 0.05
    assert spared_until(_model(window_at=8.0, window_served=5), 10.0, _LIMITS) == 10.0


def test_who_may_stop_a_model() -> None:
    """Who comes after one of its line may not; who is before all of it may, when its window is over or its base higher."""
    over = _model(window_at=1.0, window_served=5)
    running = _model(window_at=9.0, window_served=5)
    line = {70: [_request(70, 5.0)]}

    def may(model: ModelState, whose: Line | None, waiter: Request) -> bool:
        lines = {"a": whose or {}, "w": {waiter.priority: [waiter]}}
        return may_stop(model, whose, waiter, 10.0, _LIMITS, ranks_of(lines, 10.0, _LIMITS))

    before, after, talks = _request(70, 4.0, "w"), _request(70, 6.0, "w"), _request(90, 9.9, "w")
    assert may(over, line, before)
    assert not may(over, line, after)
    assert not may(running, line, before)
    assert may(running, line, talks)
    assert not may(ModelState("a", (), status="resident"), line, talks)
    assert may(over, None, after)
    assert not may(running, None, talks)
