"""The acceptance at full size: one flipped byte in a model of 2 GB."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from xprim_nb.refs import ModelRef
from xprim_nb.registry.publisher import publish
from xprim_nb.testing.faulty_registry import FaultyRegistry

from ..rooms import Room
from .damage import REF

_SIZE = 2 << 30


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_one_flipped_byte_in_two_gigabytes_costs_one_chunk(tmp_path: Path) -> None:
    """Found by full, located to its chunk, mended with one chunk over the network."""
    source = tmp_path / "source"
    source.mkdir()
    with (source / "model.bin").open("wb") as file:
        for number in range(_SIZE >> 20):
            file.write(hashlib.shake_128(str(number).encode()).digest(1 << 20))
    room = Room.at(tmp_path)
    publish(source, ModelRef.parse(REF), to=room.made.root)
    with FaultyRegistry(room.made.root) as server:
        room.url = server.url
        async with room.manager() as manager:
            await manager.pull(REF)
            path = room.dir(REF) / "model.bin"
            found = path.stat()
            with path.open("r+b") as file:
                file.seek(1_234_567_890)
                byte = file.read(1)[0]
                file.seek(1_234_567_890)
                file.write(bytes([byte ^ 1]))
            os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
            report = await manager.validate(REF, "full")
            assert report.findings[0].chunks == (1_234_567_890 // (10 << 20),)
            server.forget_requests()
            repaired = await manager.repair(REF)
            assert repaired.receipt == "1 of 205 chunks fetched (10.0 MB)."
            assert server.bytes_sent("chunk") == 10 << 20
            assert (await manager.validate(REF, "full")).is_healthy
            assert repaired.seconds < 120
