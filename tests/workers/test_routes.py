"""What must go to its end does, and is then cancelled."""

from __future__ import annotations

import asyncio

import pytest

from xprim_nb.workers.routes import to_the_end


async def test_work_goes_to_its_end_before_a_cancellation_is_heard() -> None:
    """However often it is cancelled, the work is done; then the cancellation is raised."""
    release, done = asyncio.Event(), False

    async def work() -> None:
        nonlocal done
        await release.wait()
        done = True

    task = asyncio.ensure_future(to_the_end(work()))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done
