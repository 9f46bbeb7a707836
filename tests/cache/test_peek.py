"""Judging a model by its headers: few chunks, each verified, and none of them lost to the pull that follows."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from xprim_nb._files import open_plain
from xprim_nb.errors import HashMismatchError, NetworkError, NotInstalledError, OfflineError, StorageError
from xprim_nb.registry.tensors import HeaderError
from xprim_nb.testing.faults import Corrupt
from xprim_nb.testing.faulty_registry import FaultyRegistry

from .rooms import CHUNK, Room, listing, require_sound

_REF = "group/model v1"
# 40,000 bytes of weights under a header of some hundreds.
_MODEL = save(
    {
        "a.weight": np.arange(5000, dtype=np.float32).reshape(50, 100),
        "b.weight": np.arange(10000, dtype=np.float16),
    }
)
_FILES = {"readme.md": b"x" * 1500, "model.safetensors": _MODEL, "tail": b"t" * 700}


async def test_only_the_chunks_with_headers_are_fetched(room: Room, server: FaultyRegistry) -> None:
    """Tensors, dtypes and parameters of 42 chunks for the price of one or two, and the pull fetches the others only."""
    made = room.publish({_REF: _FILES})
    async with room.manager() as manager:
        peeked = await manager.peek(_REF)
        fetched = server.count("chunk")
        assert 1 <= fetched <= 2
        assert (peeked.parameters, peeked.dtypes) == (15000, {"F16": 20000, "F32": 20000})
        assert [tensor.name for tensor in peeked.tensor_files["model.safetensors"].tensors] == [
            "a.weight",
            "b.weight",
        ]
        assert (peeked.bytes_read, peeked.total_size) == (fetched * CHUNK, sum(map(len, _FILES.values())))
        assert (await manager.peek(_REF)).bytes_read == 0
        pulled = await manager.pull(_REF)
    assert pulled.receipt.local_models == {"loose chunks": fetched}
    assert server.count("chunk") == len(set(made.chunks(_REF)))
    require_sound(room.base, {_REF: _FILES})


async def test_endings_are_read_in_any_case(room: Room, server: FaultyRegistry) -> None:
    """`MODEL.SAFETENSORS`, as some systems write names, is a tensor file before and after it is installed."""
    room.publish({_REF: {"MODEL.SAFETENSORS": _MODEL}})
    async with room.manager() as manager:
        assert (await manager.peek(_REF)).parameters == 15000
        await manager.pull(_REF)
        assert (await manager.peek(_REF)).parameters == 15000


async def test_a_header_of_many_chunks_is_read_through(room: Room, server: FaultyRegistry) -> None:
    """A header longer than a chunk is put together from as many as it takes, each fetched once."""
    many = save({f"layer.{number:04}.weight": np.zeros(1, dtype=np.uint8) for number in range(200)})
    room.publish({_REF: {"model.safetensors": many}}, chunk_size=500)
    async with room.manager() as manager:
        assert (await manager.peek(_REF)).parameters == 200
    assert server.count("chunk") > 10
    assert len({request.path for request in server.those("chunk")}) == server.count("chunk")


async def test_an_installed_model_is_read_where_it_lies(room: Room, server: FaultyRegistry) -> None:
    """Installed, nothing is fetched; the registry is not asked at all."""
    room.publish({_REF: _FILES})
    async with room.manager() as manager:
        remote = await manager.peek(_REF)
        await manager.pull(_REF)
        server.forget_requests()
        local = await manager.peek(_REF)
    assert server.count() == 0
    assert (local.tensor_files, local.manifest_hash) == (remote.tensor_files, remote.manifest_hash)


async def test_chunks_of_installed_models_are_used(room: Room, server: FaultyRegistry) -> None:
    """What another model holds is copied from there, not fetched."""
    room.publish({_REF: _FILES, "group/other v1": {**_FILES, "tail": b"u" * 700}})
    async with room.manager() as manager:
        await manager.pull("group/other v1")
        server.forget_requests()
        assert (await manager.peek(_REF)).parameters == 15000
    assert server.count("chunk") == 0


@pytest.mark.parametrize("harm", ["damaged", "short", "long", "directory"])
async def test_a_loose_chunk_is_not_believed(room: Room, server: FaultyRegistry, harm: str) -> None:
    """A chunk that somebody left under the right name with other bytes is found out, and replaced."""
    made = room.publish({_REF: {"model.safetensors": _MODEL}})
    digest = made.chunks(_REF)[0]
    path = room.layout.chunks / digest
    path.parent.mkdir(parents=True)
    good = made.object_path(digest).read_bytes()
    match harm:
        case "directory":
            path.mkdir()
        case _:
            path.write_bytes({"damaged": good[:-1] + b"?", "short": good[:-1], "long": good + b"?"}[harm])
    async with room.manager() as manager:
        if harm == "directory":
            with pytest.raises(StorageError):
                await manager.peek(_REF)
        else:
            assert (await manager.peek(_REF)).parameters == 15000
            assert path.read_bytes() == good
            assert server.count(digest) == 1


async def test_altered_bytes_are_no_header(room: Room, server: FaultyRegistry) -> None:
    """A chunk that arrives altered is refused and leaves nothing behind."""
    room.publish({_REF: _FILES})
    server.inject(Corrupt(3), on="chunk", times=None)
    async with room.manager() as manager:
        with pytest.raises(HashMismatchError):
            await manager.peek(_REF)
    assert listing(room.layout.chunks) == {}


async def test_a_malformed_tensor_file_is_named(room: Room) -> None:
    """Bytes that are right and no safetensors file: the error names the file."""
    room.publish({_REF: {"deep/model.safetensors": b"\xff" * 64}})
    async with room.manager() as manager:
        with pytest.raises(HeaderError, match=r"deep/model\.safetensors"):
            await manager.peek(_REF)


async def test_a_model_without_tensor_files_costs_nothing(room: Room, server: FaultyRegistry) -> None:
    """Nothing to read, nothing fetched."""
    room.publish({_REF: {"config.json": b"{}", "empty.safetensors.index.json": b"{}"}})
    async with room.manager() as manager:
        peeked = await manager.peek(_REF)
    assert (peeked.parameters, dict(peeked.tensor_files), server.count("chunk")) == (0, {}, 0)


async def test_a_cancelled_peek_leaves_nobody_at_work(room: Room, server: FaultyRegistry) -> None:
    """Cancelled while a chunk is on its way: it ends at once, no temporary file stays, and the next peek works."""
    room.publish({_REF: _FILES})
    async with room.manager() as manager:
        with server.hold("chunk", after_bytes=10) as gate:
            peeking = asyncio.create_task(manager.peek(_REF))
            await asyncio.to_thread(gate.wait_reached)
            peeking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(peeking, 5)
            assert listing(room.layout.chunks) == {}
        assert (await manager.peek(_REF)).parameters == 15000


async def test_a_chunk_pruned_under_the_reader_is_fetched_again(
    room: Room, server: FaultyRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process prunes between two reads: the peek goes on."""
    room.publish({_REF: {"model.safetensors": _MODEL}})
    pruned: list[object] = []

    def pruning(path: Path) -> int:
        if path.parent == room.layout.chunks and path.exists() and not pruned:
            pruned.append(path)
            path.unlink()
        return open_plain(path)

    async with room.manager() as manager:
        monkeypatch.setattr("xprim_nb.cache.peek.open_plain", pruning)
        assert (await manager.peek(_REF)).parameters == 15000
    assert pruned
    assert server.count("chunk") >= 2


async def test_offline_a_peek_needs_the_chunks_here(room: Room, server: FaultyRegistry) -> None:
    """Offline, what was peeked once is answered again, and what was not says what is missing."""
    room.publish({_REF: _FILES, "group/other v1": {"model.safetensors": _MODEL}})
    async with room.manager() as manager:
        await manager.peek(_REF)
        await manager.get_remote_detail("group/other v1")
    async with room.manager(offline=True) as manager:
        assert (await manager.peek(_REF)).parameters == 15000
        with pytest.raises(OfflineError, match="chunk"):
            await manager.peek("group/other v1")
        with pytest.raises((NetworkError, NotInstalledError, LookupError)):
            await manager.peek("group/third v1")
