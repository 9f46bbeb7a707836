"""Lines of a descriptor: whole, however they are cut, and a reader that can be cancelled."""

from __future__ import annotations

import asyncio
import os

import pytest

from xprim_nb.agents.stdin import InputLines


async def test_lines_are_put_together() -> None:
    """Blocks that end anywhere give whole lines; a last one without an end counts, empty ones do not."""
    reading, writing = os.pipe()
    lines = InputLines(reading)
    for block in (b"on", b"e\ntwo\n\n", "drei ü\nfo".encode(), b"ur"):
        os.write(writing, block)
    os.close(writing)
    assert [line async for line in lines] == ["one", "two", "drei ü", "four"]
    assert [line async for line in lines] == []
    os.close(reading)


async def test_waiting_can_be_cancelled() -> None:
    """A reader that waits for a silent client is cancelled at once."""
    reading, writing = os.pipe()
    lines = InputLines(reading)
    waiting = asyncio.ensure_future(anext(lines))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    os.write(writing, b"later\n")
    assert await anext(lines) == "later"
    os.close(writing)
    assert [line async for line in lines] == []
    os.close(reading)
