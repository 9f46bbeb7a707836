"""Archives: a model comes back byte for byte, with what somebody changed in it, and with no network at all."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import pytest_socket

from xprim_nb.cache.kept import changed_files
from xprim_nb.cache.upkeep import restoring
from xprim_nb.cache.upkeep.cleanup import CleanupPolicy
from xprim_nb.errors import (
    MissingExtraError,
    NetworkError,
    NotInstalledError,
    OfflineError,
    StorageError,
)
from xprim_nb.testing.faulty_registry import FaultyRegistry

from ..rooms import CHUNK, Room, blocks, listing, require_sound
from .disk import age, disk_usage, edit

_A, _B = "group/a v1", "group/b v1"
# Chunks span files: a changed small file takes the chunk of its neighbours along.
_FILES = {
    "w.bin": b"\0" * 20 * CHUNK + blocks(1, 2, 3)[:2500],
    "config.json": b"{}",
    "deep/notes": b"notes",
    "empty": b"",
}
_OTHER = {"w.bin": blocks("o", "p")}


def _contents(root: Path) -> dict[str, bytes | str | None]:
    """What a user sees in a model: everything but our own metadata."""
    return {name: data for name, data in listing(root).items() if not name.startswith(".xprim")}


async def test_a_model_comes_back_byte_for_byte(room: Room) -> None:
    """Archived, the model's directory and entry are gone and the archive is smaller; restored, all is as it was."""
    room.publish({_A: _FILES})
    async with room.manager() as manager:
        await manager.pull(_A)
        await manager.pin(_A, "for the demo")
        before = _contents(room.dir(_A))
        plan = await manager.plan_archive(_A)
        archived = await manager.archive(_A)
        assert (plan.local_files, archived.local_files) == ((), ())
        assert archived.model_bytes == sum(map(len, _FILES.values()))
        assert not (room.base / "group").exists()
        assert await manager.list_installed() == []
        assert [each.ref for each in await manager.archived()] == [archived.ref]
        assert "stored in" in str(archived)
        with pytest.raises(NotInstalledError):
            await manager.archive(_A)
        restored = await manager.restore(_A)
        assert _contents(restored.path) == before
        assert [str(each.ref) for each in await manager.pins()] == [_A]
        assert restored.receipt.bytes_network == 0
        assert restored.receipt.local_models == {f"archive of {_A}": restored.receipt.chunks_local}
        assert await manager.archived() == []
        assert not room.layout.archives.exists() or list(room.layout.archives.iterdir()) == []
    require_sound(room.base, {_A: _FILES})


async def test_zeros_take_no_room(disk_room: Room) -> None:
    """What compresses is stored in less: the sum on the disk falls, and the account of the archive says so."""
    room = disk_room
    room.publish({_A: {"w.bin": b"\0" * 3_000_000}}, chunk_size=1_000_000)
    async with room.manager() as manager:
        await manager.pull(_A)
        before = disk_usage(room.base)
        archived = await manager.archive(_A)
        assert disk_usage(room.base) < before - 2_900_000
        assert archived.stored_bytes < 50_000
        account = (await manager.accounts()).of(_A, "archive")
        assert account.total_bytes == pytest.approx(archived.stored_bytes, abs=8192)


def _edited(root: Path) -> None:
    edit(root / "config.json", b'{"mine": true}')


def _grown(root: Path) -> None:
    edit(root / "w.bin", _FILES["w.bin"][:21_500] + b"more" * 100)


def _deleted(root: Path) -> None:
    (root / "config.json").unlink()


def _added(root: Path) -> None:
    (root / "mine").mkdir()
    (root / "mine/notes.txt").write_bytes(b"mine")
    (root / "mine/link").symlink_to("notes.txt")


def _linked(root: Path) -> None:
    (root / "deep/notes").unlink()
    (root / "deep/notes").symlink_to("../config.json")


def _mode(root: Path) -> None:
    edit(root / "config.json", b"#!/bin/sh")
    (root / "config.json").chmod(0o750)
    os.utime(root / "config.json", ns=(10**18, 10**18))


@pytest.mark.parametrize("change", [_edited, _grown, _deleted, _added, _linked, _mode])
async def test_what_a_user_changed_comes_back_too_offline(
    room: Room, server: FaultyRegistry, change: object
) -> None:
    """Edited, grown, deleted, added and linked files are as they were, with sockets blocked; no change is forgotten."""
    room.publish({_A: _FILES})
    assert callable(change)
    async with room.manager() as manager:
        await manager.pull(_A)
        change(room.dir(_A))
        before = _contents(room.dir(_A))
        changed = changed_files(room.layout, room.dir(_A))
        archived = await manager.archive(_A)
        assert list(archived.local_files) == sorted(changed)
        assert list(room.layout.kept.rglob("*")) == []
    pytest_socket.disable_socket()
    try:
        async with room.manager(offline=True, registry_url="https://nowhere.example.org") as manager:
            plan = await manager.plan_restore(_A)
            restored = await manager.restore(_A)
    finally:
        pytest_socket.enable_socket()
    assert plan.pull.bytes_network == 0
    assert _contents(restored.path) == before
    assert changed_files(room.layout, restored.path) == changed
    if change is _mode:
        facts = (restored.path / "config.json").stat()
        assert (facts.st_mode & 0o777, facts.st_mtime_ns) == (0o750, 10**18)
    async with room.manager() as manager:  # and it is put aside, not deleted, with the model
        removed = await manager.remove(_A)
    kept = _contents(removed.kept) if removed.kept else {}
    assert {path for path, data in kept.items() if data is not None} == set(changed)


async def test_an_ordinary_pull_reads_the_archive_offline(room: Room, server: FaultyRegistry) -> None:
    """The ref resolves from `archive.json` when the registry cannot be asked; the spent archive goes."""
    room.publish({_A: _FILES, _B: _OTHER})
    async with room.manager() as manager:
        await manager.pull(_A)
        await manager.archive(_A)
    for path in room.layout.manifests.iterdir():
        path.unlink()
    for path in (room.layout.cache / "index").iterdir():
        path.unlink()
    async with room.manager(offline=True) as manager:
        assert (await manager.plan_pull(_A)).bytes_network == 0
        pulled = await manager.pull(_A)
        assert (pulled.receipt.bytes_network, pulled.checked) == (0, False)
        assert await manager.archived() == []
        with pytest.raises(OfflineError):
            await manager.pull(_B)
    require_sound(room.base, {_A: _FILES})


async def test_an_archive_serves_other_models_and_is_believed_no_more(
    room: Room, server: FaultyRegistry
) -> None:
    """A chunk of the archive serves another model's pull; a damaged, a swapped and an endless one cost a read."""
    shared = {"w.bin": blocks(1, 2, 3, 4), "x": b"tail"}
    other = {"v.bin": blocks(4, 3, 2, 1)}
    made = room.publish({_A: shared, _B: other})
    async with room.manager() as manager:
        await manager.pull(_A)
        archived = await manager.archive(_A)
        chunks = archived.path / "chunks"
        one, two, three = made.chunks(_A)[:3]
        (chunks / f"{one}.zst").write_bytes(b"damaged")
        (chunks / f"{two}.zst").write_bytes((chunks / f"{three}.zst").read_bytes())
        import zstandard

        (chunks / f"{three}.zst").write_bytes(zstandard.compress(b"\0" * 50_000_000))
        server.forget_requests()
        pulled = await manager.pull(_B)
    assert pulled.receipt.local_models == {f"archive of {_A}": 1}
    assert server.count("chunk") == 3
    assert room.files(_B) == other


async def test_a_damaged_archive_fails_to_restore_and_stays(room: Room, server: FaultyRegistry) -> None:
    """With one chunk damaged and nobody else to ask it stays an archive; online the chunk is fetched."""
    made = room.publish({_A: _FILES})
    async with room.manager() as manager:
        await manager.pull(_A)
        archived = await manager.archive(_A)
        (archived.path / "chunks" / f"{made.chunks(_A)[0]}.zst").write_bytes(b"x")
    async with room.manager(offline=True) as manager:
        with pytest.raises(NetworkError):
            await manager.restore(_A)
        assert len(await manager.archived()) == 1
    async with room.manager() as manager:
        server.forget_requests()
        restored = await manager.restore(_A)
    assert server.count("chunk") == 1
    assert restored.receipt.chunks_network == 1
    require_sound(room.base, {_A: _FILES})


async def test_a_damaged_kept_file_is_no_reason_to_lose_the_archive(room: Room) -> None:
    """When a changed file's copy is damaged the restore refuses, says so, and nothing has moved."""
    room.publish({_A: _FILES})
    async with room.manager() as manager:
        await manager.pull(_A)
        edit(room.dir(_A) / "config.json", b"mine")
        archived = await manager.archive(_A)
        for path in (archived.path / "local").iterdir():
            path.write_bytes(b"rotten")
        with pytest.raises(StorageError, match="damaged"):
            await manager.restore(_A)
        assert len(await manager.archived()) == 1
        assert await manager.list_installed() == []


async def test_removing_an_archive_puts_changed_files_aside(room: Room) -> None:
    """`remove_archive` deletes compressed chunks, and what somebody changed goes to `kept`."""
    room.publish({_A: _FILES})
    async with room.manager() as manager:
        await manager.pull(_A)
        edit(room.dir(_A) / "config.json", b"mine")
        (room.dir(_A) / "link").symlink_to("config.json")
        await manager.archive(_A)
        kept = await manager.remove_archive(_A)
        assert kept is not None
        assert listing(kept) == {"config.json": b"mine", "link": "config.json"}
        assert await manager.archived() == []
        with pytest.raises(NotInstalledError):
            await manager.remove_archive(_A)
        with pytest.raises(NotInstalledError):
            await manager.restore(_A)


async def test_an_archive_of_a_newer_program_is_left_alone(room: Room) -> None:
    """A newer `archive.json` is refused with a clear error, not listed, not cleaned up, not changed."""
    room.publish({_A: _FILES})
    async with room.manager() as manager:
        await manager.pull(_A)
        archived = await manager.archive(_A)
        path = archived.path / "archive.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 2}))
        before = listing(archived.path)
        with pytest.raises(StorageError, match="newer version"):
            await manager.restore(_A)
        assert await manager.archived() == []
        await manager.cleanup(CleanupPolicy(max_cache_size_gb=0, min_age_hours=0, partial_idle_hours=0))
        assert listing(archived.path) == before
        path.write_text("{not json")
        with pytest.raises(StorageError, match="damaged"):
            await manager.restore(_A)


async def test_without_the_extra_one_error_names_it(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `zstandard` is not installed, archiving and restoring say which extra it takes, and change nothing."""
    room.publish({_A: _FILES, _B: _OTHER})
    async with room.manager() as manager:
        await manager.pull(_A)
        await manager.pull(_B)
        await manager.archive(_B)
        monkeypatch.setitem(sys.modules, "zstandard", None)
        for work in (manager.archive(_A), manager.restore(_B)):
            with pytest.raises(MissingExtraError) as caught:
                await work
            assert "xprim-nb[archive]" in caught.value.hint
        assert (await manager.pull(_B)).receipt.chunks_network == 2
    require_sound(room.base, {_A: _FILES, _B: _OTHER})


async def test_clean_up_compresses_what_is_unused(room: Room) -> None:
    """With compression a clean-up archives unused models, and a second one has nothing more to do."""
    room.publish({_A: _FILES, _B: _OTHER})
    async with room.manager() as manager:
        await manager.pull(_A)
        await manager.pull(_B)
        age(room, _A, 100)
        policy = CleanupPolicy(unused_threshold_days=30, compression_enabled=True)
        result = await manager.cleanup(policy)
        assert result.archived_models == (_A,)
        assert result.removed_models == ()
        assert [str(each.ref) for each in await manager.archived()] == [_A]
        assert (await manager.restore(_A)).receipt.bytes_network == 0


async def test_a_wrong_chunk_is_never_archived_as_right(room: Room) -> None:
    """A silently damaged file is kept as it is; restored it is as damaged as it was, and still known as such."""
    room.publish({_A: _FILES})
    async with room.manager() as manager:
        await manager.pull(_A)
        path = room.dir(_A) / "w.bin"
        facts = path.stat()
        data = bytearray(path.read_bytes())
        data[5] ^= 255
        path.write_bytes(data)
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        archived = await manager.archive(_A)
        assert len(archived.document.missing) == 1
        restored = await manager.restore(_A)
        assert (restored.path / "w.bin").read_bytes() == bytes(data)
        await manager.pull(_A, force=True)
    require_sound(room.base, {_A: _FILES})


async def test_archiving_again_keeps_the_first_archives_files(room: Room) -> None:
    """Archived with an edit, pulled anew, archived again: the edit of the first archive is put aside, not forgotten."""
    room.publish({_A: _FILES})
    async with room.manager() as manager:
        await manager.pull(_A)
        edit(room.dir(_A) / "config.json", b"first")
        await manager.archive(_A)
        await manager.pull(_A)
        assert len(await manager.archived()) == 1  # it still holds the edit
        edit(room.dir(_A) / "notes.txt", b"second")
        archived = await manager.archive(_A)
        assert archived.local_files == ("notes.txt",)
        kept = {name: data for name, data in listing(room.layout.kept).items() if isinstance(data, bytes)}
        assert [(Path(name).name, data) for name, data in kept.items()] == [("config.json", b"first")]
        assert not [path for path in (archived.path / "local").iterdir() if path.read_bytes() == b"first"]
        restored = await manager.restore(_A)
        assert (restored.path / "notes.txt").read_bytes() == b"second"
        assert restored.local_files == ("notes.txt",)


async def test_a_model_that_is_read_is_not_archived(room: Room) -> None:
    """While somebody has it open, archiving refuses; the reader's files stay where they are."""
    room.publish({_A: _FILES})
    async with room.manager() as manager:
        await manager.pull(_A)
        with await manager.open_file(_A, "w.bin"), pytest.raises(StorageError, match="1 reader has"):
            await manager.archive(_A)
        require_sound(room.base, {_A: _FILES})
        await manager.archive(_A)


async def test_a_restore_that_was_killed_before_the_archive_went_is_finished(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is back and its archive still there: the next restore only lets the archive go."""
    room.publish({_A: _FILES})
    async with room.manager() as manager:
        await manager.pull(_A)
        edit(room.dir(_A) / "config.json", b"mine")
        await manager.archive(_A)

        def killed(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(restoring, "drop_archive", killed)
            with pytest.raises(KeyboardInterrupt):
                await manager.restore(_A)
        edit(room.dir(_A) / "config.json", b"mine, later")
        restored = await manager.restore(_A)
        assert restored.receipt.chunks_local == 0
        assert (restored.path / "config.json").read_bytes() == b"mine, later"
        assert await manager.archived() == []


async def test_archives_go_when_space_is_short_but_not_pinned_or_precious_ones(disk_room: Room) -> None:
    """Of three archives, one pinned and one with an edit, a clean-up takes the third; `du` falls by what was said."""
    room, third = disk_room, "third/c v1"
    room.publish({_A: _FILES, _B: _OTHER, third: {"w.bin": blocks(*range(20, 60))}})
    async with room.manager() as manager:
        for ref in (_A, _B, third):
            await manager.pull(ref)
        edit(room.dir(_A) / "config.json", b"mine")
        await manager.pin(_B, "for later")
        for ref in (_A, _B, third):
            await manager.archive(ref)
        plan = await manager.plan_cleanup(CleanupPolicy(max_cache_size_gb=0, min_age_hours=0))
        assert [each.name for each in plan.candidates] == [third]
        assert {(each.name, each.guard) for each in plan.spared} == {(_A, "changed"), (_B, "pinned")}
        assert plan.short_bytes > 0
        before = disk_usage(room.base)
        result = await manager.cleanup(plan)
        assert before - disk_usage(room.base) == plan.freed_bytes == result.freed_bytes
        assert [str(each.ref) for each in await manager.archived()] == [_A, _B]
