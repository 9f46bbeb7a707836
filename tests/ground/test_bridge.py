"""One loop in one thread, and handles on work there that can be waited for, watched and stopped."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from xprim_nb._bridge import Handle, LoopThread, home_loop

_ROOT = Path(__file__).resolve().parents[2]


class Job:
    """Work on the loop that says when it begins, ends when it is told, and cleans up when cancelled."""

    def __init__(self, value: object = "done", error: BaseException | None = None) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.cleaning, self.may_clean, self.cleaned = threading.Event(), threading.Event(), threading.Event()
        self.may_clean.set()
        self._value, self._error = value, error

    async def __call__(self) -> Any:
        """Wait to be told."""
        self.begun.set()
        try:
            await asyncio.to_thread(self.go_on.wait, 10)
        except asyncio.CancelledError:
            self.go_on.set()
            self.cleaning.set()
            await asyncio.to_thread(self.may_clean.wait, 10)
            self.cleaned.set()
            raise
        if self._error is not None:
            raise self._error
        return self._value


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    """A loop thread that is stopped in the end."""
    thread = LoopThread()
    yield thread
    thread.stop()


@pytest.fixture
def start(thread: LoopThread) -> Callable[[Job], Handle[Any]]:
    """A function that starts a job and returns once it runs."""

    def started(job: Job) -> Handle[Any]:
        handle: Handle[Any] = Handle(job(), "do a job", thread=thread)
        assert job.begun.wait(20)
        return handle

    return started


Start = Callable[[Job], Handle[Any]]


def test_a_result_is_waited_for(start: Start) -> None:
    """`result` returns what the work returned, again and again."""
    job = Job(value=[1, 2])
    handle = start(job)
    assert not handle.done
    job.go_on.set()
    assert handle.result() == [1, 2]
    assert (handle.done, handle.result(0), handle.exception()) == (True, [1, 2], None)
    assert "do a job" in repr(handle)
    assert "done" in repr(handle)


def test_giving_up_is_not_giving_in(start: Start) -> None:
    """A wait that takes too long is a TimeoutError, and the work goes on."""
    job = Job()
    handle = start(job)
    with pytest.raises(TimeoutError, match="do a job has not ended after"):
        handle.result(0.01)
    with pytest.raises(TimeoutError):
        handle.exception(0)
    assert not handle.done
    job.go_on.set()
    assert handle.result(20) == "done"


@pytest.mark.parametrize("error", [ValueError("no good"), TimeoutError("the server's"), OSError(5, "gone")])
def test_an_error_is_raised_where_it_is_waited_for(start: Start, error: Exception) -> None:
    """What the work raised comes out of `result` and is `exception`, a TimeoutError of the work's own included."""
    job = Job(error=error)
    handle = start(job)
    job.go_on.set()
    with pytest.raises(type(error)) as caught:
        handle.result(20)
    assert caught.value is error
    assert handle.exception() is error
    assert f"failed: {error}" in repr(handle)


def test_cancelled_work_has_cleaned_up_when_it_is_done(start: Start) -> None:
    """A handle is not done before the clean-up is; then it says that it was cancelled."""
    job = Job()
    job.may_clean.clear()
    handle = start(job)
    assert not handle.cancelling
    assert handle.cancel()
    assert job.cleaning.wait(20)
    assert (handle.done, handle.cancelling) == (False, True)
    job.may_clean.set()
    with pytest.raises(concurrent.futures.CancelledError):
        handle.result(20)
    assert job.cleaned.is_set()
    with pytest.raises(concurrent.futures.CancelledError):
        handle.exception()
    assert not handle.cancel()
    assert "cancelled" in repr(handle)


def test_work_cancelled_before_its_first_step_ends(thread: LoopThread) -> None:
    """Cancelled at once, a handle never hangs: begun or not, the work ends as cancelled."""
    for _ in range(200):
        job = Job()
        handle: Handle[Any] = Handle(job(), "do a job", thread=thread)
        handle.cancel()
        with pytest.raises(concurrent.futures.CancelledError):
            handle.result(20)
        assert job.cleaned.is_set() or not job.begun.is_set()


def test_cancelling_what_has_ended_changes_nothing(start: Start) -> None:
    """`cancel` after the end is False, and the result stays."""
    job = Job()
    handle = start(job)
    job.go_on.set()
    assert handle.result(20) == "done"
    assert not handle.cancel()
    assert handle.result() == "done"
    assert not handle.cancelling


def test_work_may_refuse_to_be_cancelled(thread: LoopThread) -> None:
    """Work that swallows its cancellation and returns has its result."""
    begun = threading.Event()

    async def stubborn() -> str:
        begun.set()
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            return "finished anyway"
        return "slept"

    handle = Handle(stubborn(), "be stubborn", thread=thread)
    assert begun.wait(20)
    assert handle.cancel()
    assert handle.result(20) == "finished anyway"


def test_callbacks_come_once_at_the_end(start: Start) -> None:
    """A callback gets the handle, whose result is there for it; added too late it is called at once."""
    job, heard, called = Job(), list[tuple[object, str]](), threading.Event()

    def note(handle: Handle[Any]) -> None:
        heard.append((handle.result(), threading.current_thread().name))
        called.set()

    handle = start(job)
    handle.add_done_callback(note)
    job.go_on.set()
    assert called.wait(20)
    handle.add_done_callback(note)
    assert heard == [("done", "xprim-loop"), ("done", threading.current_thread().name)]


def test_a_snapshot_is_the_latest_progress(thread: LoopThread) -> None:
    """`snapshot` asks what was given to the handle, and the repr shows it while the work runs."""
    job, progress = Job(), ["half"]
    handle = Handle(job(), "do a job", lambda: progress[-1], thread)
    assert handle.snapshot() == "half"
    progress.append("nearly")
    assert handle.snapshot() == "nearly"
    assert "nearly" in repr(handle)
    job.go_on.set()
    handle.result(20)
    other = Handle(Job()(), "do another", thread=thread)
    assert other.snapshot() is None
    assert "running for" in repr(other)
    other.cancel()


def test_waiting_on_the_loop_itself_is_refused(thread: LoopThread) -> None:
    """`result` inside the loop's own thread would wait for ever: it says what to do instead, and `await` works."""
    job = Job()

    async def outer() -> object:
        inner: Handle[Any] = Handle(job(), "do a job", thread=thread)
        with pytest.raises(RuntimeError, match="await handle"):
            inner.result()
        with pytest.raises(RuntimeError, match="await handle"):
            inner.exception()
        job.go_on.set()
        value = await inner
        assert inner.result() == value  # it has ended: there is nothing to wait for
        return value

    assert Handle(outer(), "do two", thread=thread).result(20) == "done"


async def test_another_loop_may_await(start: Start) -> None:
    """A handle is awaited on the caller's loop, by several tasks, while that loop goes on."""
    job = Job()
    handle = start(job)
    waiting = [asyncio.ensure_future(_awaited(handle)) for _ in range(3)]
    await asyncio.sleep(0)
    job.go_on.set()
    assert await asyncio.gather(*waiting) == ["done"] * 3
    assert await handle == "done"


async def test_awaited_errors_and_cancellations_come_through(start: Start) -> None:
    """Awaiting raises what the work raised, and CancelledError when somebody else cancelled it."""
    failing, cancelled = Job(error=ValueError("no good")), Job()
    handle, other = start(failing), start(cancelled)
    failing.go_on.set()
    with pytest.raises(ValueError, match="no good"):
        await handle
    other.cancel()
    with pytest.raises(asyncio.CancelledError):
        await other


async def test_a_cancelled_await_cancels_the_work(start: Start) -> None:
    """Who cancels the waiting task cancels the work, and goes on after its clean-up."""
    job = Job()
    handle = start(job)
    waiting = asyncio.ensure_future(_awaited(handle))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert job.cleaned.is_set()
    assert handle.done


async def test_a_timeout_around_an_await_cancels_the_work(start: Start) -> None:
    """`asyncio.timeout` stops the work like any cancellation."""
    job = Job()
    handle = start(job)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await handle
    assert job.cleaned.is_set()


def test_the_loop_begins_anew_after_a_stop(thread: LoopThread) -> None:
    """`stop` cancels what runs and ends the thread; the next use has a new loop. Twice stopped is stopped."""
    job = Job()
    first = thread.loop()
    assert thread.loop() is first
    handle: Handle[Any] = Handle(job(), "do a job", thread=thread)
    assert job.begun.wait(20)
    thread.stop()
    thread.stop()
    with pytest.raises(concurrent.futures.CancelledError):
        handle.result(20)
    assert job.cleaned.is_set()
    assert first.is_closed()
    assert not handle.cancel()
    assert thread.loop() is not first
    again = Job()
    again.go_on.set()
    assert Handle(again(), "do it again", thread=thread).result(20) == "done"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_work_that_leaves_does_not_take_the_loop_along(
    thread: LoopThread, start: Start, error: BaseException
) -> None:
    """SystemExit in one piece of work is told to whoever waits for it, and all other work goes on."""
    job, loop = Job(), thread.loop()
    other = start(job)

    async def leave() -> None:
        raise error

    assert Handle(leave(), "leave", thread=thread).exception(20) is error
    job.go_on.set()
    assert other.result(20) == "done"
    assert thread.loop() is loop


def test_one_loop_for_the_process(start: Start) -> None:
    """Without another wish, work runs on the process's own loop, always the same."""
    loops = [Handle(_running_loop(), "look").result(20) for _ in range(3)]
    assert loops == [home_loop().loop()] * 3


def test_many_threads_may_start_and_wait(thread: LoopThread) -> None:
    """Handles are made and waited for from many threads at once, on one loop that is started once."""

    def work(number: int) -> object:
        job = Job(value=number)
        job.go_on.set()
        return Handle(job(), "count", thread=thread).result(10)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(40))) == list(range(40))
    assert (
        len([each for each in threading.enumerate() if each.name == "xprim-loop" and each is thread._thread])
        == 1
    )


async def _awaited(handle: Handle[Any]) -> object:
    return await handle


async def _running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()
