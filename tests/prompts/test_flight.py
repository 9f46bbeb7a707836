"""Equal work in flight: started once, heard by all, stopped by nobody who merely leaves."""

from __future__ import annotations

import asyncio

import pytest

from xprim_nb.prompts.answers import OnText
from xprim_nb.prompts.flight import Flights, Seat


class _Work:
    """Counts its starts, and ends when it is let."""

    def __init__(self) -> None:
        self.starts = self.cancelled = 0
        self.started, self.gate = asyncio.Event(), asyncio.Event()
        self.tell: OnText

    async def __call__(self, tell: OnText) -> int:
        """The number of this start."""
        self.starts += 1
        self.tell = tell
        self.started.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.starts


async def test_equal_work_is_started_once() -> None:
    """Fifty who want the same get the one result; who comes after its end starts anew."""
    flights, work = Flights[int](), _Work()
    tasks = [asyncio.create_task(flights.join("key", work)) for _ in range(50)]
    other = asyncio.create_task(flights.join("other", work))
    await work.started.wait()
    work.gate.set()
    done = await asyncio.gather(*tasks)
    assert [joined for _, joined in done].count(False) == 1
    assert {result for result, _ in done} == {2}  # when they are let go, two have been started
    await other
    assert work.starts == 2
    assert await flights.join("key", work) == (3, False)


async def test_the_first_may_leave() -> None:
    """Who started it is cancelled; the others get their result all the same, and the work is now one of theirs."""
    flights, work = Flights[int](), _Work()
    first = asyncio.create_task(flights.join("key", work))
    await work.started.wait()
    second = asyncio.create_task(flights.join("key", work))
    third = asyncio.create_task(flights.join("key", work))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    work.gate.set()
    assert (await second, await third) == ((1, False), (1, True))
    assert work.cancelled == 0


@pytest.mark.parametrize("how", ["answered", "failed", "left by all"])
async def test_each_piece_of_work_is_exactly_ones(how: str) -> None:
    """However many wait and however it ends, it counts once: for one who heard its end, or the last who left."""
    flights, gate, started = Flights[int](), asyncio.Event(), asyncio.Event()

    async def work(tell: OnText) -> int:
        flights.begin("key")
        started.set()
        await gate.wait()
        if how == "failed":
            raise LookupError("no")
        return 1

    seats = [Seat() for _ in range(5)]
    tasks = [asyncio.create_task(flights.join("key", work, None, seat)) for seat in seats]
    await started.wait()
    await asyncio.sleep(0)
    for task in tasks[: 5 if how == "left by all" else 2]:
        task.cancel()
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    owned = [number for number, seat in enumerate(seats) if seat.owns]
    assert owned == [4 if how == "left by all" else 2]
    assert all(seat.begun for seat in seats)


async def test_when_the_last_leaves_the_work_is_cancelled() -> None:
    """Nobody pays for what nobody waits for, and the next to come starts anew."""
    flights, work = Flights[int](), _Work()
    tasks = [asyncio.create_task(flights.join("key", work)) for _ in range(3)]
    await work.started.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (work.cancelled, "key" in flights) == (1, False)
    work.gate.set()
    assert await flights.join("key", work) == (2, False)


async def test_a_failure_reaches_all_and_stays_with_nobody() -> None:
    """Each who waits gets the error; the next starts anew."""
    flights, starts = Flights[int](), []

    async def fails(tell: OnText) -> int:
        starts.append(1)
        await asyncio.sleep(0)
        raise LookupError("no")

    done = await asyncio.gather(*(flights.join("key", fails) for _ in range(5)), return_exceptions=True)
    assert [type(each) for each in done] == [LookupError] * 5
    assert len(starts) == 1
    with pytest.raises(LookupError):
        await flights.join("key", fails)
    assert len(starts) == 2


async def test_a_latecomer_hears_all_that_was_said(caplog: pytest.LogCaptureFixture) -> None:
    """What was said before is told at once; a listener that fails is told no more, and disturbs nobody."""
    flights, work = Flights[int](), _Work()
    early: list[str] = []
    late: list[str] = []

    def broken(text: str) -> None:
        raise RuntimeError("a listener's own fault")

    first = asyncio.create_task(flights.join("key", work, early.append))
    wrong = asyncio.create_task(flights.join("key", work, broken))
    await work.started.wait()
    await asyncio.sleep(0)
    work.tell("one ")
    work.tell("two ")
    second = asyncio.create_task(flights.join("key", work, late.append))
    await asyncio.sleep(0)
    work.tell("three")
    work.gate.set()
    await asyncio.gather(first, second, wrong)
    assert (early, late) == (["one ", "two ", "three"], ["one two ", "three"])
    assert caplog.text.count("a listener failed") == 1


async def test_closing_cancels_what_flies() -> None:
    """And waits until it has ended."""
    flights, work = Flights[int](), _Work()
    task = asyncio.create_task(flights.join("key", work))
    await work.started.wait()
    await flights.close()
    assert work.cancelled == 1
    with pytest.raises(asyncio.CancelledError):
        await task
