"""Blocking work in threads, so that a cancelled caller never leaves a thread behind that still works.

Source: STYLE rule 11 ("Cancellation is tested like success").
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

__all__ = ["Lanes", "settled", "settled_in"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Lanes:
    """At most `limit` transfers at once. Those that wait stand in line at the threads themselves: between two of them
    no thread waits for the event loop, which on a loaded machine takes milliseconds to answer.

    Made on the loop that uses it; `close` lets the threads end.

    Attributes:
        threads: For blocking transfers.
        turn: For transfers on the loop.
    """

    def __init__(self, limit: int) -> None:
        self.threads = ThreadPoolExecutor(limit, thread_name_prefix="xprim-fetch")
        self.turn = asyncio.Semaphore(limit)

    def close(self) -> None:
        """Let the threads end; who still waits in line is cancelled."""
        self.threads.shutdown(wait=False, cancel_futures=True)


async def settled(work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """The result of `work`, run in a thread; when cancelled, the cancellation goes on once the thread has ended."""
    return await settled_in(None, functools.partial(work, *args, **kwargs))


async def settled_in(threads: Executor | None, work: Callable[[], _T]) -> _T:
    """The same in one of `threads`; work that still waits in line when cancelled is never begun."""
    running = asyncio.get_running_loop().run_in_executor(threads, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            try:
                await asyncio.wait([running])
            except asyncio.CancelledError:  # a second cancellation does not make the thread end sooner
                continue
        if not running.cancelled():
            running.exception()  # retrieved: the cancellation is what the caller hears
        raise
