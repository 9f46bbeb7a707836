"""What a lease means, and the room that leases leave."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xprim_nb.scheduling.leases import (
    TRANSITIONS,
    KernelId,
    Lease,
    LeaseState,
    Refusal,
    foreign,
    freed_at,
    may_release,
    shortages,
)

from .rooms import GIB, MIB, state

_KERNEL, _OTHER = KernelId(10, 1.0, "boot", "one.ipynb"), KernelId(11, 2.0, "boot")


def _lease(number: int, charge: int, measured: int = 0, state: LeaseState = "resident") -> Lease:
    seen = (("gpu", measured),) if measured else ()
    return Lease(str(number), f"m{number}", state, (("gpu", charge),), _KERNEL, measured=seen)


def test_every_way_ends() -> None:
    """From each state a state can be reached in which the lease may go."""
    for first in TRANSITIONS:
        reached, wave = {first}, {first}
        while wave:
            wave = {after for each in wave for after in TRANSITIONS[each]} - reached
            reached |= wave
        assert any(map(may_release, reached)), first


def test_memory_in_use_cannot_be_let_go_of() -> None:
    """Only what was never started, has ended, or is a ghost."""
    assert {each for each in TRANSITIONS if may_release(each)} == {"reserved", "releasing", "ghost"}


def test_the_smaller_of_two_accounts_counts() -> None:
    """The budget's: what is charged and what others use; the driver's: what is free and not yet promised."""
    leases = [_lease(1, 3, 2), _lease(2, 2)]
    by_budget = state("gpu", 10, 1, free=100)
    assert shortages((("gpu", 4),), [by_budget], leases) == ()
    (short,) = shortages((("gpu", 5),), [by_budget], leases)
    assert (short.available_bytes, short.charged_bytes, short.external_bytes, short.over_bytes) == (
        4,
        5,
        1,
        1,
    )
    by_driver = state("gpu", 100, 0, free=6)
    assert shortages((("gpu", 3),), [by_driver], leases) == ()
    (short,) = shortages((("gpu", 4),), [by_driver], leases)
    assert (short.available_bytes, short.unseen_bytes, short.free_bytes) == (3, 3, 6)


def test_every_device_is_asked() -> None:
    """One that nobody knows is a shortage too."""
    found = shortages((("cpu", 5), ("gpu", 5), ("moon", 1)), [state("cpu", 9), state("gpu", 4)], [])
    assert [each.device for each in found] == ["gpu", "moon"]
    assert str(found[1]) == "there is no device moon"


def test_a_refusal_tells_its_numbers() -> None:
    """Needed, left, charged, used by others; what is free and promised when that decides."""
    leases = [_lease(1, 3 * GIB, 2 * GIB)]
    charges = (("gpu", 6 * GIB),)
    refusal = Refusal("m", charges, shortages(charges, [state("gpu", 8 * GIB, GIB)], leases))
    assert str(refusal) == (
        "No room for m: gpu has 4.0 GB of 8.0 GB left (3.0 GB charged, 1.0 GB used by others), 6.0 GB needed."
    )
    refusal = Refusal("m", charges, shortages(charges, [state("gpu", 80 * GIB, 0, 5 * GIB)], leases))
    assert "(3.0 GB charged, 0 B used by others; 5.0 GB free, 1.0 GB of it promised)" in str(refusal)
    crowded = Refusal("m", charges, shortages(charges, [state("gpu", 2 * GIB)], leases))
    assert "gpu has 0 B of 2.0 GB left" in str(crowded)


@given(
    budget=st.integers(0, 100),
    external=st.integers(0, 100),
    free=st.none() | st.integers(0, 100),
    held=st.lists(st.tuples(st.integers(1, 50), st.integers(0, 60)), max_size=5),
    asked=st.integers(1, 100),
)
def test_what_is_granted_fits(
    budget: int, external: int, free: int | None, held: list[tuple[int, int]], asked: int
) -> None:
    """Granted means: all charges and the strangers fit the budget, and all that is unseen fits what is free."""
    leases = [_lease(at, charge, measured) for at, (charge, measured) in enumerate(held)]
    short = shortages((("gpu", asked),), [state("gpu", budget, external, free)], leases)
    fits = sum(charge for charge, _ in held) + external + asked <= budget
    if free is not None:
        fits = fits and sum(max(0, charge - seen) for charge, seen in held) + asked <= free
    assert (not short) == fits


def test_what_the_policy_sees_of_others() -> None:
    """Only idle, unpinned models that are loaded may be asked for."""
    idle = replace(_lease(1, 5), kernel=_OTHER, idle=True, last_used=7.0)
    leases = [
        idle,
        replace(idle, id="pinned", pinned=True),
        replace(idle, id="busy", idle=False),
        replace(idle, id="loading", state="loading"),
        replace(idle, id="parked", state="parked"),
    ]
    seen = foreign(leases, ["parked"])
    assert [(each.lease_id, each.evictable, each.asked) for each in seen] == [
        ("1", True, False),
        ("pinned", False, False),
        ("busy", False, False),
        ("loading", False, False),
        ("parked", True, True),
    ]
    assert (seen[0].model, seen[0].charges, seen[0].kernel_pid, seen[0].last_used) == (
        "m1",
        (("gpu", 5),),
        11,
        7.0,
    )


def test_when_a_ghost_has_faded() -> None:
    """Three quarters of it must have come back, on each device whose driver tells."""
    assert freed_at((("cpu", 100), ("cuda:0", 400)), {"cuda:0": 1000}) == (("cuda:0", 1300),)


@pytest.mark.parametrize(("kernel", "text"), [(_KERNEL, "one.ipynb (process 10)"), (_OTHER, "process 11")])
def test_a_lease_can_be_read(kernel: KernelId, text: str) -> None:
    """Model, state, sizes, and who holds it."""
    lease = replace(_lease(1, 512 * MIB), kernel=kernel)
    assert str(lease) == f"m1: resident, 512.0 MB on gpu, held by {text}"
    assert "no memory here" in str(replace(lease, charges=()))
