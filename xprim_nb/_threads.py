"""Blocking work in threads, so that a cancelled caller never leaves a thread behind that still works.

Source: STYLE rule 11 ("Cancellation is tested like success").
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeAlias, TypeVar

__all__ = ["Check", "DaemonThreads", "HaltedError", "Lanes", "halting", "settled", "settled_in", "unhalted"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

Check: TypeAlias = Callable[[], None]
"""Called by long work between two of its steps; raises `HaltedError` when nobody waits for it any more."""


class HaltedError(Exception):
    """Long work ended early because its caller was cancelled."""


def unhalted() -> None:  # house: to go on is all it says
    """The `Check` of work that goes to its end."""


class DaemonThreads(Executor):
    """Up to `limit` threads that a process which wants to end does not wait for; each ends when the line is empty.

    For work that waits for others and can be stopped by other means. The standard library's pools are joined when
    the interpreter ends: a server that is silent would hold it for as long as its silence is borne.

    Args:
        limit: The most threads at once.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._running, self._lock = limit, 0, threading.Lock()
        self._line: deque[tuple[Future[Any], Callable[[], Any]]] = deque()

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Stand in line; the future is that of `fn`."""
        future: Future[_T] = Future()
        with self._lock:
            self._line.append((future, functools.partial(fn, *args, **kwargs)))
            if self._running < self._limit:
                threading.Thread(target=self._work, name="xprim-fetch", daemon=True).start()
                self._running += 1
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Cancel who stands in line, if asked to. What runs is never waited for."""
        with self._lock:
            waiting = list(self._line) if cancel_futures else []
        for future, _ in waiting:
            future.cancel()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._line:
                    self._running -= 1
                    return
                future, work = self._line.popleft()
            if future.set_running_or_notify_cancel():
                try:
                    value = work()
                except BaseException as error:  # noqa: BLE001  # whoever waits for the future hears it
                    future.set_exception(error)
                else:
                    future.set_result(value)
                    del value
            del future, work  # a thread that waits for nothing holds no chunk


class Lanes:
    """At most `limit` transfers at once.

    Those that wait stand in line at the threads themselves: between two of them no thread waits for the event loop,
    which on a loaded machine takes milliseconds to answer.

    Made on the loop that uses it; `close` lets the threads end.

    Attributes:
        threads: For blocking transfers.
        turn: For transfers on the loop.
    """

    def __init__(self, limit: int) -> None:
        self.threads = DaemonThreads(limit)
        self.turn = asyncio.Semaphore(limit)

    def close(self) -> None:
        """Let the threads end; who still waits in line is cancelled."""
        self.threads.shutdown(wait=False, cancel_futures=True)


async def settled(work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """The result of `work`, run in a thread; when cancelled, the cancellation goes on once the thread has ended."""
    return await settled_in(None, functools.partial(work, *args, **kwargs))


async def halting(work: Callable[[Check], _T]) -> _T:
    """The same for work that takes minutes: it is handed a `Check`, so that the thread ends soon when cancelled."""
    halted = threading.Event()

    def check() -> None:
        if halted.is_set():
            raise HaltedError

    return await settled_in(None, functools.partial(work, check), halted.set)


async def settled_in(
    threads: Executor | None, work: Callable[[], _T], on_cancel: Callable[[], None] | None = None
) -> _T:
    """The same in one of `threads`; work that still waits in line when cancelled is never begun."""
    running = asyncio.get_running_loop().run_in_executor(threads, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        if on_cancel is not None:
            on_cancel()
        while not running.done():
            try:
                await asyncio.wait([running])
            except asyncio.CancelledError:  # a second cancellation does not make the thread end sooner
                continue
        if not running.cancelled():
            running.exception()  # retrieved: the cancellation is what the caller hears
        raise
