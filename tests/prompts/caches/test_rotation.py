"""What is forgotten: planned purely, then done, and nothing that is still in use."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from xprim_nb._hashing import Digest
from xprim_nb.prompts.caches import Caches, Entry, Limits
from xprim_nb.prompts.caches.rotation import plan_rotation

from .conftest import Clock
from .helpers import RULES, keep, question

_entries = st.lists(
    st.builds(
        Entry,
        kind=st.sampled_from(["answer", "scaffold"]),
        id=st.integers(1, 10_000),
        request=st.just(Digest("0" * 64)),
        provider=st.just("p"),
        model=st.just("m"),
        size_bytes=st.integers(0, 1000),
        created_at=st.just(0.0),
        last_used_at=st.floats(0, 1000),
    ),
    max_size=30,
)


@given(_entries, st.integers(0, 5000), st.floats(0, 1000))
def test_a_plan_keeps_the_limits_and_forgets_no_more(entries: list[Entry], most: int, idle_s: float) -> None:
    """What stays fits and is young enough; what goes is older than all that stays; one less would not fit."""
    plan = plan_rotation(entries, Limits(most, idle_s), 1000.0)
    going = plan.forgotten
    staying = [entry for entry in entries if not any(entry is each for each in going)]
    assert plan.kept == len(staying)
    assert plan.kept_bytes == sum(entry.size_bytes for entry in staying) <= most
    assert all(1000.0 - entry.last_used_at <= idle_s for entry in staying)
    assert all(1000.0 - entry.last_used_at > idle_s for entry in plan.idle)
    if plan.surplus:
        last = plan.surplus[-1]
        assert all(last.last_used_at <= entry.last_used_at for entry in staying)
        assert plan.kept_bytes + last.size_bytes > most


def test_without_limits_nothing_goes() -> None:
    """None means never."""
    entry = Entry("answer", 1, Digest("0" * 64), "p", "m", 10**12, 0.0, 0.0)
    assert plan_rotation([entry], Limits(None, None), 1e12).forgotten == ()


def test_what_was_used_last_stays(caches: Caches, clock: Clock) -> None:
    """The oldest answer, used a moment ago, outlives younger ones; the plan changes nothing until it is done."""
    requests = []
    for number in range(10):
        clock.now_s += 1
        requests.append(keep(caches, question(prompt=f"question {number}")))
    clock.now_s += 1
    caches.look_up(requests[0])
    total = sum(entry.size_bytes for entry in caches.entries())
    plan = caches.plan_rotation(Limits(max_bytes=total // 3, max_idle_s=None))
    assert caches.stats().answers == 10
    assert str(plan.freed_bytes) in str(plan)
    assert caches.rotate(plan) is plan
    found = [number for number, request in enumerate(requests) if caches.look_up(request).answer is not None]
    assert 0 in found
    assert 9 in found
    assert found == [0, *range(10 - len(found) + 1, 10)]
    assert sum(entry.size_bytes for entry in caches.entries()) <= total // 3 + len(RULES)


def test_what_was_used_or_written_since_the_plan_stays(caches: Caches, clock: Clock) -> None:
    """Between plan and deed others are at work."""
    used, written, idle = (keep(caches, question(prompt=text)) for text in ("used", "written", "idle"))
    clock.now_s += 100
    plan = caches.plan_rotation(Limits(max_idle_s=10))
    assert len(plan.idle) == 6
    clock.now_s += 1
    caches.look_up(used)
    keep(caches, question(prompt="written"))
    caches.rotate(plan)
    assert [caches.look_up(each).answer is not None for each in (used, written, idle)] == [True, True, False]


def test_the_file_grows_smaller(folder: Path, clock: Clock) -> None:
    """When most of it is empty it is written anew; texts that nobody needs any more are gone too."""
    caches = Caches(folder, now=clock, limits=Limits(max_idle_s=10))
    for number in range(60):
        keep(
            caches,
            question(prompt="".join(chr(0x4E00 + (number * 7919 + i * 31) % 20000) for i in range(3000))),
        )
    caches.close()
    before = caches.path.stat().st_size
    clock.now_s += 11
    stays = keep(caches, question())
    caches.rotate()
    caches.close()
    assert caches.path.stat().st_size < before / 4
    assert caches.look_up(stays).answer is not None
    caches.close()
