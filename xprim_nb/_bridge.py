"""One event loop in one daemon thread, and `Handle`: work on it that a notebook can wait for, watch and stop.

Measured on ipykernel 7: with a patched loop inside the cell's own, clicks are lost and an interrupted pull goes on as
a zombie. Here an interrupt cancels the work, waits for its clean-up, and is raised again.

Source: DESIGN §One loop; research notebook §4.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import os
import threading
import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

__all__ = ["Handle", "LoopThread", "home_loop"]

_T = TypeVar("_T")

# ipykernel's interrupt does not wake a loop that sleeps: a wait that never wakes is never interrupted.
_HEARTBEAT_S = 0.1
# An interrupted pull closes its sockets and lists its chunks well within this.
_CLEANUP_S = 5.0
_STOP_S = 2.0


class LoopThread:
    """An event loop in a daemon thread, started on first use, begun anew in a forked child."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0

    def loop(self) -> asyncio.AbstractEventLoop:
        """The running loop."""
        with self._lock:
            if (
                self._loop is None
                or self._pid != os.getpid()
                or self._thread is None
                or not self._thread.is_alive()
            ):
                self._start()
            assert self._loop is not None, "_start sets it"
            return self._loop

    def stop(self) -> None:
        """Cancel what runs and end the thread, waiting at most two seconds. The next use starts a new one."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None or self._pid != os.getpid() or not thread.is_alive():
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_STOP_S)

    def _start(self) -> None:
        ready = threading.Event()
        self._pid = os.getpid()

        def run() -> None:
            # Not asyncio.Runner: it starts a thread to end, which an interpreter that is ending refuses (Python 3.12).
            loop = self._loop = asyncio.new_event_loop()
            with contextlib.closing(loop):
                loop.call_soon(ready.set)
                stopped = False
                while not stopped:
                    # asyncio lets these two through, once the work's own handle has been told.
                    with contextlib.suppress(SystemExit, KeyboardInterrupt):
                        loop.run_forever()
                        stopped = True
                loop.run_until_complete(_wind_up())

        self._thread = threading.Thread(target=run, name="xprim-loop", daemon=True)
        self._thread.start()
        ready.wait()


async def _wind_up() -> None:
    """Cancel everything else on this loop, and return when it has cleaned up."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


_home = LoopThread()
atexit.register(_home.stop)
if hasattr(os, "register_at_fork"):
    # A lock held by another thread at the time of the fork would stay held in the child for ever.
    os.register_at_fork(after_in_child=_home.__init__)  # type: ignore[misc]  # begun anew in place


def home_loop() -> LoopThread:
    """The process's own loop thread."""
    return _home


class Handle(Generic[_T]):
    """Work that was started on our loop. Thread-safe; garbage collection does not stop the work.

        handle = kit.pull("demo/tiny-llama v1")
        handle.snapshot()        # how far it is
        model = await handle     # or handle.result()

    Args:
        work: The coroutine; it starts at once.
        describe: What it does, for the repr ("pull demo/tiny-llama v1").
        snapshot: Returns the latest progress, or None.
        thread: The loop thread it runs on.
        stopped: Says of work that was stopped, from its latest progress, how it can go on.
    """

    def __init__(
        self,
        work: Coroutine[Any, Any, _T],
        describe: str,
        snapshot: Callable[[], object] | None = None,
        thread: LoopThread | None = None,
        stopped: Callable[[object], str] | None = None,
    ) -> None:
        self.describe = describe
        self._snapshot, self._stopped = snapshot, stopped
        self._began = time.monotonic()
        self._outcome: concurrent.futures.Future[_T] = concurrent.futures.Future()
        self._task: asyncio.Task[_T] | None = None
        self._loop = (thread or _home).loop()
        self._cancelling = False
        self._loop.call_soon_threadsafe(self._start, work)

    @property
    def done(self) -> bool:
        """True when the work has ended, its clean-up included."""
        return self._outcome.done()

    @property
    def cancelling(self) -> bool:
        """True once the work was asked to stop, also while it cleans up."""
        return self._cancelling

    def snapshot(self) -> Any:  # noqa: ANN401  # each verb has its own kind of progress
        """The latest progress; None where the verb has none."""
        return self._snapshot() if self._snapshot is not None else None

    def cancel(self) -> bool:
        """Ask the work to stop; what it fetched is kept. False when it has ended already."""
        if self.done:
            return False
        self._cancelling = True
        with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile, which cancelled everything
            self._loop.call_soon_threadsafe(self._cancel)
        return True

    def result(self, timeout: float | None = None) -> _T:
        """Block until the work has ended, and return what it returned.

        An interrupt (Ctrl-C, the notebook's stop button) cancels the work, waits for its clean-up, and is raised again.

        Args:
            timeout: Give up waiting, not the work, after this many seconds.

        Raises:
            TimeoutError: It has not ended by then; it goes on.
            concurrent.futures.CancelledError: It was cancelled.
            XprimError: What the work raised.
        """
        # get_running_loop raises where there is none.
        if asyncio._get_running_loop() is self._loop and not self.done:
            raise RuntimeError("result() would wait for the loop it runs on: use `await handle`.")
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            while True:
                left = _HEARTBEAT_S
                if deadline is not None:
                    left = min(left, max(0.0, deadline - time.monotonic()))
                with contextlib.suppress(concurrent.futures.TimeoutError):
                    return self._outcome.result(left)
                if self._outcome.done():  # the work itself raised a TimeoutError
                    return self._outcome.result()
                if deadline is not None and time.monotonic() >= deadline:
                    raise TimeoutError(f"{self.describe} has not ended after {timeout} s; it goes on.")
        except KeyboardInterrupt as stop:
            self.cancel()
            concurrent.futures.wait([self._outcome], _CLEANUP_S)
            self._explain(stop)
            raise

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the work raised, None when it succeeded; waits like `result`.

        Raises:
            TimeoutError, concurrent.futures.CancelledError: See `result`.
        """
        try:
            self.result(timeout)
        except BaseException as error:
            if not self.done or self._outcome.cancelled() or self._outcome.exception() is not error:
                raise
        return self._outcome.exception()

    def add_done_callback(self, callback: Callable[[Handle[_T]], object]) -> None:
        """Call back when the work has ended, at once if it has; in the loop's thread otherwise."""
        self._outcome.add_done_callback(lambda _: callback(self))

    def __await__(self) -> Generator[Any, None, _T]:
        return self._wait().__await__()

    def __repr__(self) -> str:
        return f"<Handle: {self.describe}, {self._state()}>"

    async def _wait(self) -> _T:
        waiting = asyncio.wrap_future(self._outcome)
        try:
            while not waiting.done():
                await asyncio.wait([waiting], timeout=_HEARTBEAT_S)
            return waiting.result()
        except asyncio.CancelledError as stop:
            if self.cancel():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([waiting], timeout=_CLEANUP_S)
            self._explain(stop)
            raise

    def _explain(self, stop: BaseException) -> None:
        """Have a notebook say in a line how far it came; the frames between the cell and here explain nothing."""
        said = "had ended"
        if not self.done or self._outcome.cancelled():
            said = "stopped" if self._stopped is None else self._stopped(self.snapshot())
        line = f"{self.describe}: {said}"
        stop._render_traceback_ = lambda: [line]  # type: ignore[attr-defined]  # IPython's hook

    def _start(self, work: Coroutine[Any, Any, _T]) -> None:
        self._task = self._loop.create_task(work)
        self._task.add_done_callback(self._settle)

    def _settle(self, task: asyncio.Task[_T]) -> None:
        # Not told by a coroutine around the work: one that is cancelled before its first step never tells anything.
        if task.cancelled():
            self._outcome.cancel()
            self._outcome.set_running_or_notify_cancel()
        elif (error := task.exception()) is not None:
            self._outcome.set_exception(error)
        else:
            self._outcome.set_result(task.result())

    def _cancel(self) -> None:
        if self._task is not None:  # always: `_start` stands before us in the loop's line
            self._task.cancel()

    def _state(self) -> str:
        if not self.done:
            progress = self.snapshot()
            return (
                f"running for {time.monotonic() - self._began:.1f} s" if progress is None else f"{progress}"
            )
        if self._outcome.cancelled():
            return "cancelled"
        error = self._outcome.exception()
        return f"failed: {error}" if error is not None else "done"
