"""Going back: by rename, offline, and to be undone; what is refused, and that nothing is lost on the way."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from xprim_nb.cache.renewal.backups import superseded
from xprim_nb.cache.renewal.values import Backup
from xprim_nb.errors import InvalidRefError, NotInstalledError, StorageError
from xprim_nb.events import Event, RolledBack
from xprim_nb.manager import Manager
from xprim_nb.refs import ModelRef

from ..rooms import Room, blocks, listing, require_sound
from .cases import MERGED, MINE, NEW, OLD, REF, edit, installed_and_edited


async def _refreshed(room: Room, manager: Manager) -> Backup:
    """The user's first version is a backup, the merged second one in place."""
    await installed_and_edited(room, manager)
    done = await manager.refresh(REF)
    assert done.backup is not None
    return done.backup


@pytest.fixture
def first() -> dict[str, bytes]:
    """The first version as the user had it."""
    lost = ("lost-same", "lost-updated", "lost-removed")
    return {path: data for path, data in {**OLD, **MINE}.items() if path not in lost}


@pytest.mark.disable_socket
async def test_back_and_forth_without_a_network(room: Room, first: dict[str, bytes]) -> None:
    """Sockets blocked: back to the old version, its files the same inodes, and forward again; nothing is copied."""
    heard: list[Event] = []
    async with room.manager() as manager:
        backup = await _refreshed(room, manager)
        inode = (backup.tree / "same").stat().st_ino
        room.made.root.rename(room.root / "registry is gone")
        manager.events.subscribe(heard.append)
        plan = await manager.plan_rollback(REF)
        assert room.files(REF) == MERGED
        assert (plan.backup, plan.problems) == (backup, ())
        assert set(plan.changed) == {"kept.json", "both.json", "dropped.json", "notes/todo.md", "added-twice"}
        done = await manager.rollback(REF)
        assert room.files(REF) == first
        assert (room.dir(REF) / "same").stat().st_ino == inode
        assert done.model.manifest_hash == backup.manifest_hash
        (made,) = await manager.backups(REF)
        assert (made, made.reason) == (done.backup, "rollback")
        forth = await manager.rollback(REF)
        assert room.files(REF) == MERGED
        assert forth.restored_from == made
        (left,) = await manager.backups(REF)
        assert left.manifest_hash == backup.manifest_hash
        (model,) = await manager.list_installed()
    assert model.manifest_hash == forth.model.manifest_hash
    assert [event.manifest_hash for event in heard if isinstance(event, RolledBack)] == [
        backup.manifest_hash,
        model.manifest_hash,
    ]
    assert any("roll back again" in each for each in done.sentences)
    assert list(room.layout.intents.glob("*")) == list(room.layout.trash.glob("*")) == []


async def test_a_removed_version_comes_back(room: Room, first: dict[str, bytes]) -> None:
    """After `remove` the backup is still there: it is put back under its name; what was removed is in `kept`."""
    async with room.manager() as manager:
        await _refreshed(room, manager)
        removed = await manager.remove(REF)
        assert removed.kept is not None
        assert {data for data in listing(removed.kept).values() if data is not None} == {
            data for path, data in MINE.items() if path != "equal.json"
        }
        done = await manager.rollback(REF)
        assert (done.backup, [str(model.ref) for model in await manager.list_installed()]) == (None, [REF])
        assert await manager.backups() == []
    assert room.files(REF) == first


async def test_force_pull_and_update_after_a_refresh_lose_nothing(room: Room) -> None:
    """Both give the published bytes; what was carried over is put aside, what a refresh wrote itself is not."""
    mine = {data for path, data in MINE.items() if path != "equal.json"}
    async with room.manager() as manager:
        await _refreshed(room, manager)
        assert (await manager.pull(REF)).status == "already_installed"
        assert room.files(REF) == MERGED
        forced = await manager.pull(REF, force=True)
        require_sound(room.base, {REF: NEW})
        assert forced.receipt.kept is not None
        assert {data for data in listing(forced.receipt.kept).values() if data is not None} == mine
        await manager.rollback(REF)
        updated = await manager.pull(REF)
        assert (updated.status, room.files(REF)) == ("updated", NEW)
        assert updated.receipt.kept is not None
        assert {data for data in listing(updated.receipt.kept).values() if data is not None} >= mine


@pytest.mark.parametrize("what", ["weights", "missing", "manifest", "newer"])
async def test_a_damaged_backup_is_refused(room: Room, what: str) -> None:
    """The sentence names the file; what is in place stays, and so does the backup. Force puts mendable ones back."""
    async with room.manager() as manager:
        backup = await _refreshed(room, manager)
        target = backup.tree / "deep/er/weights.bin"
        match what:
            case "weights":
                target.write_bytes(b"?" + target.read_bytes()[1:])
            case "missing":
                target.unlink()
            case "manifest":
                (backup.tree / ".xprim" / "manifest.json").write_bytes(b"{")
            case _:
                facts = json.loads((backup.path / "backup.json").read_bytes())
                (backup.path / "backup.json").write_text(json.dumps({**facts, "schema_version": 2}))
        before = listing(room.base / "cache" / "backup"), room.files(REF)
        plan = await manager.plan_rollback(REF)
        named = {"manifest": "is damaged", "newer": "newer version"}.get(what, "weights.bin")
        assert any(named in each for each in plan.problems)
        assert named in str(plan)
        with pytest.raises(StorageError, match=named):
            await manager.rollback(REF)
        assert (listing(room.base / "cache" / "backup"), room.files(REF)) == before
        if what in ("manifest", "newer"):
            with pytest.raises(StorageError, match=named):
                await manager.rollback(REF, force=True)
        else:
            done = await manager.rollback(REF, force=True)
            assert done.model.manifest_hash == backup.manifest_hash


async def test_the_newest_sound_backup_is_the_one(room: Room) -> None:
    """A newer one that cannot be put back is passed over; any can be asked for by id or digest."""
    async with room.manager() as manager:
        first = await _refreshed(room, manager)
        room.publish({REF: OLD})
        second = (await manager.refresh(REF)).backup
        assert second is not None
        (second.tree / ".xprim" / "manifest.json").unlink()
        assert (await manager.plan_rollback(REF)).backup == first
        assert (await manager.plan_rollback(REF, first.manifest_hash[:8])).backup == first
        assert (await manager.plan_rollback(REF, second.id)).problems
        with pytest.raises(NotInstalledError, match="no backup nothing"):
            await manager.rollback(REF, "nothing")
        assert [each.id for each in await manager.backups()] == [first.id, second.id]


async def test_facts_that_are_lost_are_read_from_the_tree(room: Room) -> None:
    """Without `backup.json`, or with half of one, the backup is listed and put back all the same."""
    async with room.manager() as manager:
        backup = await _refreshed(room, manager)
        for harm in (Path.unlink, lambda path: path.write_bytes(b'{"schema_ver')):
            harm(backup.path / "backup.json")
            (found,) = await manager.backups(REF)
            assert (found.manifest_hash, found.problem) == (backup.manifest_hash, "")
        done = await manager.rollback(REF, force=True)
    assert done.model.manifest_hash == backup.manifest_hash


async def test_what_lost_its_name_or_manifest_is_not_lost(room: Room) -> None:
    """What lies in the version's place without being listed, or without a manifest, becomes a backup too."""
    async with room.manager() as manager:
        await _refreshed(room, manager)
        (room.dir(REF) / ".xprim" / "manifest.json").unlink()
        done = await manager.rollback(REF)
        assert done.backup is not None
        kept = {path: data for path, data in listing(done.backup.tree).items() if path in MERGED}
        assert kept == MERGED


@pytest.mark.parametrize("receipt", ["there", "gone"])
async def test_what_the_original_client_installed_can_be_put_back(room: Room, receipt: str) -> None:
    """A tree without a receipt, and an entry with another digest than the manifest's: both come back as they were."""
    old, new = {"a": blocks(1), "b": b"b"}, {"a": blocks(2), "b": b"b"}
    room.publish({REF: old})
    async with room.manager() as manager:
        await manager.pull(REF)
        manifest = room.dir(REF) / ".xprim" / "manifest.json"
        if receipt == "gone":
            (room.dir(REF) / ".xprim" / "receipt.json").unlink()
        manifest.write_bytes(json.dumps(json.loads(manifest.read_bytes()), indent=4).encode())
        listed = room.registry_json["group"]["model"]["v1"]["manifest_hash"]
        room.publish({REF: new})
        await manager.refresh(REF)
        assert room.files(REF) == new
        await manager.rollback(REF)
        assert room.files(REF) == old
        assert room.registry_json["group"]["model"]["v1"]["manifest_hash"] == listed
        await manager.rollback(REF)
    assert room.files(REF) == new


async def test_a_pin_and_strange_keys_outlive_refresh_and_rollback(room: Room) -> None:
    """What else the entry in `registry.json` says is the user's: it stays through both."""
    async with room.manager() as manager:
        await installed_and_edited(room, manager)
        document = room.registry_json
        document["group"]["model"]["v1"]["pinned"] = {"at": "now", "reason": "mine"}
        (room.base / "registry.json").write_text(json.dumps(document))
        for verb in (manager.refresh, manager.rollback):
            await verb(REF)
            assert room.registry_json["group"]["model"]["v1"]["pinned"]["reason"] == "mine"


async def test_dropping_backups_keeps_what_nobody_else_has(room: Room, first: dict[str, bytes]) -> None:
    """By default all but the newest go; a user's files that lie in the installed version are not put aside again."""
    async with room.manager() as manager:
        await _refreshed(room, manager)
        (room.dir(REF) / "kept.json").write_bytes(b"changed again")
        room.publish({REF: {**NEW, "updated": blocks("u3")}})
        await manager.refresh(REF)
        oldest, newest = await manager.backups(REF)
        plan = await manager.plan_drop_backup(REF)
        assert (plan.backups, oldest.id in str(plan)) == ((oldest,), True)
        (dropped,) = await manager.drop_backup(REF)
        assert await manager.drop_backup(REF) == ()
        assert [each.id for each in await manager.backups(REF)] == [newest.id]
        assert dropped.backup == oldest
        assert dropped.kept is not None
        kept = {path: data for path, data in listing(dropped.kept).items() if data is not None}
        assert kept == {"kept.json": MINE["kept.json"]}
        await manager.drop_backup(REF, newest.id)
        assert not (room.base / "cache" / "backup" / "group").exists()
        with pytest.raises(NotInstalledError, match="no backup"):
            await manager.rollback(REF)
        with pytest.raises(NotInstalledError, match="no backup"):
            await manager.drop_backup(REF, newest.id)
    assert list(room.layout.trash.glob("*")) == []


async def test_backups_belong_to_versions(room: Room) -> None:
    """A whole model has none, and another version's are not this one's."""
    other = "group/model latest"
    room.publish({REF: OLD, "group/model v2": NEW}, alias={other: "v1"})
    async with room.manager() as manager:
        await manager.pull(REF)
        await manager.pull(other)
        edit(room, other)
        room.publish({}, alias={other: "v2"})
        await manager.refresh(other)
        assert [str(each.ref) for each in await manager.backups()] == [other]
        assert await manager.backups(REF) == []
        with pytest.raises(NotInstalledError):
            await manager.rollback(REF)
        with pytest.raises(InvalidRefError):
            await manager.backups("group/model")
    assert (room.files(REF), room.files(other)) == (OLD, MERGED)


def _backup(id_: str, version: str = "v1", problem: str = "") -> Backup:
    ref = ModelRef("group", "model", version)
    return Backup(ref, id_, "0" * 64, datetime.now(UTC), "refresh", "", 1, 1, Path(id_), problem=problem)


def test_the_newest_of_each_version_is_not_superseded() -> None:
    """Pure: each version keeps its newest; one that cannot be put back neither counts nor goes."""
    known = [_backup("3"), _backup("1"), _backup("4", problem="x"), _backup("2"), _backup("1", "v2")]
    for keep, gone in ((1, ["1", "2"]), (2, ["1"]), (9, [])):
        assert [each.id for each in superseded(known, keep)] == gone
    assert len(superseded(known, 0)) == 4


def test_a_whole_backup_is_never_superseded_by_a_damaged_one() -> None:
    """What was damaged when it was put aside makes nothing dispensable."""
    known = [_backup("1"), _backup("2"), replace(_backup("3"), damage=("a.bin",))]
    assert [each.id for each in superseded(known)] == ["1"]
