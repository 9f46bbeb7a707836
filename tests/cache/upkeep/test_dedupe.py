"""Equal files of different models share their blocks, and no edit, kill or lie is the worse for it."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from xprim_nb._files import PathLock
from xprim_nb.cache import reflink
from xprim_nb.cache.kept import changed_files
from xprim_nb.cache.upkeep import dedupe as dedupe_module
from xprim_nb.cache.upkeep.cleanup import CleanupPolicy
from xprim_nb.manager import Manager
from xprim_nb.refs import ModelRef
from xprim_nb.testing.registries import random_bytes

from ..mounts import loop_mounted
from ..rooms import Room, require_sound
from .disk import disk_usage, edit

# Longer than the background work of a small file system takes.
_GIVEN_BACK_S = 15.0
_A, _B = "group/a v1", "group/b v1"
_BIG = random_bytes("big", 200_000)
_FILES_A = {"w.bin": _BIG, "config.json": b'{"a": 1}'}
_FILES_B = {"deep/other.bin": _BIG, "config.json": b'{"b": 2}'}
_ALL = {_A: _FILES_A, _B: _FILES_B}


async def _pull(room: Room, manager: Manager, *, file_hashes: bool = True) -> None:
    room.publish(_ALL, file_hashes=file_hashes)
    await manager.pull(_A)
    await manager.pull(_B)


def _inode(room: Room, ref: str, path: str) -> int:
    return (room.dir(ref) / path).stat().st_ino


def _receipt_knows(room: Room, ref: str) -> bool:
    """True when every file looks as the receipt says, so that nothing need be hashed."""
    import orjson

    from xprim_nb.cache.kept import facts_of
    from xprim_nb.cache.store import read_manifest

    root = room.dir(ref)
    recorded = orjson.loads((root / ".xprim/receipt.json").read_bytes())["files"]
    return bool(recorded == facts_of(root, read_manifest(room.layout, root).manifest))


@pytest.mark.parametrize("file_hashes", [True, False])
async def test_hard_links_when_asked(disk_room: Room, file_hashes: bool) -> None:
    """Equal files, known by digest or by chunks, become one read-only file; `du` falls by it, and nothing looks changed."""
    room = disk_room
    async with room.manager() as manager:
        await _pull(room, manager, file_hashes=file_hashes)
        room.layout.trash.mkdir(parents=True, exist_ok=True)
        plan = await manager.plan_dedupe(hard_links=True)
        assert [(str(each.ref), each.path, each.source_path) for each in plan.shares] == [
            (_B, "deep/other.bin", "w.bin")
        ]
        before = disk_usage(room.base)
        done = await manager.dedupe(plan)
        assert before - disk_usage(room.base) == 200_704
        assert (done.size_bytes, done.skipped) == (200_000, ())
        assert _inode(room, _A, "w.bin") == _inode(room, _B, "deep/other.bin")
        assert not (room.dir(_A) / "w.bin").stat().st_mode & 0o222
        assert _receipt_knows(room, _A)
        assert _receipt_knows(room, _B)
        assert (await manager.plan_dedupe(hard_links=True)).shares == ()
        accounts = await manager.accounts()
        assert accounts.of(_A).shared_bytes == 200_704
        removed = await manager.remove(_A)
        assert removed.kept is None
    require_sound(room.base, {_B: _FILES_B})


async def test_an_edit_by_rename_touches_one_model_only(room: Room) -> None:
    """An editor that writes a new file changes its own model; the other is whole and still unchanged."""
    async with room.manager() as manager:
        await _pull(room, manager)
        await manager.dedupe(hard_links=True)
        edit(room.dir(_A) / "w.bin", b"mine")
        assert (room.dir(_B) / "deep/other.bin").read_bytes() == _BIG
        assert changed_files(room.layout, room.dir(_B)) == []
        assert changed_files(room.layout, room.dir(_A)) == ["w.bin"]
        await manager.pull(_A, force=True)
    require_sound(room.base, _ALL)


async def test_an_edit_in_place_is_noticed_in_both(room: Room) -> None:
    """Somebody makes the one file writable and writes into it: both models know, and a removal keeps it."""
    async with room.manager() as manager:
        await _pull(room, manager)
        await manager.dedupe(hard_links=True)
        path = room.dir(_A) / "w.bin"
        path.chmod(0o644)
        with path.open("r+b") as file:
            file.write(b"mine")
        assert changed_files(room.layout, room.dir(_A)) == ["w.bin"]
        assert changed_files(room.layout, room.dir(_B)) == ["deep/other.bin"]
        assert (await manager.remove(_B)).kept is not None


async def test_changed_and_small_files_are_never_shared(room: Room) -> None:
    """A changed file, a file changed between plan and deed, and a model somebody works on are left."""
    async with room.manager() as manager:
        await _pull(room, manager)
        plan = await manager.plan_dedupe(hard_links=True)
        lock = PathLock(room.layout.ref_lock(ModelRef.parse(_A)))
        assert lock.try_acquire()
        assert (await manager.dedupe(plan)).done == ()
        lock.release()
        edit(room.dir(_B) / "deep/other.bin", _BIG[:-1] + b"!")
        result = await manager.dedupe(plan)
        assert result.done == ()
        assert "changed" in result.skipped[0]
        assert (await manager.plan_dedupe(hard_links=True)).shares == ()
        assert (room.dir(_B) / "deep/other.bin").read_bytes() == _BIG[:-1] + b"!"


async def test_a_source_that_lies_is_not_shared(room: Room) -> None:
    """The source is damaged with its times as they were: the hash tells, and the right file stays."""
    async with room.manager() as manager:
        await _pull(room, manager)
        path = room.dir(_A) / "w.bin"
        facts = path.stat()
        with path.open("r+b") as file:
            file.write(b"rot")
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        result = await manager.dedupe(hard_links=True)
        assert result.done == ()
        assert (room.dir(_B) / "deep/other.bin").read_bytes() == _BIG
        assert list(room.layout.trash.iterdir()) == []


def _copying(source_fd: int, target_fd: int) -> bool:
    """What FICLONE does, on any file system."""
    os.pwrite(target_fd, os.pread(source_fd, os.fstat(source_fd).st_size, 0), 0)
    return True


async def test_reflinks_are_files_of_their_own(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system can, blocks are shared and the files stay writable and independent, times and mode kept."""
    async with room.manager() as manager:
        await _pull(room, manager)
        monkeypatch.setattr(dedupe_module, "clone_file", _copying)
        target = room.dir(_B) / "deep/other.bin"
        target.chmod(0o640)
        was = target.stat()
        result = await manager.dedupe()
        assert (result.method, len(result.done)) == ("reflink", 1)
        now = target.stat()
        assert now.st_ino != was.st_ino
        assert (now.st_mtime_ns, stat.S_IMODE(now.st_mode)) == (was.st_mtime_ns, 0o640)
        assert now.st_nlink == 1
        assert _receipt_knows(room, _B)
    require_sound(room.base, _ALL)


async def test_where_blocks_cannot_be_shared_nothing_happens(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system without reflinks is said, and no hard link is made unasked."""
    monkeypatch.setattr(dedupe_module, "clone_file", lambda source, target: False)
    async with room.manager() as manager:
        await _pull(room, manager)
        result = await manager.dedupe()
        assert result.done == ()
        assert "cannot share" in result.skipped[0]
        assert _inode(room, _A, "w.bin") != _inode(room, _B, "deep/other.bin")


async def test_clean_up_shares_when_the_policy_says_so(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """`deduplication_enabled` shares by reflink after the clean-up, never by hard link."""
    monkeypatch.setattr(dedupe_module, "clone_file", _copying)
    async with room.manager() as manager:
        await _pull(room, manager)
        before = _inode(room, _B, "deep/other.bin")
        await manager.cleanup(CleanupPolicy(deduplication_enabled=True))
        assert _inode(room, _B, "deep/other.bin") not in (before, _inode(room, _A, "w.bin"))


def _free(point: Path) -> int:
    found = os.statvfs(point)
    return found.f_bfree * found.f_frsize


async def test_a_real_file_system_shares_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On XFS the pull is kept from sharing, the dedupe shares, and the disk has that much more room."""
    with loop_mounted(tmp_path, "xfs", 400 << 20) as point:
        room = Room.at(point)
        big = random_bytes("real", 20 << 20)
        room.publish({_A: {"w": big}, _B: {"v": big}}, chunk_size=4 << 20, file_hashes=True)
        async with room.manager() as manager:
            with monkeypatch.context() as patch:
                patch.setattr(reflink, "clone_file", lambda source, target: False)
                await manager.pull(_A)
                await manager.pull(_B)
            os.sync()
            free = _free(point)
            assert len((await manager.dedupe()).done) == 1
            deadline = time.monotonic() + _GIVEN_BACK_S
            while (gained := _free(point) - free) <= 19 << 20 and time.monotonic() < deadline:
                os.sync()  # XFS gives the blocks of a deleted file back in the background
            assert gained > 19 << 20
        require_sound(room.base, {_A: {"w": big}, _B: {"v": big}})
