"""Hash chunks where they lie, on all cores, so that the work can be stopped between any two of them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from xprim_nb._threads import settled
from xprim_nb.cache.partial import hash_segments
from xprim_nb.registry.manifest import Manifest

__all__ = ["StoppedCheckError", "hashed_chunks", "is_right_chunk", "stoppable"]

_T = TypeVar("_T")


class StoppedCheckError(Exception):
    """Somebody cancelled the check."""


def is_right_chunk(root: Path, manifest: Manifest, index: int) -> bool:
    """True when the files below `root` hold chunk `index` as they should."""
    found = hashlib.sha256()
    whole = hash_segments(root, manifest, index, found.update)
    return whole and found.hexdigest() == manifest.chunks[index]


def hashed_chunks(
    root: Path, manifest: Manifest, indices: Sequence[int], stop: threading.Event | None = None
) -> Iterator[tuple[int, bool]]:
    """Each of the chunks, and whether it is right, in order.

    Raises:
        StoppedCheckError: `stop` was set.
    """

    def check(index: int) -> bool:
        if stop is not None and stop.is_set():
            raise StoppedCheckError
        return is_right_chunk(root, manifest, index)

    with ThreadPoolExecutor(max(1, min(os.cpu_count() or 1, len(indices)))) as pool:
        try:
            yield from zip(indices, pool.map(check, indices), strict=True)
        finally:
            pool.shutdown(cancel_futures=True)


async def stoppable(work: Callable[[threading.Event], _T]) -> _T:
    """The result of `work`, run in a thread; a cancelled caller sets the event and waits for the thread's end."""
    stop = threading.Event()
    running = asyncio.ensure_future(settled(work, stop))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        while not running.done():
            try:
                await asyncio.wait([running])
            except asyncio.CancelledError:  # a second cancellation does not make the thread end sooner
                continue
        if not running.cancelled():
            running.exception()  # retrieved: the cancellation is what the caller hears
        raise
