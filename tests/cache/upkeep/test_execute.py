"""Carrying out a clean-up: what it predicts is what `du` measures, and what became precious meanwhile stays."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from xprim_nb._files import PathLock
from xprim_nb.cache.upkeep.cleanup import CleanupPolicy
from xprim_nb.errors import ConfigError, NetworkError
from xprim_nb.events import Event, EventHub, ModelRemoved
from xprim_nb.manager import Manager
from xprim_nb.refs import ModelRef
from xprim_nb.testing.faults import Status
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import random_bytes

from ..rooms import Room, listing, require_sound
from .disk import age, disk_usage, edit, set_used

_A, _B, _C, _LORA = "group/a v1", "group/b v1", "group/b v2", "other/lora v1"
_FILES = {
    _A: {"w.bin": random_bytes("a", 300_000), "config.json": b"{}"},
    _B: {"w.bin": random_bytes("b", 200_000), "deep/er/x": b"x"},
    _C: {"w.bin": random_bytes("c", 100_000)},
    _LORA: {
        "adapter.bin": random_bytes("l", 50_000),
        "adapter_config.json": b'{"base_model_name_or_path":"group/a"}',
    },
}
_UNUSED = CleanupPolicy(unused_threshold_days=30)


async def _pull_all(room: Room, manager: Manager, *, days: float = 100) -> None:
    room.layout.trash.mkdir(parents=True)  # the cache's own directories come with the first removal, and stay
    for number, ref in enumerate(_FILES):
        await manager.pull(ref)
        age(room, ref, days - number)


async def test_predicted_bytes_are_measured_bytes(disk_room: Room) -> None:
    """Models, an unfinished pull, loose chunks: what the plan says is freed is what `du` has less afterwards."""
    room = disk_room
    room.publish(_FILES)
    async with room.manager() as manager:
        await _pull_all(room, manager)
        partial = room.layout.partials / ("0" * 64)
        (partial / "tree/deep").mkdir(parents=True)
        (partial / "tree/deep/w").write_bytes(random_bytes(1, 50_000))
        room.layout.chunks.mkdir(exist_ok=True)
        (room.layout.chunks / ("1" * 64)).write_bytes(random_bytes(2, 9_000))
        for path in (partial, room.layout.chunks / ("1" * 64)):
            set_used(path, 3)
        plan = await manager.plan_cleanup(_UNUSED)
        before = disk_usage(room.base)
        result = await manager.cleanup(plan)
        after = disk_usage(room.base)
        assert await manager.list_installed() == []
    assert {each.kind for each in plan.candidates} == {"partial", "leftover", "model"}
    assert before - after == plan.freed_bytes == result.freed_bytes
    assert (result.spared, result.failed) == ((), ())
    assert set(result.removed_models) == set(_FILES)
    assert not (room.base / "group").exists()
    require_sound(room.base, {})


async def test_hard_links_are_counted_once(disk_room: Room) -> None:
    """A file with a name in two models, and one with a name outside: only what really comes back is predicted."""
    room = disk_room
    room.publish(_FILES)
    async with room.manager() as manager:
        await _pull_all(room, manager)
        os.link(room.dir(_A) / "w.bin", room.dir(_B) / "linked")
        os.link(room.dir(_C) / "w.bin", room.root / "outside")
        accounts = await manager.accounts()
        assert accounts.of(_A).shared_bytes == accounts.of(_B).shared_bytes == 303_104
        folder = (room.base / "group/a").lstat().st_blocks * 512  # goes with its only version
        assert accounts.of(_A).reclaimable_bytes == accounts.of(_A).exclusive_bytes + folder
        assert accounts.of(_C).reclaimable_bytes == accounts.of(_C).exclusive_bytes - 102_400
        total = disk_usage(room.base)
        beside = sum(disk_usage(room.base / name) for name in ("cache",))
        assert accounts.total_bytes == total - beside - room.base.lstat().st_blocks * 512
        (room.dir(_B) / "linked").unlink()
        plan = await manager.plan_cleanup(_UNUSED)
        before = disk_usage(room.root)
        result = await manager.cleanup(plan)
        assert before - disk_usage(room.root) == plan.freed_bytes == result.freed_bytes


async def test_free_takes_the_least_used_until_there_is_room(room: Room) -> None:
    """`free` removes what was used longest ago first, stops when it is enough, and says when it never is."""
    room.publish(_FILES)
    async with room.manager() as manager:
        await _pull_all(room, manager)
        with await manager.lease(_B):
            pass  # a use: now it is the most recently used
        plan = await manager.plan_free("100 KB")
        assert [each.name for each in plan.candidates] == [_C]  # _A is older, but the LoRA needs it
        assert [(each.name, each.guard) for each in plan.spared] == [(_A, "needed")]
        result = await manager.free(100_000)
        assert result.removed_models == (_C,)
        assert result.freed_bytes >= 100_000
        hopeless = await manager.plan_free("1 TB")
        assert hopeless.short_bytes > 0
        assert "short" in str(hopeless)
        with pytest.raises(ConfigError):
            await manager.free("lots")


def _hold_lease(room: Room, manager: Manager) -> object:
    return manager._leases.take(manager._store.get(_model(_B)).ref)


def _model(ref: str) -> ModelRef:
    return ModelRef.parse(ref)


def _pin(room: Room, manager: Manager) -> object:
    return manager._store.annotate(_model(_B), {"pinned": {"reason": "meanwhile"}})


def _edit(room: Room, manager: Manager) -> object:
    return edit(room.dir(_B) / "w.bin", b"mine")


def _add(room: Room, manager: Manager) -> object:
    return (room.dir(_B) / "notes.txt").write_bytes(b"mine")


def _need(room: Room, manager: Manager) -> object:
    return manager._store.annotate(_model(_C), {"dependencies": [_B]})


def _lock(room: Room, manager: Manager) -> object:
    lock = PathLock(room.layout.ref_lock(_model(_B)))
    assert lock.try_acquire()
    return lock


_MEANWHILE: dict[str, Callable[[Room, Manager], object]] = {
    "leased": _hold_lease,
    "pinned": _pin,
    "changed": _edit,
    "added": _add,
    "needed": _need,
    "busy": _lock,
}


@pytest.mark.parametrize("event", _MEANWHILE)
async def test_what_became_precious_meanwhile_is_spared(room: Room, event: str) -> None:
    """Between plan and deed a model is leased, pinned, edited, needed or worked on: it stays, and the result says why."""
    room.publish(_FILES)
    async with room.manager() as manager:
        await _pull_all(room, manager)
        age(room, _C, 1)
        plan = await manager.plan_cleanup(_UNUSED)
        assert _B in {each.name for each in plan.candidates}
        held = _MEANWHILE[event](room, manager)
        before = listing(room.dir(_B))
        result = await manager.cleanup(plan)
        assert listing(room.dir(_B)) == before
        wanted = {"added": "changed"}.get(event, event)
        assert [(each.name, each.guard) for each in result.spared] == [(_B, wanted)]
        assert set(result.removed_models) == {_LORA, _A}
        again = await manager.plan_cleanup(_UNUSED)
        assert [(each.name, each.guard) for each in again.spared if each.name == _B] == [(_B, wanted)]
        for each in (held,):
            for end in ("close", "release"):
                if hasattr(each, end):
                    getattr(each, end)()


async def test_an_unfinished_pull_that_goes_on_is_spared(room: Room, server: FaultyRegistry) -> None:
    """A stale unfinished pull is planned to go; somebody goes on with it before the deed: it stays."""
    made = room.publish(_FILES)
    server.inject(Status(404), on=made.chunks(_A)[-1], times=None)
    async with room.manager(tries=1) as manager:
        with pytest.raises(NetworkError):
            await manager.pull(_A)
        partial = next(room.layout.partials.iterdir())
        set_used(partial, 2)
        plan = await manager.plan_cleanup()
        assert [each.kind for each in plan.candidates] == ["partial"]
        set_used(partial, 0)
        result = await manager.cleanup(plan)
        assert [each.guard for each in result.spared] == ["young"]
        assert partial.exists()
        set_used(partial, 2)
        lock = PathLock(room.layout.partial_lock(partial.name))
        assert lock.try_acquire()
        assert [each.guard for each in (await manager.plan_cleanup()).spared] == ["busy"]
        lock.release()
        assert (await manager.cleanup()).freed_bytes > 0
        assert not partial.exists()


async def test_a_removal_is_told_and_written_down(room: Room) -> None:
    """Each removed model is an event; the clean-up is a row of the history."""
    room.publish(_FILES)
    hub, heard = EventHub(), list[Event]()
    hub.subscribe(heard.append)
    async with Manager(room.config(), events=hub) as manager:
        await _pull_all(room, manager)
        result = await manager.cleanup(_UNUSED)
        with manager._state.reading() as connection:
            rows = connection.execute("SELECT kind, details FROM history").fetchall()
    removed = [str(each.ref) for each in heard if isinstance(each, ModelRemoved)]
    assert removed == list(result.removed_models)
    assert [row[0] for row in rows if row[0] != "pull"] == ["cleanup"]
    assert str(result.freed_bytes) in rows[-1][1]
    assert "freed" in result.optimization_report


async def test_dependencies_come_from_the_index_and_from_the_adapter(room: Room) -> None:
    """A base model is known by the registry's metadata, offline too, and by `adapter_config.json`."""
    room.publish(_FILES)
    room.publish({"other/by-index v1": {"x": b"x"}}, metadata={"base_model": _B})
    async with room.manager() as manager:
        await _pull_all(room, manager)
        await manager.pull("other/by-index v1")
    async with room.manager(offline=True) as manager:
        spared = {each.name: each for each in (await manager.plan_cleanup(_UNUSED)).spared}
    assert "other/by-index v1 depends on it" in spared[_B].reason


async def test_superseded_backups_go_and_the_newest_stays(room: Room) -> None:
    """Of three backups the newest stays; of the others, one with a changed file that is nowhere else stays too."""
    room.publish(_FILES)
    async with room.manager() as manager:
        await manager.pull(_A)
        root = room.layout.cache / "backup/group/a/v1"
        for stamp in ("20200101T000000-aa", "20210101T000000-bb", "20220101T000000-cc"):
            shutil.copytree(room.dir(_A), root / stamp / "tree")
            (root / stamp / "backup.json").write_text("{}")
        edit(root / "20210101T000000-bb/tree/config.json", b"mine")
        plan = await manager.plan_cleanup(CleanupPolicy(min_age_hours=0))
        assert [each.name for each in plan.candidates] == [f"{_A} 20200101T000000-aa"]
        assert [each.guard for each in plan.spared] == ["changed"]
        before = disk_usage(room.base)
        result = await manager.cleanup(plan)
        assert result.freed_bytes == plan.freed_bytes == before - disk_usage(room.base)
    assert sorted(path.name for path in root.iterdir()) == ["20210101T000000-bb", "20220101T000000-cc"]


_HOLDER = """
import asyncio, sys
from pathlib import Path
from xprim_nb.config import Config
from xprim_nb.manager import Manager

async def main():
    async with Manager(Config(registry_url=sys.argv[2], data_dir=Path(sys.argv[1]))) as manager:
        with await manager.lease(sys.argv[3]):
            print("held", flush=True)
            await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
"""


def _started_holder(room: Room, ref: str) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", _HOLDER, str(room.base), room.url, ref]
    pipe = subprocess.PIPE
    return subprocess.Popen(arguments, stdin=pipe, stdout=pipe, text=True, cwd=Path(__file__).parents[3])


async def test_a_killed_holder_blocks_nobody(room: Room) -> None:
    """While another process leases a model it is spared; once that process is killed its lease is nothing."""
    room.publish(_FILES)
    async with room.manager() as manager:
        await manager.pull(_B)
        age(room, _B, 100)
        holder = _started_holder(room, _B)
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            plan = await manager.plan_cleanup(CleanupPolicy(max_cache_size_gb=0, min_age_hours=0))
            assert [(each.name, each.guard) for each in plan.spared] == [(_B, "leased")]
        finally:
            holder.kill()
            holder.communicate()
        plan = await manager.plan_cleanup(CleanupPolicy(max_cache_size_gb=0, min_age_hours=0))
        assert [each.name for each in plan.candidates] == [_B]
        assert list(room.layout.leases.rglob("*-*.lock")) == []
        assert (await manager.cleanup(plan)).removed_models == (_B,)
