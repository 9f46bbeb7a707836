"""Maintenance with the real verbs: damage mended, rolled back or told; the cache cleaned; offline; from a toolkit."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from xprim_nb import connect
from xprim_nb.cache.renewal.strategy import UpdateStrategy
from xprim_nb.cache.upkeep.cleanup import CleanupPolicy
from xprim_nb.events import CorruptionFound, Event
from xprim_nb.manager import Manager
from xprim_nb.manager.steward import Steward
from xprim_nb.notify import Notice

from .cache.rooms import Room, blocks


@pytest.fixture
def room(tmp_path: Path) -> Room:
    """Two models in a registry."""
    made = Room.at(tmp_path)
    made.publish({"demo/a v1": {"model.bin": blocks(1, 2, 3)}, "demo/b v1": {"model.bin": blocks(4, 5)}})
    return made


def _damage(room: Room, ref: str) -> bytes:
    """Flip a byte as a dying disk does; the right bytes are the result."""
    path = room.dir(ref) / "model.bin"
    facts, raw = path.stat(), path.read_bytes()
    path.write_bytes(bytes([raw[0] ^ 1]) + raw[1:])
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    return raw


async def test_everything_is_well(room: Room) -> None:
    """Healthy models and bundles are checked, and nothing else happens to them."""
    async with room.manager() as manager:
        await manager.pull("demo/a v1")
        await manager.derive("demo/a v1")
        steward: Steward = manager  # held by the type checker
        plan = await manager.plan_maintenance(schedule="daily")
        assert steward is manager
        assert (plan.is_due, plan.models, plan.to_repair) == (True, 2, ())
        report = await manager.maintain(scrub_s=5)
        assert (report.success, report.checked, report.damaged) == (True, 2, ())
        assert report.scrubbed
        assert (await manager.path("demo/a v1")).is_dir()


async def test_silent_damage_is_found_and_mended(room: Room) -> None:
    """A flipped byte behind unchanged times is found by the time budget's hashing, and mended."""
    async with room.manager() as manager:
        for ref in ("demo/a v1", "demo/b v1"):
            await manager.pull(ref)
        right = _damage(room, "demo/a v1")
        report = await manager.maintain()
        assert (report.damaged, report.repaired, report.success) == (("demo/a v1",), ("demo/a v1",), True)
        assert (room.dir("demo/a v1") / "model.bin").read_bytes() == right


async def test_beyond_repair_comes_back_from_the_backup(room: Room) -> None:
    """Damage that nobody can mend is replaced by the backup; the damaged version becomes one."""
    async with room.manager() as manager:
        await manager.pull("demo/a v1")
        room.publish({"demo/a v1": {"model.bin": blocks(7, 8, 9)}})
        await manager.refresh("demo/a v1", UpdateStrategy())
    shutil.rmtree(room.made.root)
    async with room.manager(offline=True) as manager:
        _damage(room, "demo/a v1")
        report = await manager.maintain()
        assert (report.rolled_back, report.unresolved) == (("demo/a v1",), ())
        assert (room.dir("demo/a v1") / "model.bin").read_bytes() == blocks(1, 2, 3)


async def test_what_cannot_be_mended_is_told(room: Room, tmp_path: Path) -> None:
    """Without a source and without a backup the damage is told, with the next step, and nothing is taken away."""
    heard: list[Event] = []
    async with room.manager() as manager:
        await manager.pull("demo/a v1")
    shutil.rmtree(room.made.root)
    _damage(room, "demo/a v1")
    lines, called = tmp_path / "notices.jsonl", list[Notice]()
    async with Manager(room.config(offline=True), notify=[f"file:{lines}", called.append]) as manager:
        manager.events.subscribe(heard.append)
        report = await manager.maintain()
    assert [each.ref for each in report.unresolved] == ["demo/a v1"]
    told = [
        each for each in heard if isinstance(each, CorruptionFound) and "could not be mended" in each.verdict
    ]
    assert len(told) == 1
    assert "xprim cache repair demo/a v1" in told[0].next_step
    assert (room.dir("demo/a v1") / "model.bin").is_file()
    written = [json.loads(line) for line in lines.read_text().splitlines()]
    for steps in ([each["next_step"] for each in written], [each.next_step for each in called]):
        assert told[0].next_step in steps, "the file and the callable hear it, with the next step"


async def test_the_policy_is_followed(room: Room) -> None:
    """What the policy lets go goes, and equal files share their blocks when it wants that."""
    room.publish({"demo/c v1": {"model.bin": blocks(1, 2, 3)}})
    async with room.manager() as manager:
        for ref in ("demo/a v1", "demo/b v1", "demo/c v1"):
            await manager.pull(ref)
        await manager.pin("demo/a v1")
        await manager.pin("demo/c v1")
        policy = CleanupPolicy(max_cache_size_gb=0, min_age_hours=0, deduplication_enabled=True)
        plan = await manager.plan_maintenance(policy)
        assert plan.optimises
        assert plan.freed_bytes > 0
        report = await manager.maintain(policy)
        assert report.removed_models == ("demo/b v1",)
        with manager._state.reading() as connection:
            kinds = [kind for (kind,) in connection.execute("SELECT kind FROM history")]
        assert kinds.count("maintain") == 1
        assert report.freed_bytes == plan.freed_bytes
        assert report.optimisation
        assert {str(each.ref) for each in await manager.list_installed()} == {"demo/a v1", "demo/c v1"}


def test_from_a_toolkit(room: Room) -> None:
    """The toolkit schedules, maintains when due, and ends its background task with itself."""
    with connect(room.config()) as kit:
        assert kit.schedule_maintenance("daily").result(20).schedule == "daily"
        assert kit.maintain(if_due=True).result(20).ran
        assert not kit.maintain(if_due=True).result(20).ran
        assert kit.maintenance_record().result(20).outcome.startswith("0 checked")
        assert kit.start_maintenance().result(20)
        assert not kit.start_maintenance().result(20)
        assert kit.stop_maintenance().result(20)
        assert kit.start_maintenance().result(20)
        assert kit.plan_maintenance().result(20).next_due is not None


def test_bundles_from_a_toolkit(room: Room) -> None:
    """The toolkit's verbs for bundles are the manager's; `bundle` itself waits for nothing."""
    with connect(room.config()) as kit:
        kit.pull("demo/a v1").result(20)
        assert kit.derive("demo/a v1").result(20).success
        assert kit.bundle("demo/a").read("documentation/changelog.md").startswith("# Versions of demo/a")
        assert [str(each.ref) for each in kit.list_bundles().result(20)] == ["demo/a"]
        assert kit.validate_bundle("demo/a").result(20).is_healthy
        assert kit.plan_refresh_bundle("demo/a").result(20).steps
        assert kit.refresh_bundle("demo/a").result(20).success
        assert kit.plan_repair_bundle("demo/a").result(20).steps == ()
        assert kit.repair_bundle("demo/a").result(20).success
