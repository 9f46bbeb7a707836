"""What is left when a refresh fails, and who hears of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xprim_nb.cache.health.report import ValidationReport
from xprim_nb.cache.health.validate import Validator
from xprim_nb.cache.renewal.strategy import UpdateStrategy
from xprim_nb.errors import ConfigError, InsufficientSpaceError, NetworkError, NotInstalledError
from xprim_nb.events import Event, ModelRefreshed, RolledBack
from xprim_nb.refs import ModelRef
from xprim_nb.testing.faults import Status
from xprim_nb.testing.faulty_registry import FaultyRegistry

from ..rooms import CHUNK, Room, listing
from .cases import MERGED, MINE, NEW, OLD, REF, installed_and_edited, policy


async def test_the_network_fails_in_the_middle(room: Room, server: FaultyRegistry) -> None:
    """The old version is whole, the user's files are in place, and the next refresh fetches only what is missing."""
    async with room.manager() as manager:
        await installed_and_edited(room, manager)
        before = listing(room.dir(REF))
        server.forget_requests()
        server.inject(Status(503), on="chunk", times=None, skip=3)
        with pytest.raises(NetworkError):
            await manager.refresh(REF, concurrency=1)
        assert listing(room.dir(REF)) == before
        assert await manager.backups(REF) == []
        good = {each.path for each in server.those("chunk") if each.bytes_sent == CHUNK}
        assert len(good) == 3
        server.heal()
        server.forget_requests()
        done = await manager.refresh(REF)
    assert good.isdisjoint(each.path for each in server.those("chunk"))
    assert done.receipt.bytes_present >= 3 * CHUNK
    assert room.files(REF) == MERGED


async def test_offline_nothing_is_guessed(room: Room, server: FaultyRegistry) -> None:
    """Nobody can be asked: the result says so, and that what is installed was not compared with anything."""
    async with room.manager() as manager:
        await installed_and_edited(room, manager)
        before = listing(room.dir(REF))
    async with room.manager(offline=True) as manager:
        done = await manager.refresh(REF)
    assert (done.status, done.checked) == ("already_current", False)
    assert any("could not be asked" in each for each in done.sentences)
    assert listing(room.dir(REF)) == before


async def test_a_version_that_is_not_installed_is_not_refreshed(room: Room, server: FaultyRegistry) -> None:
    """An error that says how to install it; nothing is fetched."""
    room.publish({REF: OLD})
    async with room.manager() as manager:
        for verb in (manager.plan_refresh, manager.refresh):
            with pytest.raises(NotInstalledError, match="not installed"):
                await verb(REF)
    assert server.count("chunk") == 0


def _spoil(room: Room) -> None:
    target = room.dir(REF) / "deep/er/weights.bin"
    target.write_bytes(b"?" + target.read_bytes()[1:])


@pytest.fixture
def spoiled(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is installed is damaged between its swap and its validation."""
    real = Validator.validate

    async def validate(self: Validator, ref: ModelRef, *args: Any) -> ValidationReport:
        _spoil(room)
        return await real(self, ref, *args)

    monkeypatch.setattr(Validator, "validate", validate)


@pytest.mark.usefixtures("spoiled")
@pytest.mark.parametrize("backup", [True, False])
async def test_a_wrong_new_version_is_taken_back(room: Room, server: FaultyRegistry, backup: bool) -> None:
    """Validation fails: the old version is in place, to the byte, the user's files in it; nothing else is left."""
    heard: list[Event] = []
    async with room.manager() as manager:
        await installed_and_edited(room, manager)
        manager.events.subscribe(heard.append)
        before, listed = room.files(REF), room.registry_json["group"]["model"]["v1"]["manifest_hash"]
        done = await manager.refresh(REF, policy(backup_before_update=backup))
        assert await manager.backups(REF) == []
        assert (await manager.list_installed())[0].manifest_hash == listed
    assert (done.status, done.success, done.rollback_available) == ("rolled_back", False, False)
    assert isinstance(done.validation_report, ValidationReport)
    assert done.validation_report.checks.file_integrity.corrupted_files == ("deep/er/weights.bin",)
    assert room.files(REF) == before
    assert [event.manifest_hash for event in heard if isinstance(event, RolledBack)] == [listed]
    assert not any(isinstance(event, ModelRefreshed) for event in heard)
    aside = [data for data in listing(room.base / "cache").values() if isinstance(data, bytes)]
    assert not [data for data in aside if data in MINE.values()], "copies of the user's files are left over"


@pytest.mark.usefixtures("spoiled")
async def test_a_wrong_new_version_stays_if_the_strategy_says_so(room: Room, server: FaultyRegistry) -> None:
    """`rollback_on_failure=False`: it is told, and the backup is there to go back to."""
    async with room.manager() as manager:
        await installed_and_edited(room, manager)
        before = room.files(REF)
        done = await manager.refresh(REF, policy(rollback_on_failure=False))
        assert (done.status, done.success, done.rollback_available) == ("failed", False, True)
        await manager.rollback(REF)
    assert room.files(REF) == before


@pytest.mark.parametrize("copies", ["gone", "there"])
async def test_a_damaged_manifest_costs_no_file(room: Room, server: FaultyRegistry, copies: str) -> None:
    """What was installed is asked of the cache or the registry; where nobody knows, each file may be the user's."""
    async with room.manager() as manager:
        await installed_and_edited(room, manager)
        (room.dir(REF) / ".xprim" / "manifest.json").write_bytes(b"{")
        if copies == "gone":
            listed = room.registry_json["group"]["model"]["v1"]["manifest_hash"]
            (room.layout.manifests / listed).unlink()
            room.made.object_path(listed).unlink()
        before = room.files(REF)
        done = await manager.refresh(REF)
    found = room.files(REF)
    if copies == "there":
        assert found == MERGED
    assert {path: found[path] for path in MINE if path != "equal.json"} == {
        path: before[path] for path in MINE if path != "equal.json"
    }
    assert done.backup is not None


async def test_a_disk_that_is_too_small_is_told_before_anything_is_written(
    room: Room, server: FaultyRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sum counts the user's files that are carried over."""
    async with room.manager() as manager:
        await installed_and_edited(room, manager)
        new = sum(map(len, NEW.values()))
        monkeypatch.setattr("xprim_nb.cache.pull.free_bytes", lambda path: new + 5)
        with pytest.raises(InsufficientSpaceError):
            await manager.refresh(REF)
        assert server.count("chunk") == len(OLD) + 5


@pytest.mark.parametrize("channel", ["pigeon", "webhook:", "webhook:ftp://x/y", "file:", "file"])
async def test_a_bad_channel_is_refused_before_anything_is_done(
    room: Room, server: FaultyRegistry, channel: str
) -> None:
    """The error names the setting; nothing has changed."""
    async with room.manager() as manager:
        await installed_and_edited(room, manager)
        before = listing(room.dir(REF))
        with pytest.raises(ConfigError) as caught:
            await manager.refresh(REF, UpdateStrategy(notification_channels=(channel,)))
        assert caught.value.subject == "notification_channels"
        assert listing(room.dir(REF)) == before


def _kinds(notices: list[Any]) -> list[str]:
    return [each.kind for each in notices]


async def test_its_own_channels_hear_of_a_refresh_and_of_its_failure(
    room: Room, server: FaultyRegistry, tmp_path: Path
) -> None:
    """A callable and a file of JSON lines: the conflict with the way back, the failure with what to do."""
    heard: list[Any] = []
    take: Callable[[Any], None] = heard.append
    strategy = UpdateStrategy(notification_channels=(take, f"file:{tmp_path}/notices.jsonl"))
    async with room.manager() as manager:
        await installed_and_edited(room, manager)
        server.inject(Status(503), on="chunk", times=None)
        with pytest.raises(NetworkError):
            await manager.refresh(REF, strategy)
        server.heal()
        await manager.refresh(REF, strategy)
    assert _kinds(heard) == ["trust", "refresh_failed", "conflict"]
    assert f"xprim cache rollback {REF}" in heard[2].next_step
    lines = (tmp_path / "notices.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [each.model_dump() for each in heard]


async def test_what_was_done_is_remembered(room: Room, server: FaultyRegistry) -> None:
    """The history has a row for the refresh, and one for the rollback."""
    async with room.manager() as manager:
        await installed_and_edited(room, manager)
        await manager.refresh(REF, UpdateStrategy(trigger="scheduled"))
        await manager.rollback(REF)
        with manager._state.reading() as connection:
            rows = connection.execute("SELECT kind, ref, details FROM history ORDER BY id").fetchall()
    found = [(kind, ref) for kind, ref, _ in rows if kind in ("refresh", "rollback")]
    assert found == [("refresh", REF), ("rollback", REF)]
    details = next(json.loads(text) for kind, _, text in rows if kind == "refresh")
    assert (details["trigger"], details["status"]) == ("scheduled", "refreshed")
