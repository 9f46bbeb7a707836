"""Taking models away: the name and the directory together, and nobody else's."""

from __future__ import annotations

import asyncio

import pytest

from xprim_nb.errors import NotInstalledError
from xprim_nb.events import Event, EventHub, ModelRemoved
from xprim_nb.manager import Manager
from xprim_nb.testing.faulty_registry import FaultyRegistry

from .rooms import Room, blocks, listing, require_sound

_FILES = {
    "group/model v1": {"a": blocks(1)},
    "group/model v2": {"a": blocks(2)},
    "group/other v1": {"a": blocks(1), "deep/b": b"b"},
}


async def _installed(room: Room, manager: Manager) -> None:
    room.publish(_FILES)
    for ref in _FILES:
        await manager.pull(ref)


async def test_one_version_goes_the_others_stay(room: Room) -> None:
    """Its directory, its name and its empty parents go; the sum tells what that freed."""
    async with room.manager() as manager:
        await _installed(room, manager)
        removed = await manager.remove("group/other v1")
        assert (str(removed.ref), removed.bytes_freed, removed.kept) == ("group/other v1", 1001, None)
        rest = {ref: files for ref, files in _FILES.items() if ref != "group/other v1"}
        require_sound(room.base, rest)
        assert not (room.base / "group" / "other").exists()
        with pytest.raises(NotInstalledError):
            await manager.remove("group/other v1")
    assert [path.name for path in (room.base / "group").iterdir()] == ["model"]


async def test_every_version_of_a_model_goes(room: Room) -> None:
    """`remove_all` takes all versions of one model, and says so when there is none."""
    async with room.manager() as manager:
        await _installed(room, manager)
        removed = await manager.remove_all("group", "model")
        assert [str(each.ref) for each in removed] == ["group/model v1", "group/model v2"]
        require_sound(room.base, {"group/other v1": _FILES["group/other v1"]})
        with pytest.raises(NotInstalledError, match="group/model"):
            await manager.remove_all("group", "model")


async def test_the_last_one_leaves_an_empty_list(room: Room) -> None:
    """With the last model its group directory goes too; the list is empty and readable."""
    async with room.manager() as manager:
        await _installed(room, manager)
        for ref in _FILES:
            await manager.remove(ref)
        assert await manager.list_installed() == []
    assert sorted(path.name for path in room.base.iterdir() if path.is_dir()) == ["cache"]
    require_sound(room.base, {})


async def test_an_unknown_name_leaves_no_trace(room: Room) -> None:
    """Removing what was never there creates nothing, not even a lock."""
    async with room.manager() as manager:
        with pytest.raises(NotInstalledError):
            await manager.remove("group/model v1")
        with pytest.raises(NotInstalledError):
            await manager.remove_all("group", "model")
    assert not room.base.exists()


async def test_a_directory_deleted_by_hand_takes_its_name_along(room: Room) -> None:
    """The user was faster: removing succeeds, frees nothing, and the list follows."""
    async with room.manager() as manager:
        await _installed(room, manager)
        for path in sorted(room.dir("group/other v1").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        room.dir("group/other v1").rmdir()
        removed = await manager.remove("group/other v1")
    assert removed.bytes_freed == 0
    assert "other" not in room.registry_json["group"]


async def test_a_removal_waits_for_the_pull_of_the_same_version(room: Room, server: FaultyRegistry) -> None:
    """The lock lies outside what removal deletes: an update in progress completes, then the model goes."""
    async with room.manager() as first, room.manager() as second:
        await _installed(room, first)
        room.publish({"group/model v1": {"a": blocks(3)}})
        with server.hold(room.made.chunks("group/model v1")[0]) as gate:
            pulling = asyncio.create_task(first.pull("group/model v1"))
            await asyncio.to_thread(gate.wait_reached)
            removing = asyncio.create_task(second.remove("group/model v1"))
            await second.remove("group/model v2")
            assert not removing.done()
            assert room.files("group/model v1") == {"a": blocks(1)}
        assert (await pulling).status == "updated"
        await removing
    assert not room.dir("group/model v1").exists()
    require_sound(room.base, {"group/other v1": _FILES["group/other v1"]})


async def test_two_removals_of_one_version(room: Room) -> None:
    """Of two that come together, one removes and the other finds nothing."""
    async with room.manager() as first, room.manager() as second:
        await _installed(room, first)
        results = await asyncio.gather(
            *(each.remove("group/model v1") for each in (first, second, first)), return_exceptions=True
        )
    assert sorted(type(result).__name__ for result in results) == ["NotInstalledError"] * 2 + ["Removed"]


async def test_removals_are_announced(room: Room) -> None:
    """Each removal is an event, a failed one is none."""
    heard: list[Event] = []
    hub = EventHub()
    hub.subscribe(heard.append)
    async with Manager(room.config(), events=hub) as manager:
        await _installed(room, manager)
        await manager.remove_all("group", "model")
        with pytest.raises(NotInstalledError):
            await manager.remove("group/model v1")
    told = [str(event.ref) for event in heard if isinstance(event, ModelRemoved)]
    assert told == ["group/model v1", "group/model v2"]


async def test_read_only_files_go_too(room: Room) -> None:
    """Files and directories that a user protected are removed as asked."""
    async with room.manager() as manager:
        await _installed(room, manager)
        root = room.dir("group/other v1")
        for path in (root / "a", root / "deep" / "b", root / "deep", root):
            path.chmod(0o555)
        assert (await manager.remove("group/other v1")).kept is None
    assert listing(room.base / "cache" / "trash") == {}
