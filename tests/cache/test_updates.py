"""Never "up to date" without having asked."""

from __future__ import annotations

import pytest

from xprim_nb.errors import (
    ModelNotFoundError,
    NetworkError,
    NotInstalledError,
    OfflineError,
    VersionNotFoundError,
)
from xprim_nb.testing.faults import Status
from xprim_nb.testing.faulty_registry import FaultyRegistry

from .rooms import Room

_V1, _V2, _LATEST, _OTHER = "group/model v1", "group/model v2", "group/model latest", "other/model v1"


async def _installed(room: Room, *refs: str) -> None:
    room.publish({_V1: {"a": b"1"}, _V2: {"a": b"2"}, _OTHER: {"a": b"3"}}, alias={_LATEST: "v1"})
    async with room.manager() as manager:
        for ref in refs:
            await manager.pull(ref)


async def test_an_alias_that_moved_on_is_an_update(room: Room) -> None:
    """The check names both versions and both manifests; after the pull there is none."""
    await _installed(room, _LATEST, _V1)
    room.publish({}, alias={_LATEST: "v2"})
    async with room.manager() as manager:
        check = await manager.check_update(_LATEST)
        assert (check.available, check.installed_version, check.remote_version) == (True, "v1", "v2")
        assert (check.installed_hash, check.remote_hash) == (
            room.made.manifest_hash(_V1),
            room.made.manifest_hash(_V2),
        )
        assert not (await manager.check_update(_V1)).available
        await manager.pull(_LATEST)
        assert not (await manager.check_update(_LATEST)).available


async def test_all_are_asked_for_at_once(room: Room, server: FaultyRegistry) -> None:
    """One request for every installed version; a name limits it to one model, or one version."""
    await _installed(room, _LATEST, _V1, _OTHER)
    room.publish({_OTHER: {"a": b"4"}}, alias={_LATEST: "v2"})
    server.forget_requests()
    async with room.manager() as manager:
        checks = await manager.check_updates()
        assert server.count() == 1
        assert [(str(check.ref), check.available) for check in checks] == [
            (_LATEST, True),
            (_V1, False),
            (_OTHER, True),
        ]
        assert [str(check.ref) for check in await manager.check_updates("group/model")] == [_LATEST, _V1]
        assert [str(check.ref) for check in await manager.check_updates(_V1)] == [_V1]
        assert "rewritten" not in checks[0].notice
        assert "immutable version" in checks[2].notice


async def test_what_the_registry_dropped_is_left_out_and_said(room: Room) -> None:
    """A version no longer listed is no update: asked for by name it is an error, among all it is absent."""
    await _installed(room, _V1, _OTHER)
    index = room.made.index
    del index["other"]
    del index["group"]["model"]["v1"]
    del index["group"]["model"]["latest"]
    (room.made.root / "models.json").write_text(__import__("json").dumps(index))
    async with room.manager() as manager:
        assert await manager.check_updates() == []
        with pytest.raises(VersionNotFoundError):
            await manager.check_update(_V1)
        with pytest.raises(ModelNotFoundError):
            await manager.check_update(_OTHER)


@pytest.mark.parametrize("way", ["offline", "down", "503"])
async def test_who_could_not_ask_says_so(room: Room, server: FaultyRegistry, way: str) -> None:
    """Offline or unreachable, a cached index is no answer to this question."""
    await _installed(room, _V1)
    if way == "down":
        server.close()
    if way == "503":
        server.inject(Status(503), on="index", times=None)
    async with room.manager(offline=way == "offline") as manager:
        for question in (
            manager.check_update(_V1),
            manager.check_updates(),
            manager.check_updates("group/model"),
        ):
            with pytest.raises(OfflineError if way == "offline" else NetworkError):
                await question
        assert not (await manager.pull(_V1)).checked


async def test_what_is_not_installed_cannot_be_updated(room: Room, server: FaultyRegistry) -> None:
    """It is said without asking the registry."""
    room.publish({_V1: {"a": b"1"}})
    async with room.manager() as manager:
        for question in (
            manager.check_update(_V1),
            manager.check_updates("group/model"),
            manager.check_updates(_V1),
        ):
            with pytest.raises(NotInstalledError):
                await question
        assert server.count() == 0
        assert await manager.check_updates() == []
