"""A decision ends: with each pass over the queue less is left that a further one could change.

What is left is counted here as the argument in `policy` has it: first who waits, who is at rest and which leases nobody has
asked for, of which each effect takes one; then windows that may still move, each of which closes once and opens once.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xprim_nb.scheduling import policy
from xprim_nb.scheduling.changes import absorb
from xprim_nb.scheduling.draft import Draft
from xprim_nb.scheduling.happenings import Event
from xprim_nb.scheduling.state import State
from xprim_nb.scheduling.survey import Survey, survey

from .simulation import World
from .worlds import ANYTHING, ASKS, CALM, ROUGH, crowds, worlds

_LONG = [60, pytest.param(3_000, marks=[pytest.mark.slow, pytest.mark.timeout(7200)])]
_ANY = st.one_of(worlds(CALM, ASKS), worlds(ROUGH, ANYTHING), crowds(CALM, ASKS), crowds(ROUGH, ANYTHING))


def _effects_left(state: State) -> int:
    """How many effects a decision could still have."""
    at_rest = sum(each.status in ("absent", "parked", "resident") for each in state.models.values())
    unasked = sum(each.evictable and not each.asked for each in state.foreign)
    return len(state.waiting) + at_rest + unasked


def _opened(passes: list[State]) -> frozenset[str]:
    """Whose windows have opened since the latest effect."""
    opened: set[str] = set()
    for before, after in pairwise(passes):
        if _effects_left(after) < _effects_left(before):
            opened.clear()
        opened |= {
            key
            for key, model in after.models.items()
            if model.window_at is not None and before.models[key].window_at is None
        }
    return frozenset(opened)


def _windows_left(state: State, opened: frozenset[str]) -> int:
    """How often a window could still close or open before the next effect."""
    return sum(
        0 if key in opened else 1 + (model.window_at is not None) for key, model in state.models.items()
    )


def _check(passes: list[State]) -> None:
    """What is left has become less with each pass, but for one that follows from a pass in which no window moved."""
    left = [
        (_effects_left(state), _windows_left(state, _opened(passes[: number + 1])))
        for number, state in enumerate(passes)
    ]
    same = 0
    for before, after in pairwise(left):
        assert after <= before, left
        same = same + 1 if after == before else 0
        assert same <= 1, left


@pytest.mark.parametrize("number", _LONG)
def test_with_each_pass_less_is_left(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In random worlds, calm and rough ones, the states that the passes of one decision see go down step by step."""
    passes: list[State] = []
    most = 0

    def seen(state: State) -> Survey:
        nonlocal most
        passes.append(state)
        _check(passes)
        most = max(most, len(passes))
        return survey(state)

    def begun(draft: Draft, event: Event) -> None:
        passes.clear()
        absorb(draft, event)

    monkeypatch.setattr(policy, "survey", seen)
    monkeypatch.setattr(policy, "absorb", begun)

    @settings(max_examples=number, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(_ANY)
    def hold(world: World) -> None:
        world.run()

    hold()
    assert most > 2, "no decision took more than one look, so that nothing was seen to go down"
