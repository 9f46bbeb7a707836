"""A pull that was killed, cancelled or cut off goes on where it was; what it left is verified, not believed."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from xprim_nb.errors import HashMismatchError, NetworkError
from xprim_nb.testing.faults import Corrupt, Status, Truncate
from xprim_nb.testing.faulty_registry import FaultyRegistry

from .rooms import CHUNK, Room, Worker, blocks, listing, require_sound

_REF = "group/model v1"
_FILES = {"a.bin": blocks(*range(12)), "b.bin": blocks(*range(12, 24))[:11_500], "c": b"tail"}
_CHUNKS = 24


@pytest.mark.chaos
@pytest.mark.parametrize(("concurrency", "killed_at"), [(1, 1), (1, 13), (4, 9), (8, 20)])
def test_killed_in_the_middle_only_what_was_in_flight_is_fetched_again(
    room: Room, server: FaultyRegistry, concurrency: int, killed_at: int
) -> None:
    """SIGKILL while chunks are on their way: over both runs no more than `concurrency` chunks came twice."""
    room.publish({_REF: _FILES})
    seen: list[str] = []

    def late(request: object) -> bool:
        if getattr(request, "kind", "") != "chunk":
            return False
        seen.append("")
        return len(seen) >= killed_at

    gate = server.hold(late, after_bytes=CHUNK // 2)
    with Worker(room, "pull", _REF, concurrency=concurrency) as worker:
        gate.wait_reached(min(concurrency, _CHUNKS - killed_at + 1), timeout_s=60)
        worker.kill()
    asked = server.count("chunk")
    server.heal()
    with Worker(room, "pull", _REF, concurrency=concurrency) as worker:
        (result,) = worker.finish()
    assert result["status"] == "installed"
    assert result["present"] >= asked - concurrency
    assert server.count("chunk") <= _CHUNKS + concurrency
    assert server.bytes_sent("chunk") <= sum(map(len, _FILES.values())) + concurrency * CHUNK
    require_sound(room.base, {_REF: _FILES})


async def _cut_off(room: Room, server: FaultyRegistry, after: int = 10) -> Path:
    """Leave an unfinished pull of `after` chunks."""
    room.publish({_REF: _FILES})
    server.inject(Status(404), on="chunk", times=None, skip=after)
    async with room.manager(tries=1) as manager:
        with pytest.raises(NetworkError):
            await manager.pull(_REF, concurrency=1)
    server.heal()
    server.forget_requests()
    return room.layout.partials / room.made.manifest_hash(_REF)


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


def _torn(partial: Path) -> None:
    path = partial / "verified"
    path.write_bytes(path.read_bytes()[:-20])


# What happened to the unfinished pull of ten chunks, and how many of these are still good.
_HARMS: dict[str, tuple[Callable[[Path], object], int]] = {
    "nothing": (lambda partial: None, 10),
    "a damaged byte": (lambda partial: _flip(partial / "tree" / "a.bin", 3 * CHUNK + 7), 9),
    "a torn last line": (_torn, 9),
    "a list that lies": (
        lambda partial: (partial / "verified").write_text("".join(f"{x:064x}\n" for x in range(99))),
        0,
    ),
    "garbage for a list": (lambda partial: (partial / "verified").write_bytes(b"\xff\0\n" * 1000), 0),
    "no list": (lambda partial: (partial / "verified").unlink(), 0),
    "lines twice": (
        lambda partial: (partial / "verified").write_bytes((partial / "verified").read_bytes() * 3),
        10,
    ),
    "no tree": (lambda partial: shutil.rmtree(partial / "tree"), 0),
    "a file cut short": (lambda partial: os.truncate(partial / "tree" / "a.bin", 5 * CHUNK + 1), 5),
    "a file grown": (lambda partial: os.truncate(partial / "tree" / "a.bin", 10**6), 10),
    "a file gone": (lambda partial: (partial / "tree" / "a.bin").unlink(), 0),
    "a file too many": (lambda partial: (partial / "tree" / "stranger").write_bytes(b"?"), 10),
    "a link in a file's place": (lambda partial: _linked(partial / "tree" / "a.bin"), 0),
    "an old manifest": (lambda partial: _old_metadata(partial / "tree" / ".xprim"), 10),
}


def _linked(path: Path) -> None:
    outside = path.parents[5] / "outside"
    outside.write_bytes(b"not ours")
    path.unlink()
    path.symlink_to(outside)


def _old_metadata(folder: Path) -> None:
    folder.mkdir()
    (folder / "manifest.json").write_bytes(b"{}")
    (folder / ".receipt.json.0123.tmp").write_bytes(b"half")


@pytest.mark.parametrize("harm", _HARMS)
async def test_what_was_left_is_verified(room: Room, server: FaultyRegistry, harm: str) -> None:
    """Whatever happened to an unfinished pull meanwhile, right chunks are kept, the others fetched, no byte is wrong."""
    spoil, good = _HARMS[harm]
    partial = await _cut_off(room, server)
    spoil(partial)
    async with room.manager() as manager:
        plan = await manager.plan_pull(_REF)
        pulled = await manager.pull(_REF)
    assert (plan.chunks_present, pulled.receipt.chunks_present) == (good, good)
    assert server.count("chunk") == _CHUNKS - good == plan.chunks_network
    require_sound(room.base, {_REF: _FILES})
    assert [name for name in listing(room.dir(_REF)) if ".tmp" in name] == []
    assert listing(room.root).get("outside", b"not ours") == b"not ours"


async def test_a_plan_leaves_an_unfinished_pull_as_it_is(room: Room, server: FaultyRegistry) -> None:
    """Looking costs nothing and changes nothing."""
    partial = await _cut_off(room, server)
    before = listing(partial)
    async with room.manager() as manager:
        await manager.plan_pull(_REF)
    assert listing(partial) == before


@pytest.mark.alone
async def test_one_chunk_that_fails_lets_the_others_in_flight_finish(
    room: Room, server: FaultyRegistry
) -> None:
    """What was on its way when a chunk failed for good is kept."""
    room.publish({_REF: _FILES})
    bad = room.made.chunks(_REF)[0]
    server.inject(Status(404), on=bad, times=None)
    with (
        server.hold(bad) as failing,
        server.hold(lambda request: request.kind == "chunk" and bad not in request.path) as gate,
    ):
        async with room.manager(tries=1) as manager:
            pulling = asyncio.create_task(manager.pull(_REF, concurrency=4))
            await asyncio.to_thread(failing.wait_reached)
            await asyncio.to_thread(gate.wait_reached, 3)
            failing.release()
            await asyncio.to_thread(server.wait_for, 1, bad, done=True)
            gate.release()
            with pytest.raises(NetworkError):
                await pulling
            in_flight = server.count("chunk") - 1
            assert 3 <= in_flight <= 6
            server.heal()
            server.forget_requests()
            assert (await manager.pull(_REF)).receipt.chunks_present == in_flight
    assert server.count("chunk") == _CHUNKS - in_flight
    require_sound(room.base, {_REF: _FILES})


@pytest.mark.parametrize("held", ["index", "manifest", "chunk"])
async def test_a_cancelled_pull_keeps_its_chunks_and_leaves_no_writer(
    room: Room, server: FaultyRegistry, held: str
) -> None:
    """Cancelled at any phase it ends at once; nothing changes on disk afterwards, and the next pull goes on from there."""
    room.publish({_REF: _FILES})
    gate = server.hold(_after(held, 10 if held == "chunk" else 0), after_bytes=5)
    async with room.manager() as manager:
        pulling = asyncio.create_task(manager.pull(_REF, concurrency=2))
        await asyncio.to_thread(gate.wait_reached)
        pulling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(pulling, 5)
        before = listing(room.base / "cache" / "partial")
        server.heal()
        assert listing(room.base / "cache" / "partial") == before
        server.forget_requests()
        pulled = await manager.pull(_REF)
    if held == "chunk":
        assert pulled.receipt.chunks_present >= 9
    assert server.count("chunk") == _CHUNKS - pulled.receipt.chunks_present
    require_sound(room.base, {_REF: _FILES})


def _after(kind: str, passing: int) -> Callable[[object], bool]:
    seen: list[str] = []

    def late(request: object) -> bool:
        if getattr(request, "kind", "") != kind:
            return False
        seen.append("")
        return len(seen) > passing

    return late


async def test_the_manager_may_be_left_while_a_pull_runs(room: Room, server: FaultyRegistry) -> None:
    """A task group that fails cancels the pull inside it; the manager closes, and the next one goes on."""
    room.publish({_REF: _FILES})
    gate = server.hold(_after("chunk", 10))

    async def fail() -> None:
        await asyncio.to_thread(gate.wait_reached)
        raise RuntimeError("something else went wrong")

    with pytest.raises(ExceptionGroup):  # noqa: PT012  # the group is what raises
        async with room.manager() as manager, asyncio.TaskGroup() as group:
            group.create_task(manager.pull(_REF))
            group.create_task(fail())
    server.heal()
    async with room.manager() as manager:
        assert (await manager.pull(_REF)).receipt.chunks_present >= 7
    require_sound(room.base, {_REF: _FILES})


async def test_a_chunk_altered_on_the_way_is_never_listed(room: Room, server: FaultyRegistry) -> None:
    """Wrong bytes lie in the file for a moment; they are not verified, so nobody takes them for the chunk."""
    room.publish({_REF: _FILES})
    bad = room.made.chunks(_REF)[2]
    server.inject(Corrupt(5), on=bad, times=None)
    async with room.manager() as manager:
        with pytest.raises(HashMismatchError, match=bad[:12]):
            await manager.pull(_REF, concurrency=1)
        partial = room.layout.partials / room.made.manifest_hash(_REF)
        assert bad not in (partial / "verified").read_text()
        server.heal()
        pulled = await manager.pull(_REF)
    assert pulled.receipt.chunks_present == 2
    require_sound(room.base, {_REF: _FILES})


async def test_a_retried_chunk_is_counted_as_such(room: Room, server: FaultyRegistry) -> None:
    """A body cut short is taken up again; the receipt knows the retry and counts no byte of the model twice."""
    room.publish({_REF: _FILES})
    for digest in room.made.chunks(_REF)[3:6]:
        server.inject(Truncate(300), on=digest)
    async with room.manager() as manager:
        receipt = (await manager.pull(_REF)).receipt
    assert receipt.retries == 3
    assert receipt.chunks_network == _CHUNKS
    assert receipt.bytes_network >= sum(map(len, _FILES.values()))
    require_sound(room.base, {_REF: _FILES})


async def test_an_unfinished_pull_of_an_older_manifest_is_a_source(
    room: Room, server: FaultyRegistry
) -> None:
    """The version changed while its pull was unfinished: what was fetched of the old one is not fetched again."""
    await _cut_off(room, server)
    room.publish({_REF: {**_FILES, "c": b"another tail"}})
    async with room.manager() as manager:
        pulled = await manager.pull(_REF)
    assert pulled.receipt.local_models == {"another unfinished pull": 10}
    assert server.count("chunk") == _CHUNKS - 10
