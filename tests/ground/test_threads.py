"""Threads that nobody has to wait for, and threads that are always waited for."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from xprim_nb._threads import Check, DaemonThreads, Lanes, halting, settled, settled_in, unhalted

_ROOT = Path(__file__).resolve().parents[2]


class Work:
    """Blocking work that says when it begins, and ends when it is told."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.begun, self.go_on, self.ended = threading.Event(), threading.Event(), threading.Event()
        self._error = error

    def __call__(self) -> str:
        """Wait to be told."""
        self.begun.set()
        assert self.go_on.wait(10)
        self.ended.set()
        if self._error is not None:
            raise self._error
        return "done"


async def test_settled_returns_what_the_work_returned() -> None:
    """The result comes from another thread, with positional and named arguments."""
    assert await settled(int, "ff", base=16) == 255
    assert await settled(threading.get_ident) != threading.get_ident()


async def test_settled_raises_what_the_work_raised() -> None:
    """An error comes through as it is."""
    with pytest.raises(ValueError, match="invalid literal"):
        await settled(int, "x")


@pytest.mark.parametrize("error", [None, OSError("too late")])
async def test_a_cancelled_caller_hears_it_after_the_thread_has_ended(error: Exception | None) -> None:
    """However often it is cancelled, the caller goes on only when no thread works for it any more."""
    work = Work(error)
    waiting = asyncio.ensure_future(settled(work))
    await asyncio.to_thread(work.begun.wait)
    for _ in range(3):
        waiting.cancel()
        await asyncio.sleep(0)
        assert not waiting.done()
    work.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert work.ended.is_set()


async def test_long_work_is_halted_at_its_next_check() -> None:
    """Uncancelled it goes to its end; cancelled, the thread ends at the next step, and the caller after it."""

    def through(check: Check) -> str:
        check()
        unhalted()
        return "done"

    assert await halting(through) == "done"
    work, after = Work(), list[str]()

    def steps(check: Check) -> None:
        work()
        check()
        after.append("a step that nobody waits for")

    waiting = asyncio.ensure_future(halting(steps))
    await asyncio.to_thread(work.begun.wait)
    waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    work.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert work.ended.is_set()
    assert after == []


def test_a_loop_that_ends_waits_for_the_work() -> None:
    """When `asyncio.run` ends with work under way, the caller's clean-up runs after the thread has ended."""
    work, seen = Work(), list[bool]()

    async def careless() -> None:
        try:
            await settled(work)
        finally:
            seen.append(work.ended.is_set())

    async def main() -> None:
        task = asyncio.ensure_future(careless())
        await asyncio.to_thread(work.begun.wait)
        threading.Timer(0.05, work.go_on.set).start()
        assert not task.done()

    asyncio.run(main())
    assert seen == [True]


async def test_work_that_waits_in_line_is_never_begun_when_cancelled() -> None:
    """With one thread that is busy, cancelled work leaves the line at once."""
    lanes, first, second = Lanes(1), Work(), Work()
    busy = asyncio.ensure_future(settled_in(lanes.threads, first))
    await asyncio.to_thread(first.begun.wait)
    in_line = asyncio.ensure_future(settled_in(lanes.threads, second))
    await asyncio.sleep(0)
    in_line.cancel()
    first.go_on.set()
    second.go_on.set()
    assert await busy == "done"
    with pytest.raises(asyncio.CancelledError):
        await in_line
    lanes.close()


def test_threads_are_as_many_as_allowed_and_no_more() -> None:
    """Six pieces of work over two threads: two at once, all done, in their order, and no thread stays."""
    before = set(threading.enumerate())
    threads, works = DaemonThreads(2), [Work() for _ in range(6)]
    futures = [threads.submit(work) for work in works]
    for number, work in enumerate(works):
        assert work.begun.wait(20)
        assert not any(later.begun.is_set() for later in works[number + 2 :])
        work.go_on.set()
        assert futures[number].result(20) == "done"
    for thread in set(threading.enumerate()) - before:
        thread.join(20)
        assert not thread.is_alive()


def test_threads_tell_errors_and_take_arguments() -> None:
    """What work raises is in its future, a thread that had a failure goes on, and arguments are passed."""
    threads = DaemonThreads(1)
    failed, good = threads.submit(int, "x"), threads.submit(int, "ff", base=16)
    with pytest.raises(ValueError, match="invalid literal"):
        failed.result(20)
    assert good.result(20) == 255


def test_closing_cancels_who_stands_in_line() -> None:
    """Closing lanes cancels what has not begun, and lets finish what has."""
    lanes, first, second = Lanes(1), Work(), Work()
    running, waiting = lanes.threads.submit(first), lanes.threads.submit(second)
    assert first.begun.wait(20)
    lanes.close()
    assert waiting.cancelled()
    first.go_on.set()
    assert running.result(20) == "done"
    assert not second.begun.is_set()


def test_a_process_that_wants_to_end_does_not_wait_for_them() -> None:
    """An interpreter whose transfer hangs for ever ends all the same."""
    code = (
        "import threading; from xprim_nb._threads import DaemonThreads; begun = threading.Event(); "
        "DaemonThreads(1).submit(lambda: (begun.set(), threading.Event().wait())); begun.wait(); print('end')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=_ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "end", "")
