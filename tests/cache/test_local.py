"""Chunks that this machine has already: found wherever they lie, believed nowhere."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from xprim_nb.cache import partial as partial_module
from xprim_nb.cache.local import LOOSE, NEIGHBOUR
from xprim_nb.errors import NetworkError
from xprim_nb.testing.faults import Status
from xprim_nb.testing.faulty_registry import FaultyRegistry

from .rooms import CHUNK, Room, blocks, listing, require_sound

_A, _B, _C = "group/a v1", "group/b v1", "group/c v1"
_SHARED = {"w.bin": blocks(1, 2, 3, 4), "x": b"shared tail"}
_OTHER = {"other.bin": blocks(3, 1, 9), "y": b"!"}


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


_DAMAGES: dict[str, tuple[Callable[[Path], object], int]] = {
    # how the file with the chunks 1 to 4 is damaged, and how many of the chunks 3 and 1 are lost by it
    "none": (lambda path: None, 0),
    "flipped": (lambda path: _flip(path, 2 * CHUNK + 5), 1),
    "cut": (lambda path: os.truncate(path, 2 * CHUNK + 999), 1),
    "empty": (lambda path: os.truncate(path, 0), 2),
    "gone": (lambda path: path.unlink(), 2),
    "directory": (lambda path: (path.unlink(), path.mkdir()), 2),
    "loop": (lambda path: (path.unlink(), path.symlink_to(path.name)), 2),
    "linked": (lambda path: (path.rename(path.with_name("moved")), path.symlink_to("moved")), 0),
    "grown": (lambda path: path.write_bytes(path.read_bytes() + b"more"), 0),
}


@pytest.mark.parametrize("damage", _DAMAGES)
async def test_an_installed_model_serves_what_it_still_holds(
    room: Room, server: FaultyRegistry, damage: str
) -> None:
    """Every byte is hashed on the way: what is damaged is fetched, the rest is copied, the source is not touched."""
    spoil, lost = _DAMAGES[damage]
    room.publish({_A: _SHARED, _B: _OTHER})
    async with room.manager() as manager:
        await manager.pull(_A)
        spoil(room.dir(_A) / "w.bin")
        before = listing(room.dir(_A))
        server.forget_requests()
        pulled = await manager.pull(_B)
    assert listing(room.dir(_A)) == before
    assert room.files(_B) == _OTHER
    assert (pulled.receipt.chunks_local, pulled.receipt.chunks_network) == (2 - lost, 2 + lost)
    assert server.count("chunk") == 2 + lost
    assert pulled.receipt.local_models == ({_A: 2 - lost} if lost < 2 else {})


async def test_the_next_place_serves_when_the_first_is_damaged(room: Room, server: FaultyRegistry) -> None:
    """Two installed models hold a chunk, one of them no more: the other gives it."""
    room.publish({_A: _SHARED, _B: _SHARED | {"b": b""}, _C: _OTHER})
    async with room.manager() as manager:
        await manager.pull(_A)
        await manager.pull(_B)
        _flip(room.dir(_A) / "w.bin", 5)
        server.forget_requests()
        pulled = await manager.pull(_C)
    assert server.count("chunk") == 2
    assert pulled.receipt.local_models == {_A: 1, _B: 1}


async def test_a_bad_sector_in_the_source_is_no_reason_to_fail(
    room: Room, server: FaultyRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk cannot read the installed model: the chunks come over the network."""
    room.publish({_A: _SHARED, _B: _OTHER})
    real = partial_module.read_range

    def unreadable(fd: int, *rest: object) -> int:
        if str(Path(f"/proc/self/fd/{fd}").readlink()).startswith(str(room.dir(_A))):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, *rest)  # type: ignore[arg-type]  # handed on as they came

    async with room.manager() as manager:
        await manager.pull(_A)
        with monkeypatch.context() as patch:
            patch.setattr(partial_module, "read_range", unreadable)
            pulled = await manager.pull(_B)
    assert (pulled.receipt.chunks_local, pulled.receipt.chunks_network) == (0, 4)
    require_sound(room.base, {_A: _SHARED, _B: _OTHER})


async def test_loose_chunks_are_used_and_believed_no_more_than_others(
    room: Room, server: FaultyRegistry
) -> None:
    """What the original left in `cache/chunks` is used where it is right; wrong length, wrong bytes, a directory or a
    pipe under a chunk's name are passed over and left.
    """
    made = room.publish({_A: {"w.bin": blocks(1, 2, 3, 4, 5)}})
    good, wrong, short, folder, pipe = made.chunks(_A)
    chunks = room.layout.chunks
    chunks.mkdir(parents=True)
    (chunks / good).write_bytes(blocks(1))
    (chunks / wrong).write_bytes(blocks("x"))
    (chunks / short).write_bytes(blocks(3)[:500])
    (chunks / folder).mkdir()
    os.mkfifo(chunks / pipe)
    (chunks / "not-a-digest").write_bytes(b"?")
    async with room.manager() as manager:
        plan = await manager.plan_pull(_A)
        pulled = await manager.pull(_A)
    assert (plan.chunks_local, dict(plan.local_models)) == (5, {LOOSE: 5000})
    assert pulled.receipt.local_models == {LOOSE: 1}
    assert server.count("chunk") == 4
    require_sound(room.base, {_A: {"w.bin": blocks(1, 2, 3, 4, 5)}})


async def _unfinished(room: Room, server: FaultyRegistry, ref: str, missing: str) -> None:
    """Leave a pull that has every chunk but one."""
    rule = server.inject(Status(404), on=missing, times=None)
    async with room.manager(tries=1) as manager:
        with pytest.raises(NetworkError):
            await manager.pull(ref, concurrency=1)
    assert rule.hits == 1
    server.heal()
    server.forget_requests()


async def test_another_unfinished_pull_serves_what_it_verified(room: Room, server: FaultyRegistry) -> None:
    """Chunks lie in the unfinished pull of another model: they are copied from there, and it keeps them."""
    made = room.publish({_A: _SHARED, _B: _OTHER})
    await _unfinished(room, server, _A, made.chunks(_A)[-1])
    async with room.manager() as manager:
        plan = await manager.plan_pull(_B)
        pulled = await manager.pull(_B)
        assert plan.local_models == {NEIGHBOUR: 2000}
        assert pulled.receipt.local_models == {NEIGHBOUR: 2}
        assert server.count("chunk") == 2
        finished = await manager.pull(_A)
    assert finished.receipt.chunks_present == 4
    require_sound(room.base, {_A: _SHARED, _B: _OTHER})


@pytest.mark.parametrize("harm", ["list lies", "tree gone", "manifest gone", "manifest damaged", "foreign"])
async def test_a_neighbour_that_lies_costs_bandwidth_only(
    room: Room, server: FaultyRegistry, harm: str
) -> None:
    """Whatever is wrong with the other unfinished pull, this one installs the right bytes."""
    made = room.publish({_A: _SHARED, _B: _OTHER})
    await _unfinished(room, server, _A, made.chunks(_A)[-1])
    digest = made.manifest_hash(_A)
    neighbour = room.layout.partials / digest
    match harm:
        case "list lies":
            _flip(neighbour / "tree" / "w.bin", 5)
        case "tree gone":
            shutil.rmtree(neighbour / "tree")
        case "manifest gone":
            (room.layout.manifests / digest).unlink()
        case "manifest damaged":
            (room.layout.manifests / digest).write_bytes(b"{}")
        case _:
            (room.layout.partials / "what is this").mkdir()
            (room.layout.partials / "a file").write_bytes(b"?")
    async with room.manager() as manager:
        await manager.pull(_B)
    require_sound(room.base, {_B: _OTHER})
    expected = {"list lies": 3, "foreign": 2}.get(harm, 4)
    assert server.count("chunk") == expected


async def test_a_model_that_lost_its_manifest_is_no_source(room: Room, server: FaultyRegistry) -> None:
    """Without its manifest nobody knows where a model's chunks lie; it is passed over."""
    room.publish({_A: _SHARED, _B: _OTHER})
    async with room.manager() as manager:
        await manager.pull(_A)
        shutil.rmtree(room.dir(_A) / ".xprim")
        pulled = await manager.pull(_B)
    assert pulled.receipt.chunks_network == 4
