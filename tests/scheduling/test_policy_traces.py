"""The policy in random worlds: whatever comes in whatever order, nothing is overbooked, nobody is forgotten.

Each world checks every decision against what is true there (`simulation`, `machine`): never above the budget or the number
of workers, never an eviction of what answers, loads or is pinned, one load of a model at a time, the next of each line
first, no effect of mere time before the alarm, plans that come true, and at the end nobody who waits, or who waited longer
than the bound. The log, written and read again, replays to the same effects, and has a reason for each eviction.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from xprim_nb.scheduling.explain import why
from xprim_nb.scheduling.happenings import Evict
from xprim_nb.scheduling.replay import Entry, Log, differences, dump_log, load_log

from .simulation import World
from .worlds import ANYTHING, ASKS, CALM, ROUGH, crowds, worlds

# The ordinary form tries 240 worlds in all; the long one 12,000.
_SOME, _MANY = 60, 3_000
_LONG = [_SOME, pytest.param(_MANY, marks=[pytest.mark.slow, pytest.mark.timeout(7200)])]
_UNHURRIED = [HealthCheck.too_slow, HealthCheck.data_too_large]


def _check(world: World) -> None:
    """Let it come to rest, and hold the whole against what was promised."""
    world.run()
    world.check_end()
    log = Log(world.first, tuple(Entry(event, effects) for event, effects in world.log))
    again = load_log(dump_log(log))
    assert again == log
    assert differences(again) == []
    for number, (_, effects) in enumerate(log.entries, 1):
        for evicted in (each for each in effects if isinstance(each, Evict)):
            assert why(log.entries[:number], evicted.model).startswith(evicted.reason)


@pytest.mark.parametrize("number", _LONG)
def test_everybody_is_served_where_nothing_breaks(number: int) -> None:
    """Requests alone: each is started within the bound, or rejected because it can never fit."""

    @settings(max_examples=number, suppress_health_check=_UNHURRIED)
    @given(worlds(CALM, ASKS))
    def hold(world: World) -> None:
        _check(world)
        assert {what for what, _ in world.done.values()} <= {"started", "capacity"}

    hold()


@pytest.mark.parametrize("number", _LONG)
def test_everybody_is_answered_whatever_breaks(number: int) -> None:
    """Crashes, failing loads, refusals, ghosts, pins, other programs and other kernels: nobody is forgotten."""

    @settings(max_examples=number, suppress_health_check=_UNHURRIED)
    @given(worlds(ROUGH, ANYTHING))
    def hold(world: World) -> None:
        _check(world)

    hold()


@pytest.mark.parametrize("number", _LONG)
def test_a_crowd_around_one_device_is_served(number: int) -> None:
    """Many models in turns on one accelerator, parked and woken: each of their requests is started."""

    @settings(max_examples=number, suppress_health_check=_UNHURRIED)
    @given(crowds(CALM, ASKS))
    def hold(world: World) -> None:
        _check(world)
        assert {what for what, _ in world.done.values()} == {"started"}

    hold()


@pytest.mark.parametrize("number", _LONG)
def test_a_crowd_around_one_device_is_answered_whatever_breaks(number: int) -> None:
    """The same where workers crash, and people pin, evict and depart."""

    @settings(max_examples=number, suppress_health_check=_UNHURRIED)
    @given(crowds(ROUGH, ANYTHING))
    def hold(world: World) -> None:
        _check(world)

    hold()
