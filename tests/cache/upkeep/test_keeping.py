"""Pins, usage, leases, open files, and why a path is there."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from xprim_nb.cache.upkeep.cleanup import CleanupPolicy
from xprim_nb.errors import InvalidRefError, NetworkError, NotInstalledError, StorageError
from xprim_nb.refs import ModelRef
from xprim_nb.testing.faults import Status
from xprim_nb.testing.faulty_registry import FaultyRegistry

from ..rooms import Room, blocks, listing
from .disk import age, edit

_A, _B = "group/a v1", "group/b v1"
_FILES = {"w.bin": blocks(1, 2, 3)[:2500], "config.json": b"{}", "empty": b""}
_OTHER = {"v.bin": blocks(7)}
_EVERYTHING = CleanupPolicy(max_cache_size_gb=0, min_age_hours=0, partial_idle_hours=0)


async def test_a_pin_outlives_the_database_and_an_update(room: Room) -> None:
    """A pin lies in `registry.json`: without `state.sqlite`, after a forced pull and in a new manager it still holds."""
    room.publish({_A: _FILES, _B: _OTHER})
    async with room.manager() as manager:
        await manager.pull(_A)
        pin = await manager.pin(_A, "my base model")
        assert str(pin) == f"{_A} is pinned: my base model"
    for path in room.base.glob("state.sqlite*"):
        path.unlink()
    async with room.manager() as manager:
        await manager.pull(_A, force=True)
        assert [each.reason for each in await manager.pins()] == ["my base model"]
        assert room.registry_json["group"]["a"]["v1"]["pinned"]["reason"] == "my base model"
        plan = await manager.plan_cleanup(_EVERYTHING)
        assert [(each.name, each.guard) for each in plan.spared] == [(_A, "pinned")]
        assert await manager.unpin(_A) is True
        assert await manager.unpin(_A) is False
        assert "pinned" not in room.registry_json["group"]["a"]["v1"]
        assert [each.name for each in (await manager.plan_cleanup(_EVERYTHING)).candidates] == [_A]
        with pytest.raises(NotInstalledError):
            await manager.pin(_B)
        with pytest.raises(InvalidRefError):
            await manager.pin("group/a")


@pytest.mark.parametrize(
    "harm", [lambda raw: raw[: len(raw) // 3], lambda raw: b"\x00\xff garbage", lambda raw: b""]
)
async def test_a_pin_outlives_a_damaged_list(room: Room, harm: Callable[[bytes], bytes]) -> None:
    """Torn, garbage or empty: the rebuilt list pins what was pinned and nothing else; the damaged file is set aside."""
    room.publish({_A: _FILES, _B: _OTHER})
    async with room.manager() as manager:
        for ref in (_A, _B):
            await manager.pull(ref)
            await manager.pin(ref, "for the thesis")
        await manager.unpin(_A)
        await manager.pull(_B, force=True)
        listed = room.base / "registry.json"
        damaged = harm(listed.read_bytes())
        listed.write_bytes(damaged)
        assert [str(pin) for pin in await manager.pins()] == [f"{_B} is pinned: for the thesis"]
        assert [each.name for each in (await manager.plan_cleanup(_EVERYTHING)).candidates] == [_A]
        await manager.pin(_A)
        (aside,) = room.base.glob("registry.json.damaged-*")
        assert aside.read_bytes() == damaged
        assert {str(pin.ref) for pin in await manager.pins()} == {_A, _B}
        listed.write_bytes(damaged)
        (room.dir(_A) / ".xprim" / "pin.json").write_bytes(b"{")
        assert {str(pin.ref) for pin in await manager.pins()} == {_A, _B}, "what cannot be read pins"


async def test_a_pin_of_an_older_version_is_read_from_what_is_left(room: Room) -> None:
    """A list without repetitions in the directories was torn behind its pin: that much is still there."""
    room.publish({_A: _FILES, _B: _OTHER})
    async with room.manager() as manager:
        await manager.pull(_A)
        await manager.pull(_B)
        await manager.pin(_A, "old")
        (room.dir(_A) / ".xprim" / "pin.json").unlink()
        listed = room.base / "registry.json"
        listed.write_bytes(listed.read_bytes()[:-30])
        assert [pin.reason for pin in await manager.pins()] == ["old"]


async def test_a_pin_stays_the_users_choice_through_refresh_and_rollback(room: Room) -> None:
    """The trees that come and go repeat what the list says, and never bring back an older choice."""
    room.publish({"group/a v2": _OTHER, _A: _FILES}, alias={"group/a latest": "v1"})
    ref = "group/a latest"
    async with room.manager() as manager:
        await manager.pull(ref)
        await manager.pin(ref, "mine")
        room.publish({}, alias={"group/a latest": "v2"})
        await manager.refresh(ref)
        repeated = room.dir(ref) / ".xprim" / "pin.json"
        assert json.loads(repeated.read_bytes())["reason"] == "mine"
        await manager.unpin(ref)
        assert not repeated.exists()
        await manager.rollback(ref)
        (room.base / "registry.json").write_bytes(b"{")
        assert await manager.pins() == []


async def test_a_refresh_takes_a_spent_archive_along(room: Room) -> None:
    """It goes when a refresh, or a pull with nothing to do, finds the version whole; not while it alone has right bytes."""
    newer = {**_FILES, "config.json": b'{"new": 1}'}
    room.publish({_A: _FILES, "group/a v2": newer}, alias={"group/a latest": "v1"})
    ref = "group/a latest"
    async with room.manager() as manager:
        await manager.pull(ref)
        await manager.archive(ref)
        room.publish({}, alias={"group/a latest": "v2"})
        await manager.pull(ref)
        assert len(await manager.archived()) == 1, "of another version"
        config = room.dir(ref) / "config.json"
        config.write_bytes(b"mine")
        room.publish({}, alias={"group/a latest": "v1"})
        assert (await manager.refresh(ref)).conflicts
        assert len(await manager.archived()) == 1, "the published file lies beside, under another name"
        assert (await manager.repair(ref, overwrite_modified=True)).success
        assert (await manager.pull(ref)).status == "already_installed"
        assert await manager.archived() == []
        config.with_name("config.json.upstream").unlink()
        await manager.archive(ref)
        room.publish({}, alias={"group/a latest": "v2"})
        await manager.pull(ref)
        room.publish({}, alias={"group/a latest": "v1"})
        assert (await manager.refresh(ref)).status == "refreshed"
        assert await manager.archived() == []


async def test_usage_is_counted_in_memory_and_written_in_batches(room: Room) -> None:
    """Opening files writes nothing; a batch, or the end, does; nobody's count is lost by another's."""
    room.publish({_A: _FILES})
    async with room.manager() as manager:
        await manager.pull(_A)
        before = listing(room.base)
        for _ in range(5):
            manager._usage.touch(ModelRef.parse(_A), 5_000_000_000.0)
        assert (await manager.usage())[_A].uses == 5
        assert {name: data for name, data in listing(room.base).items() if "state" not in name} == {
            name: data for name, data in before.items() if "state" not in name
        }
        async with room.manager() as other:
            assert _A not in await other.usage()
            with await other.lease(_A):
                pass
        due = [manager._usage.touch(ModelRef.parse(_A), 1.0) for _ in range(60)]
        assert due.index(True) == 58
    async with room.manager() as manager:
        used = (await manager.usage())[_A]
    assert (used.uses, used.last_used_at) == (66, 5_000_000_000.0)
    assert used.when.year == 2128


async def test_many_opens_are_written_down_in_the_background(room: Room) -> None:
    """After a batch of opened files the database has them, without the manager being closed."""
    room.publish({_A: _FILES})
    async with room.manager() as manager:
        await manager.pull(_A)
        for _ in range(70):
            (await manager.open_file(_A, "w.bin")).close()
        for writing in tuple(manager._flushing):
            await writing
        async with room.manager() as other:
            assert (await other.usage())[_A].uses >= 64


async def test_a_file_is_mapped_and_leased(room: Room) -> None:
    """A map shows the file's bytes, cannot be written, and keeps the model until it is closed."""
    room.publish({_A: _FILES})
    async with room.manager() as manager:
        await manager.pull(_A)
        age(room, _A, 100)
        with await manager.open_file(_A, "w.bin") as opened:
            view = opened.view
            assert bytes(view) == _FILES["w.bin"]
            assert view.readonly
            with pytest.raises(TypeError):
                view[0] = 1
            assert [each.guard for each in (await manager.plan_cleanup(_EVERYTHING)).spared] == ["leased"]
            assert "1 reader has it open" in str(await manager.why(opened.path))
            view.release()
        assert opened.closed
        opened.close()
        with pytest.raises(StorageError):
            opened.view  # noqa: B018  # reading it is the test
        assert [each.name for each in (await manager.plan_cleanup(_EVERYTHING)).candidates] == [_A]


async def test_a_map_that_somebody_still_looks_through_stays_readable(room: Room) -> None:
    """Closing while an array lives gives the lease back and leaves the array its bytes, the model removed or not."""
    room.publish({_A: _FILES})
    async with room.manager() as manager:
        await manager.pull(_A)
        opened = await manager.open_file(_A, "w.bin")
        view = opened.view
        opened.close()
        await manager.remove(_A)
        assert bytes(view) == _FILES["w.bin"]


async def test_a_plain_handle_and_an_empty_file(room: Room) -> None:
    """Without a map one gets a binary handle; an empty file has an empty view."""
    room.publish({_A: _FILES})
    async with room.manager() as manager:
        await manager.pull(_A)
        with await manager.open_file(_A, "config.json", mmap=False) as opened:
            assert opened.handle is not None
            assert opened.handle.read() == b"{}"
            assert "handle" in repr(opened)
        with await manager.open_file(_A, "empty") as opened:
            assert (opened.size_bytes, bytes(opened.view)) == (0, b"")


@pytest.mark.parametrize("path", ["nothing", "../b/v1/v.bin", "/etc/passwd", "", "w.bin/x", "C:/x"])
async def test_what_is_no_file_of_the_model_is_not_opened(room: Room, path: str) -> None:
    """Another path is an error that names the model's files; no lease is left behind."""
    room.publish({_A: _FILES, _B: _OTHER})
    async with room.manager() as manager:
        await manager.pull(_A)
        await manager.pull(_B)
        with pytest.raises(NotInstalledError) as caught:
            await manager.open_file(_A, path)
        assert "w.bin" in caught.value.hint
        assert list(room.layout.leases.rglob("*-*.lock")) == []


async def test_missing_models_and_odd_files_are_explained(room: Room) -> None:
    """A model that is not installed, a file that is gone, a directory and a pipe each have their own sentence."""
    room.publish({_A: _FILES})
    async with room.manager() as manager:
        with pytest.raises(NotInstalledError, match="not installed"):
            await manager.open_file(_A, "w.bin")
        assert not room.layout.leases.exists()
        await manager.pull(_A)
        (room.dir(_A) / "w.bin").unlink()
        with pytest.raises(NotInstalledError, match="gone from the disk") as caught:
            await manager.open_file(_A, "w.bin")
        assert "--force" in caught.value.hint
        (room.dir(_A) / "folder").mkdir()
        os.mkfifo(room.dir(_A) / "pipe")
        for name in ("folder", "pipe"):
            with pytest.raises(StorageError, match="no plain file"):
                await manager.open_file(_A, name)


async def test_leases_of_many_threads_and_of_a_closed_manager(room: Room) -> None:
    """Leases are counted one by one; what is still held when the manager closes is given back."""
    room.publish({_A: _FILES})
    async with room.manager() as manager:
        await manager.pull(_A)
        leases = manager._leases
        threads = [threading.Thread(target=leases.take, args=(ModelRef.parse(_A),)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        spared = (await manager.plan_cleanup(_EVERYTHING)).spared
        assert spared[0].reason == "8 readers have it open."
    async with room.manager() as manager:
        assert [each.name for each in (await manager.plan_cleanup(_EVERYTHING)).candidates] == [_A]


async def test_why_a_file_of_a_model_is_there(room: Room) -> None:
    """It names the model, the registry, the chunks with their offsets, when it was installed, and every guard."""
    room.publish({_A: _FILES, _B: _OTHER})
    async with room.manager() as manager:
        await manager.pull(_A)
        await manager.pull(_B)
        found = await manager.why(room.dir(_A) / "config.json")
        assert (found.kind, str(found.ref), found.file) == ("model", _A, "config.json")
        assert found.registry == str(room.made.root)
        assert [(each.number, each.file_offset, each.length) for each in found.chunks] == [(2, 0, 2)]
        whole = (await manager.why(str(room.dir(_A) / "w.bin"))).chunks
        assert [each.digest for each in whole] == room.made.chunks(_A)
        assert sum(each.length for each in whole) == 2500
        assert found.installed_at is not None
        assert "may when the model is unused" in str(found)
        await manager.pin(_A, "mine")
        manager._store.annotate(ModelRef.parse(_B), {"base_model": _A})
        told = str(await manager.why(room.dir(_A)))
        assert "It is pinned: mine" in told
        assert f"{_B} depends on it." in told
        edit(room.dir(_A) / "notes.txt", b"mine")
        assert "somebody added it" in str(await manager.why(room.dir(_A) / "notes.txt"))
        assert (await manager.why(room.dir(_A) / "empty")).chunks == ()


async def test_why_everything_else_is_there(
    room: Room, server: FaultyRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unfinished pulls, backups, archives, kept files, loose chunks, our own files, and places that are not ours."""
    made = room.publish({_A: _FILES, _B: _OTHER})
    async with room.manager(tries=1) as manager:
        rule = server.inject(Status(404), on=made.chunks(_A)[-1], times=None)
        with pytest.raises(NetworkError):
            await manager.pull(_A)
        assert rule.hits
        partial = next(room.layout.partials.iterdir())
        found = await manager.why(partial / "tree/w.bin")
        assert (found.kind, found.file, len(found.chunks)) == ("partial", "w.bin", 3)
        server.heal()
        await manager.pull(_A)
        await manager.pull(_B)
        edit(room.dir(_B) / "v.bin", b"mine")
        removed = await manager.remove(_B)
        assert removed.kept is not None
        kept = await manager.why(removed.kept / "v.bin")
        assert (kept.kind, str(kept.ref), kept.file) == ("kept", _B, "v.bin")
        assert "Nothing of ours ever removes it" in str(kept)
        edit(room.dir(_A) / "config.json", b"mine")
        archived = await manager.archive(_A)
        local = next(path for path in (archived.path / "local").iterdir() if path.read_bytes() == b"mine")
        found = await manager.why(local)
        assert (found.kind, found.file) == ("archive", "config.json")
        assert "last copy" in str(found)
        chunk = next((archived.path / "chunks").iterdir())
        assert (await manager.why(chunk)).chunks[0].digest == chunk.name.removesuffix(".zst")
        for path, kind in {
            room.layout.cache / "backup/group/a/v1/20200101T000000-aa/tree/w.bin": "backup",
            room.layout.chunks / ("0" * 64): "chunk",
            room.layout.manifests / ("0" * 64): "manifest",
            room.layout.trash / "x": "trash",
            room.layout.cache / "anything": "own",
            room.base / "registry.json": "own",
            room.base: "own",
            room.base / "info/group/a/metadata/x": "bundle",
            room.base / "group/none/v1/x": "unknown",
            room.root / "elsewhere": "unknown",
        }.items():
            answer = await manager.why(path)
            assert answer.kind == kind
            assert answer.kept_because
        monkeypatch.chdir(room.base)
        assert (await manager.why(Path("registry.json"))).kind == "own"


async def test_why_tells_when_it_was_verified(room: Room) -> None:
    """The check of the file itself counts, else that of its model; a deleted database is no error."""
    room.publish({_A: _FILES})
    async with room.manager() as manager:
        await manager.pull(_A)
        with manager._state.transaction() as connection:
            connection.execute(
                "INSERT INTO verdicts VALUES (?, 'h', 'healthy', 'full', 1000.0, 'none', 'low', '{}')", (_A,)
            )
        found = await manager.why(room.dir(_A) / "w.bin")
        assert found.verified_at is not None
        assert found.verified_at.timestamp() == 1000.0


async def test_a_damaged_pin_pins(room: Room) -> None:
    """Whatever stands under `pinned` and is not empty is a pin: a user's wish is not lost by a slip."""
    room.publish({_A: _FILES})
    async with room.manager() as manager:
        await manager.pull(_A)
    path = room.base / "registry.json"
    document = json.loads(path.read_text())
    document["group"]["a"]["v1"]["pinned"] = "yes"
    path.write_text(json.dumps(document))
    async with room.manager() as manager:
        assert [(each.guard) for each in (await manager.plan_cleanup(_EVERYTHING)).spared] == ["pinned"]
        assert (await manager.pins())[0].at is None
