"""Blocking work in threads, so that a cancelled caller never leaves a thread behind that still works.

Source: STYLE rule 11 ("Cancellation is tested like success").
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

__all__ = ["settled"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


async def settled(work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """The result of `work`, run in a thread; when cancelled, the cancellation goes on once the thread has ended."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
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
