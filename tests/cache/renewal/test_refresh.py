"""A refresh end to end, over HTTP: what becomes of each file, and what it costs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xprim_nb.cache.renewal.strategy import UpdatePolicy, UpdateStrategy
from xprim_nb.events import Event, ModelInstalled, ModelRefreshed
from xprim_nb.testing.faulty_registry import FaultyRegistry

from ..rooms import CHUNK, Room, blocks, listing, require_sound
from .cases import MERGED, MINE, NEW, OLD, REF, edit, installed_and_edited, policy, receipt, write


@pytest.mark.parametrize("hashes", [False, True])
async def test_every_case_in_one_refresh(room: Room, server: FaultyRegistry, hashes: bool) -> None:
    """The plan, the result, the files and the receipt agree; the old version is the backup, every byte of it."""
    heard: list[Event] = []
    async with room.manager() as manager:
        await installed_and_edited(room, manager, hashes=hashes)
        manager.events.subscribe(heard.append)
        before = room.files(REF)
        inode = (room.dir(REF) / "same").stat().st_ino
        plan = await manager.plan_refresh(REF)
        assert room.files(REF) == before
        done = await manager.refresh(REF)
        again = await manager.refresh(REF)
        (backup,) = await manager.backups(REF)
    assert room.files(REF) == MERGED
    assert (done.status, done.success, done.rollback_available) == ("refreshed", True, True)
    assert set(done.updated_files) == {
        "updated", "lost-same", "lost-updated", "equal.json", "deep/er/weights.bin", "new",
    }  # fmt: skip
    assert done.removed_files == ("removed",)
    assert set(done.kept) == set(MINE) - {"equal.json"}
    conflicts = {each.path: each.upstream_path for each in done.conflicts}
    assert conflicts == {
        "both.json": "both.json.upstream",
        "added-twice": "added-twice.upstream",
        "dropped.json": "",
    }
    assert {each.path for each in plan.conflicts} >= set(conflicts)
    planned = {each.path: each.action for each in plan.files}
    assert planned["kept.json"] == "kept"
    assert planned["lost-same"] == planned["lost-updated"] == "restored"
    assert planned["removed"] == "removed"
    assert plan.pull is not None
    assert plan.pull.bytes_network == server.bytes_sent("chunk") - sum(map(len, OLD.values()))
    kinds = {path: facts["kind"] for path, facts in receipt(room)["local"].items()}
    assert kinds == {
        "kept.json": "kept",
        "both.json": "conflict",
        "both.json.upstream": "upstream",
        "dropped.json": "conflict",
        "notes/todo.md": "added",
        "added-twice": "conflict",
        "added-twice.upstream": "upstream",
    }
    assert set(receipt(room)["files"]).isdisjoint(kinds)
    assert backup == done.backup
    tree = {path: data for path, data in listing(backup.tree).items() if isinstance(data, bytes)}
    assert {path: data for path, data in tree.items() if not path.startswith(".xprim/")} == before
    assert (backup.tree / "same").stat().st_ino == inode, "the backup is a copy"
    assert (again.status, again.backup) == ("already_current", None)
    assert any("lost-same" in sentence and "renewed" in sentence for sentence in done.sentences)
    news = [event for event in heard if isinstance(event, ModelInstalled | ModelRefreshed)]
    assert [type(event) for event in news] == [ModelInstalled, ModelRefreshed]
    assert list(room.layout.intents.glob("*")) == list(room.layout.partials.glob("*")) == []


async def test_a_delta_is_all_that_is_fetched(room: Room, server: FaultyRegistry) -> None:
    """One chunk of ten changed: one is fetched; with `incremental_updates=False` all of them are."""
    old, new = {"w.bin": blocks(*range(10))}, {"w.bin": blocks(*range(9), "x")}
    room.publish({REF: old})
    async with room.manager() as manager:
        await manager.pull(REF)
        room.publish({REF: new})
        server.forget_requests()
        done = await manager.refresh(REF)
        assert server.bytes_sent("chunk") == CHUNK == done.receipt.bytes_network
        assert done.receipt.bytes_local == 9 * CHUNK
        room.publish({REF: old})
        server.forget_requests()
        done = await manager.refresh(REF, policy(incremental_updates=False))
    assert server.bytes_sent("chunk") == 10 * CHUNK == done.receipt.bytes_network
    require_sound(room.base, {REF: old})


@pytest.mark.parametrize("mine", [b"my own words", b"m" * 3 * CHUNK])
async def test_nothing_is_fetched_for_a_file_that_stays_the_users(
    room: Room, server: FaultyRegistry, mine: bytes
) -> None:
    """The plan and the refresh fetch what changed; a later pull of the same bytes under another name fetches the rest."""
    kept = blocks(1, 2, 3)
    old, new = {"notes.txt": kept, "w.bin": blocks(7, 8)}, {"notes.txt": kept, "w.bin": blocks(7, 9)}
    room.publish({REF: old})
    async with room.manager() as manager:
        await manager.pull(REF)
        (room.dir(REF) / "notes.txt").write_bytes(mine)
        room.publish({REF: new, "group/other v1": new})
        server.forget_requests()
        plan = await manager.plan_refresh(REF)
        assert plan.pull is not None
        assert (plan.pull.chunks_network, plan.pull.bytes_network) == (1, CHUNK)
        done = await manager.refresh(REF)
        assert (done.status, done.kept, done.conflicts) == ("refreshed", ("notes.txt",), ())
        assert server.bytes_sent("chunk") == CHUNK == done.receipt.bytes_network
        assert room.files(REF) == {**new, "notes.txt": mine}
        report = await manager.validate(REF, "full")
        assert (report.overall_status, report.modified_files) == ("healthy", ("notes.txt",))
        await manager.pull("group/other v1")
        assert room.files("group/other v1") == new
        back = await manager.rollback(REF)
        assert back.model.manifest_hash != done.model.manifest_hash
        assert room.files(REF) == {**old, "notes.txt": mine}
        assert (await manager.repair(REF, overwrite_modified=True)).success
        assert room.files(REF) == old


async def test_an_alias_is_refreshed_to_what_it_means_now(room: Room, server: FaultyRegistry) -> None:
    """`latest` moves on: the entry names the new version, the backup remembers the old one."""
    latest = "group/model latest"
    room.publish({REF: OLD, "group/model v2": NEW}, alias={latest: "v1"})
    async with room.manager() as manager:
        await manager.pull(latest)
        edit(room, latest)
        room.publish({}, alias={latest: "v2"})
        done = await manager.refresh(latest)
    assert room.files(latest) == MERGED
    assert done.model.extra["resolved_version"] == "v2"
    assert done.backup is not None
    assert done.backup.extra["resolved_version"] == "v1"


async def test_a_current_version_is_left_alone_and_its_damage_is_told(
    room: Room, server: FaultyRegistry
) -> None:
    """Nothing is written, fetched or backed up; what is missing or damaged is named with the command that mends it."""
    room.publish({REF: OLD})
    async with room.manager() as manager:
        await manager.pull(REF)
        (room.dir(REF) / "same").unlink()
        weights = room.dir(REF) / "deep/er/weights.bin"
        weights.write_bytes(b"?" + OLD["deep/er/weights.bin"][1:])
        before = listing(room.dir(REF))
        server.forget_requests()
        plan, done = await manager.plan_refresh(REF), await manager.refresh(REF)
    assert (plan.status, done.status, done.success) == ("already_current", "already_current", True)
    assert listing(room.dir(REF)) == before
    assert server.count("chunk") == 0
    for told in (plan.sentences, done.sentences):
        assert any(
            "same" in each and "missing" in each and f"xprim cache repair {REF}" in each for each in told
        )
        assert any("weights.bin" in each and "damaged" in each for each in told)


async def test_damage_is_renewed_and_not_kept(room: Room, server: FaultyRegistry) -> None:
    """A file that nobody edits by hand, with one wrong chunk, and one whose times are as recorded, are not a user's."""
    room.publish({REF: OLD})
    async with room.manager() as manager:
        await manager.pull(REF)
        weights, silent = room.dir(REF) / "deep/er/weights.bin", room.dir(REF) / "kept.json"
        weights.write_bytes(b"?" + OLD["deep/er/weights.bin"][1:])
        times = silent.stat()
        silent.write_bytes(b"!" + OLD["kept.json"][1:])
        os.utime(silent, ns=(times.st_atime_ns, times.st_mtime_ns))
        room.publish({REF: NEW})
        done = await manager.refresh(REF)
    assert (done.kept, done.conflicts) == ((), ())
    require_sound(room.base, {REF: NEW})
    assert done.backup is not None
    assert (done.backup.tree / "kept.json").read_bytes().startswith(b"!")


async def test_without_preserving_the_users_files_stay_in_the_backup(
    room: Room, server: FaultyRegistry
) -> None:
    """`preserve_local_modifications=False`: the new version is as published, and the result says what is where."""
    async with room.manager() as manager:
        await installed_and_edited(room, manager)
        done = await manager.refresh(REF, policy(preserve_local_modifications=False))
    require_sound(room.base, {REF: NEW})
    assert set(done.set_aside) == set(MINE) - {"equal.json"}
    assert done.backup is not None
    for path in done.set_aside:
        assert (done.backup.tree / path).read_bytes() == MINE[path]
    assert any("Set aside" in each and done.backup.id in each for each in done.sentences)


@pytest.mark.parametrize("preserve", [True, False])
@pytest.mark.parametrize("validated", [True, False])
async def test_without_a_backup_no_byte_of_the_users_is_lost(
    room: Room, server: FaultyRegistry, preserve: bool, validated: bool
) -> None:
    """`backup_before_update=False`: the old version goes; what is the user's and not in the new one is put aside."""
    policy = UpdatePolicy(backup_before_update=False, preserve_local_modifications=preserve)
    async with room.manager() as manager:
        await installed_and_edited(room, manager)
        done = await manager.refresh(
            REF, UpdateStrategy(update_policy=policy, validation_after_update=validated)
        )
        assert await manager.backups(REF) == []
    assert (done.backup, done.rollback_available) == (None, False)
    assert room.files(REF) == (MERGED if preserve else NEW)
    kept = {} if done.kept_in is None else listing(done.kept_in)
    mine = {path: data for path, data in MINE.items() if path != "equal.json"}
    assert {path: data for path, data in kept.items() if data is not None} == ({} if preserve else mine)
    assert list(room.layout.trash.glob("*")) == []


async def test_user_files_that_cannot_lie_there_any_more(room: Room, server: FaultyRegistry) -> None:
    """A directory meets a file and a file a directory: both are set aside, and lie in the backup."""
    room.publish({REF: {"a": blocks(1), "keep": b"k"}})
    async with room.manager() as manager:
        await manager.pull(REF)
        write(room.dir(REF) / "b" / "mine", b"below what is a file now")
        (room.dir(REF) / "a").write_bytes(b"where a directory is now")
        new = {"a/x": blocks(2), "b": blocks(3), "keep": b"k"}
        room.publish({REF: new})
        done = await manager.refresh(REF)
        assert done.backup is not None
        assert set(done.set_aside) == {"a", "b/mine"}
        assert (done.backup.tree / "a").read_bytes() == b"where a directory is now"
        require_sound(room.base, {REF: new})
        (dropped,) = await manager.drop_backup(REF, done.backup.id)
    assert dropped.kept is not None
    assert set(listing(dropped.kept).values()) - {None} == {
        b"where a directory is now",
        b"below what is a file now",
    }


async def test_links_and_modes_of_a_user_are_carried(room: Room, server: FaultyRegistry) -> None:
    """A link stays a link, also one that leads nowhere; times and mode of a kept file stay."""
    room.publish({REF: OLD})
    async with room.manager() as manager:
        await manager.pull(REF)
        (room.dir(REF) / "link").symlink_to("/nowhere/at all")
        kept = room.dir(REF) / "kept.json"
        kept.write_bytes(b"mine")
        kept.chmod(0o440)
        os.utime(kept, ns=(10**18, 10**18))
        room.publish({REF: NEW})
        await manager.refresh(REF)
    assert (room.dir(REF) / "link").readlink() == Path("/nowhere/at all")
    found = (room.dir(REF) / "kept.json").stat()
    assert (found.st_mode & 0o777, found.st_mtime_ns) == (0o440, 10**18)


async def test_whether_upstream_changed_a_file_is_seen_in_its_bytes(
    room: Room, server: FaultyRegistry
) -> None:
    """Chunks cut elsewhere say nothing; the plan says it cannot know, the refresh looks, and the file is just kept."""
    old = {"w.bin": blocks(1, 2), "config.json": b'{"a": 1}' * 30, "tail.bin": blocks(3)}
    room.publish({REF: old})
    async with room.manager() as manager:
        await manager.pull(REF)
        (room.dir(REF) / "config.json").write_bytes(b"mine")
        room.publish({REF: {**old, "w.bin": blocks(1, 2, 9)[:2500]}})
        plan = await manager.plan_refresh(REF)
        done = await manager.refresh(REF)
    assert [(each.path, each.certain) for each in plan.conflicts] == [("config.json", False)]
    assert any("config.json" in each and "is known when" in each for each in plan.sentences)
    assert (done.kept, done.conflicts) == (("config.json",), ())


async def test_two_refreshes_in_a_row_keep_what_is_kept(room: Room, server: FaultyRegistry) -> None:
    """A kept file is kept again; a settled conflict leaves nothing behind; an open one is renewed."""
    first, second, third = (
        {"a.json": blocks(n), "b.json": blocks("b"), "w": blocks("w", n)} for n in (1, 2, 3)
    )
    room.publish({REF: first})
    async with room.manager() as manager:
        await manager.pull(REF)
        for name in ("a.json", "b.json"):
            (room.dir(REF) / name).write_bytes(b"mine " + name.encode())
        room.publish({REF: second})
        await manager.refresh(REF)
        room.publish({REF: third})
        done = await manager.refresh(REF)
        mine = {"a.json": b"mine a.json", "b.json": b"mine b.json"}
        assert room.files(REF) == {**third, **mine, "a.json.upstream": blocks(3)}
        assert set(done.kept) == {"a.json", "b.json"}
        (room.dir(REF) / "a.json").write_bytes(blocks(3))
        room.publish({REF: first})
        await manager.refresh(REF)
        assert room.files(REF) == {**first, "b.json": b"mine b.json"}
        assert len(await manager.backups(REF)) == 3
