"""Pruning takes what nobody will go on with, and nothing that anybody has to do with."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from xprim_nb.cache import install, kept
from xprim_nb.cache import prune as prune_module
from xprim_nb.cache.prune import prune
from xprim_nb.errors import NetworkError, StorageError
from xprim_nb.testing.faults import Status
from xprim_nb.testing.faulty_registry import FaultyRegistry

from .rooms import Room, blocks, listing, require_sound

_A, _B = "group/a v1", "group/b v1"
_FILES, _OTHER = {"w": blocks(1, 2, 3)}, {"w": blocks(4, 5)}


def _age(path: Path, seconds: float) -> None:
    """Let a file or a tree look as if nobody had touched it for so long."""
    then = time.time() - seconds
    for each in [path, *path.rglob("*")] if path.is_dir() else [path]:
        os.utime(each, (then, then), follow_symlinks=False)


async def _leave_unfinished(room: Room, server: FaultyRegistry, ref: str) -> Path:
    server.inject(Status(404), on=room.made.chunks(ref)[-1], times=None)
    async with room.manager(tries=1) as manager:
        with pytest.raises(NetworkError):
            await manager.pull(ref)
    server.heal()
    return room.layout.partials / room.made.manifest_hash(ref)


async def test_an_unfinished_pull_is_pruned_now(room: Room, server: FaultyRegistry) -> None:
    """`prune` tells what it removed and how much that was; the next pull begins anew."""
    room.publish({_A: _FILES})
    partial = await _leave_unfinished(room, server, _A)
    async with room.manager() as manager:
        pruned = await manager.prune()
        assert (pruned.partials, pruned.in_use) == ((partial.name,), ())
        assert pruned.bytes_freed >= 3000
        assert not partial.exists()
        assert (await manager.prune()).bytes_freed == 0
        server.forget_requests()
        await manager.pull(_A)
    assert server.count("chunk") == 3


async def test_one_unfinished_pull_is_discarded(room: Room, server: FaultyRegistry) -> None:
    """What was fetched of one version goes; what was fetched of another, and what is installed, stays."""
    room.publish({_A: _FILES, _B: _OTHER})
    first, second = [await _leave_unfinished(room, server, ref) for ref in (_A, _B)]
    async with room.manager() as manager:
        discarded = await manager.discard(_A)
        assert (discarded.partials, discarded.in_use) == ((first.name,), ())
        assert discarded.bytes_freed > 0
        assert not first.exists()
        assert second.exists()
        assert (await manager.discard(_A)).partials == ()
        assert (await manager.discard("group/unknown v1")).partials == ()
        await manager.pull(_B)
        assert (await manager.discard(_B)).partials == ()
    require_sound(room.base, {_B: _OTHER})


async def test_prune_does_not_believe_a_clock(room: Room, server: FaultyRegistry) -> None:
    """What is dated into the future (a clock set back, a file server ahead) is pruned now all the same."""
    room.publish({_A: _FILES})
    partial = await _leave_unfinished(room, server, _A)
    _age(partial, -3600)
    async with room.manager() as manager:
        assert (await manager.prune()).partials == (partial.name,)
    assert not partial.exists()


async def test_a_pull_takes_idle_leftovers_with_it(room: Room, server: FaultyRegistry) -> None:
    """After a pull, what was idle for longer than the setting goes, younger leftovers stay."""
    room.publish({_A: _FILES, _B: _OTHER})
    old, young = await _leave_unfinished(room, server, _A), room.layout.partials / ("f" * 64)
    young.mkdir()
    loose_old, loose_young = room.layout.chunks / ("a" * 64), room.layout.chunks / ("b" * 64)
    room.layout.chunks.mkdir()
    for path in (loose_old, loose_young):
        path.write_bytes(b"x")
    for path in (old, loose_old):
        _age(path, 25 * 3600)
    async with room.manager() as manager:
        await manager.pull(_B)
    assert [path.exists() for path in (old, young, loose_old, loose_young)] == [False, True, False, True]


async def test_a_pull_at_work_is_left_alone(room: Room, server: FaultyRegistry) -> None:
    """An unfinished pull that somebody works on is named, however old it looks, and completes."""
    room.publish({_A: _FILES})
    async with room.manager() as worker, room.manager() as other:
        with server.hold(room.made.chunks(_A)[-1]) as gate:
            pulling = asyncio.create_task(worker.pull(_A))
            await asyncio.to_thread(gate.wait_reached)
            _age(room.layout.partials, 1e6)
            pruned = await other.prune()
        assert (pruned.partials, pruned.in_use) == ((), (room.made.manifest_hash(_A),))
        await pulling
    require_sound(room.base, {_A: _FILES})


async def test_chunk_claims_of_killed_processes_are_litter(room: Room, server: FaultyRegistry) -> None:
    """Free claims go, held ones stay, and the locks of versions stay."""
    room.publish({_A: _FILES})
    locks = room.base / "cache" / "locks"
    async with room.manager() as worker, room.manager() as other:
        with server.hold("chunk") as gate:
            pulling = asyncio.create_task(worker.pull(_A, concurrency=3))
            await asyncio.to_thread(gate.wait_reached, 3)
            (locks / f"chunk-{'a' * 64}.lock").touch()
            await other.prune()
            claims = {path.name for path in locks.glob("chunk-*")}
        await pulling
    assert claims == {f"chunk-{digest}.lock" for digest in room.made.chunks(_A)}


@pytest.mark.parametrize("deed", ["update", "remove"])
async def test_what_an_interrupted_swap_needs_is_spared(
    room: Room, monkeypatch: pytest.MonkeyPatch, deed: str
) -> None:
    """A tree in the trash, and an unfinished pull, that an intent names survive even the pruning after a pull."""
    room.publish({_A: _FILES, _B: _OTHER})
    async with room.manager() as witness:
        await witness.pull(_A)
        (room.dir(_A) / "w").write_bytes(b"mine")
        room.publish({_A: {"w": b"new"}})

        class Killed(BaseException):
            pass

        def dying(*args: object) -> None:
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(install, "retire" if deed == "remove" else "move_dir", dying)
            async with room.manager() as victim:
                with pytest.raises(Killed):
                    await (victim.remove(_A) if deed == "remove" else victim.pull(_A))
        _age(room.base / "cache", 1e6)
        await witness.pull(_B)
    async with room.manager() as manager:
        await manager.prune()
    (found,) = (room.base / "cache" / "kept").rglob("w")
    assert found.read_bytes() == b"mine"
    require_sound(room.base, {_B: _OTHER} | ({_A: {"w": b"new"}} if deed == "update" else {}))


async def test_a_removal_that_begins_while_we_look_around_is_spared(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between reading the intents and the trash somebody moves a tree there: a user's files in it are not deleted."""
    room.publish({_A: _FILES})
    async with room.manager() as manager:
        await manager.pull(_A)
        (room.dir(_A) / "w").write_bytes(b"mine")
        real = prune_module._named_by_intents

        class Paused(Exception):
            pass

        def pause(*args: object) -> None:
            raise Paused

        def removal_begins(*args: object) -> set[str]:
            claimed = real(room.layout)
            with monkeypatch.context() as patch:
                patch.setattr(kept, "_put_aside", pause)
                with pytest.raises(Paused):
                    manager._installer.remove(manager._store.get(install.ModelRef.parse(_A)))
            return claimed

        monkeypatch.setattr(prune_module, "_named_by_intents", removal_begins)
        prune(room.layout)
        monkeypatch.undo()
        await manager.prune()
    assert [path.read_bytes() for path in (room.base / "cache" / "kept").rglob("w")] == [b"mine"]


async def test_temporary_files_of_killed_processes_go_when_they_are_old(room: Room) -> None:
    """Half-written files are deleted an hour later, wherever they lie; somebody may be writing the younger ones."""
    room.publish({_A: _FILES})
    async with room.manager() as manager:
        await manager.pull(_A)
        cache = room.base / "cache"
        folders = [room.base, cache / "intents", cache / "manifests", cache / "index", cache / "chunks"]
        for folder in folders:
            folder.mkdir(exist_ok=True)
            (folder / ".old.tmp").write_bytes(b"x")
            _age(folder / ".old.tmp", 3700)
            (folder / ".young.tmp").write_bytes(b"x")
        await manager.prune()
    assert [[path.name for path in folder.glob(".*.tmp")] for folder in folders] == [[".young.tmp"]] * 5


async def test_strange_things_among_the_leftovers_stop_nothing(room: Room) -> None:
    """Files, links and foreign directories where ours should be are pruned as what they are; links are not followed."""
    room.publish({_A: _FILES})
    outside = room.root / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "file").write_bytes(b"not ours")
    for folder in (room.layout.partials, room.layout.trash, room.layout.chunks):
        folder.mkdir(parents=True)
        (folder / "a file").write_bytes(b"x")
        (folder / "a link").symlink_to(outside)
        (folder / "nowhere").symlink_to("nowhere")
        (folder / "a folder" / "deep").mkdir(parents=True)
    async with room.manager() as manager:
        await manager.pull(_A)
        await manager.prune()
    for folder in (room.layout.partials, room.layout.trash, room.layout.chunks):
        assert list(folder.iterdir()) == []
    assert listing(outside) == {"deep": None, "deep/file": b"not ours"}
    require_sound(room.base, {_A: _FILES})


async def test_leftovers_that_cannot_be_pruned_do_not_fail_a_pull(
    room: Room, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The model is installed: that tidying up afterwards failed is a word in the log; `prune` itself says so aloud."""
    room.publish({_A: _FILES})
    room.layout.trash.mkdir(parents=True)
    (room.layout.trash / "stuck").mkdir()
    _age(room.layout.trash / "stuck", 1e6)

    def refuse(path: Path) -> None:
        raise StorageError(f"deleting failed, permission denied: {path}")

    monkeypatch.setattr(prune_module, "remove_tree", refuse)
    async with room.manager() as manager:
        assert (await manager.pull(_A)).status == "installed"
        assert "permission denied" in caplog.text
        with pytest.raises(StorageError, match="permission denied"):
            await manager.prune()


@pytest.mark.parametrize("nothing", ["no base", "no cache", "cache is a file"])
async def test_there_may_be_nothing_to_prune(room: Room, nothing: str) -> None:
    """An empty base is pruned without being created."""
    if nothing != "no base":
        room.base.mkdir()
    if nothing == "cache is a file":
        (room.base / "cache").write_bytes(b"?")
    before = listing(room.root)
    async with room.manager() as manager:
        assert await manager.prune() == prune_module.Pruned()
    assert listing(room.root) == before
