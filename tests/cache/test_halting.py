"""Whoever cancels what reads gigabytes waits for one chunk, not for all of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xprim_nb.cache import export, partial, verify
from xprim_nb.errors import NetworkError
from xprim_nb.manager import Manager
from xprim_nb.testing.faults import Status
from xprim_nb.testing.faulty_registry import FaultyRegistry

from .rooms import Room, blocks, require_sound

_REF = "group/model v1"
_FILES = {"a.bin": blocks(*range(100))}


class _Reading:
    """Stands before a module's `hash_segments`: counts its calls, and holds the first ones until told to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
        self.calls = 0
        self.begun, self.go_on = threading.Event(), threading.Event()
        self._real = module.hash_segments
        monkeypatch.setattr(module, "hash_segments", self._read)

    def _read(self, *args: Any) -> bool:
        self.calls += 1
        self.begun.set()
        assert self.go_on.wait(10)
        found: bool = self._real(*args)
        return found


@pytest.mark.parametrize(
    ("module", "verb"),
    [
        (export, lambda manager, out: manager.export(_REF, to=out)),
        (verify, lambda manager, out: manager.pull(_REF, force=True)),
    ],
    ids=["export", "force"],
)
async def test_what_reads_an_installed_model_ends_soon(
    room: Room, monkeypatch: pytest.MonkeyPatch, module: Any, verb: Callable[[Manager, Path], Any]
) -> None:
    """An export and a forced pull read no further chunk once cancelled; done again they go to their end."""
    room.publish({_REF: _FILES})
    async with room.manager() as manager:
        await manager.pull(_REF)
        with monkeypatch.context() as patched:
            reading = _Reading(patched, module)
            working = asyncio.create_task(verb(manager, room.root / "out"))
            await asyncio.to_thread(reading.begun.wait)
            working.cancel()
            await asyncio.sleep(0)
            reading.go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await working
        assert 1 <= reading.calls < 100
        await verb(manager, room.root / "out")
    require_sound(room.base, {_REF: _FILES})


@pytest.mark.parametrize("verb", ["plan_pull", "pull"])
async def test_what_an_earlier_pull_left_is_read_no_further(
    room: Room, server: FaultyRegistry, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """Cancelled while it verifies an unfinished pull, a pull or a plan ends soon, and nothing is fetched twice after."""
    room.publish({_REF: _FILES})
    server.inject(Status(404), on=room.made.chunks(_REF)[-1], times=None)
    async with room.manager(tries=1) as manager:
        with pytest.raises(NetworkError):
            await manager.pull(_REF)
        server.heal()
        with monkeypatch.context() as patched:
            reading = _Reading(patched, partial)
            working = asyncio.create_task(getattr(manager, verb)(_REF))
            await asyncio.to_thread(reading.begun.wait)
            working.cancel()
            await asyncio.sleep(0)
            reading.go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await working
        assert 1 <= reading.calls < 90
        server.forget_requests()
        pulled = await manager.pull(_REF)
    assert server.count("chunk") == pulled.receipt.chunks_network < 10
    require_sound(room.base, {_REF: _FILES})
