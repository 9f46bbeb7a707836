"""What a validation hashes, what it says of age, parts and dependencies, and what it remembers."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from xprim_nb.cache.health import hashing
from xprim_nb.cache.health.report import ValidationReport
from xprim_nb.cache.health.rules import HealthPolicy
from xprim_nb.errors import ConfigError
from xprim_nb.events import CheckProgress, Event
from xprim_nb.manager import Manager
from xprim_nb.testing.faulty_registry import FaultyRegistry

from ..rooms import Room, blocks
from .damage import FILES, REF, flip_silently

_BASE, _LORA = "demo/base v1", "demo/lora v1"


def _rewrite_entry(room: Room, ref: str, **changes: Any) -> None:
    group, rest = ref.split("/")
    model, version = rest.split(" ")
    document = room.registry_json
    document[group][model][version].update(changes)
    (room.base / "registry.json").write_text(json.dumps(document))


def _age(room: Room, ref: str, days: float) -> None:
    """Let a model have been installed so long ago, and the registry have been asked then for the last time."""
    when = datetime.now(UTC) - timedelta(days=days)
    _rewrite_entry(room, ref, installed_at=when.strftime("%Y-%m-%dT%H:%M:%SZ"))
    for path in (room.base / "cache" / "index").glob("*.json"):
        document = json.loads(path.read_bytes())
        document["fetched_at"] = when.timestamp()
        path.write_text(json.dumps(document))


async def test_quick_hashes_nothing_after_a_pull_an_update_and_a_forced_pull(room: Room) -> None:
    """Every byte was verified on its way in: the receipt in the model says so, without state.sqlite."""
    room.publish({REF: FILES})
    async with room.manager() as manager:
        await manager.pull(REF)
        assert (await manager.validate(REF)).bytes_hashed == 0
        room.publish({REF: FILES | {"config.json": b'{"a": 22}'}})
        assert (await manager.pull(REF)).status == "updated"
        assert (await manager.validate(REF)).bytes_hashed == 0
        flip_silently(room.dir(REF) / "w.bin", 1)
        assert (await manager.validate(REF, "full")).overall_status == "failed"
        await manager.pull(REF, force=True)
        assert [row.status for row in (await manager.status()).rows] == ["healthy"]
        report = await manager.validate(REF)
        assert (report.overall_status, report.bytes_hashed) == ("healthy", 0)


async def test_quick_hashes_only_what_changed_and_remembers_it(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A touched file is hashed once; its verdict holds as long as it looks the same."""
    from xprim_nb.cache.health import inspect

    monkeypatch.setattr(inspect, "_RACY_NS", -1)  # the test is faster than the file system's clock
    room.publish({REF: FILES})
    async with room.manager() as manager:
        await manager.pull(REF)
        (room.dir(REF) / "deep/er/v.safetensors").touch()
        first = await manager.validate(REF)
        assert (first.overall_status, first.bytes_hashed) == ("healthy", 3508)
        assert (await manager.validate(REF)).bytes_hashed == 0
        # A copy of the whole base on another disk: times of change and inodes are new.
        for path in room.dir(REF).rglob("*"):
            if path.is_file() and ".xprim" not in path.parts:
                copy = path.with_name(path.name + ".copy")
                shutil.copy2(path, copy)
                copy.replace(path)
        moved = await manager.validate(REF)
        assert (moved.overall_status, moved.bytes_hashed) == ("healthy", sum(map(len, FILES.values())))
        assert (await manager.validate(REF)).bytes_hashed == 0


async def test_a_file_written_just_now_is_not_believed_twice(room: Room) -> None:
    """Within one tick of the file system's clock a second write would leave no trace: nothing is recorded."""
    room.publish({REF: FILES})
    async with room.manager() as manager:
        await manager.pull(REF)
        path = room.dir(REF) / "deep/er/v.safetensors"
        future = datetime.now(UTC).timestamp() + 3600
        os.utime(path, (future, future))
        assert (await manager.validate(REF)).bytes_hashed > 0
        assert (await manager.validate(REF)).bytes_hashed > 0


async def test_age_comes_from_the_installation_or_the_registrys_last_word(
    room: Room, server: FaultyRegistry
) -> None:
    """Old and unconfirmed is stale, then expired; a registry that was asked since confirms it; nobody is asked for it."""
    room.publish({REF: FILES})
    policy = HealthPolicy(max_age_days=10)
    async with room.manager() as manager:
        await manager.pull(REF)
        _age(room, REF, 11)
        server.forget_requests()
        report = await manager.validate(REF, policy=policy)
        assert (report.overall_status, report.checks.freshness.status) == ("degraded", "stale")
        assert 10.9 < report.checks.freshness.age_days < 11.1
        assert f"xprim cache refresh {REF}" in report.verdict
        _age(room, REF, 21)
        assert (await manager.validate(REF, policy=policy)).checks.freshness.status == "expired"
        assert (await manager.validate(REF, policy=HealthPolicy(max_age_days=None))).is_healthy
        assert server.count() == 0
        await manager.list_remote()
        report = await manager.validate(REF, policy=policy)
        assert (report.overall_status, report.checks.freshness.age_days < 0.01) == ("healthy", True)


async def test_another_manifest_in_the_registry_makes_it_stale(room: Room) -> None:
    """What the registry said when it was last asked is enough; an entry that vanished is told."""
    room.publish({REF: FILES})
    async with room.manager() as manager:
        await manager.pull(REF)
        room.publish({REF: FILES | {"config.json": b"{}"}})
        assert (await manager.validate(REF)).is_healthy  # nobody has asked since
        await manager.list_remote()
        report = await manager.validate(REF)
        assert report.checks.freshness.status == "stale"
        assert "offers another manifest" in report.verdict
        (room.made.root / "models.json").write_text("{}")
        await manager.list_remote()
        assert (await manager.validate(REF)).notes == ("The registry no longer lists it.",)


async def test_an_expiry_date_is_kept(room: Room) -> None:
    """The publisher's date counts, whatever the age."""
    room.publish({REF: FILES}, metadata={"expiry_date": "2020-01-01T00:00:00Z"})
    async with room.manager() as manager:
        await manager.pull(REF)
        report = await manager.validate(REF)
    assert (report.checks.freshness.status, report.recommendations.priority) == ("expired", "high")


@pytest.mark.parametrize("told", ["adapter", "metadata", "both"])
async def test_a_lora_needs_its_base(room: Room, told: str) -> None:
    """Named in adapter_config.json or by the publisher: degraded until it is installed, then healthy."""
    files = {"adapter_model.safetensors": blocks(7)}
    if told != "metadata":
        files["adapter_config.json"] = json.dumps({"base_model_name_or_path": "demo/base"}).encode()
    room.publish({_BASE: {"w.bin": blocks(1)}})
    room.publish({_LORA: files}, metadata=None if told == "adapter" else {"base_model": _BASE})
    async with room.manager() as manager:
        await manager.pull(_LORA)
        report = await manager.validate(_LORA)
        name = "demo/base" if told == "adapter" else _BASE
        assert report.checks.dependencies.unresolved == (name,)
        assert (report.overall_status, report.recommendations.action) == ("degraded", "none")
        assert f"`xprim models pull {name}`" in report.verdict
        await manager.pull(_BASE)
        assert (await manager.validate(_LORA)).is_healthy


async def test_a_shard_that_an_index_names_is_missed(room: Room) -> None:
    """A model published without one of its shards is partial."""
    weights = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    files = {
        "model.safetensors.index.json": json.dumps({"weight_map": weights}).encode(),
        "model-1.safetensors": blocks(1),
    }
    room.publish({REF: files})
    async with room.manager() as manager:
        await manager.pull(REF)
        report = await manager.validate(REF)
    assert report.checks.completeness.missing_components == ("model-2.safetensors",)
    assert (report.overall_status, report.checks.completeness.status) == ("degraded", "partial")


async def test_what_was_not_used_for_long_is_told_unless_pinned(room: Room) -> None:
    """The advice is low, the model healthy; a pinned one is left in peace; what is not known is not guessed."""
    room.publish({REF: FILES})
    async with room.manager() as manager:
        await manager.pull(REF)
        assert (await manager.validate(REF)).recommendations.action == "none"
        with sqlite3.connect(room.base / "state.sqlite") as connection:
            connection.execute("INSERT INTO usage VALUES (?, 1.0, 3)", (REF,))
        connection.close()
        report = await manager.validate(REF)
        assert (report.overall_status, report.recommendations.action) == ("healthy", "remove")
        assert (await manager.status()).concerns[0].ref == REF
        _rewrite_entry(room, REF, pinned={"at": "now", "reason": ""})
        assert (await manager.validate(REF)).recommendations.action == "none"


async def test_everything_is_validated_in_turn_and_told(room: Room) -> None:
    """One report for each model, progress for each, one line in the history."""
    room.publish({REF: FILES, "group/other v1": {"x": blocks(1)}, "aaa/first v1": {"x": blocks(2)}})
    heard: list[Event] = []
    async with room.manager() as manager:
        for ref in (REF, "group/other v1", "aaa/first v1"):
            await manager.pull(ref)
        manager.events.subscribe(heard.append)
        reports = await manager.validate_all("full")
    assert [report.model_id for report in reports] == ["aaa/first v1", REF, "group/other v1"]
    last = [event for event in heard if isinstance(event, CheckProgress) and event.finished]
    assert [(event.models_done, event.models_total, event.fraction) for event in last] == [
        (1, 3, 1.0),
        (2, 3, 1.0),
        (3, 3, 1.0),
    ]
    connection = sqlite3.connect(room.base / "state.sqlite")
    rows = connection.execute("SELECT kind, details FROM history ORDER BY id").fetchall()
    connection.close()
    assert [kind for kind, _ in rows] == ["pull", "pull", "pull", "validate"]
    assert json.loads(rows[-1][1])["models"] == 3


async def test_a_cancelled_check_ends_soon(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread stops between two chunks; nothing half known is recorded."""
    room.publish({REF: {"w.bin": blocks(*range(400))}})
    reached, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    real = hashing.is_right_chunk

    def held(*args: Any) -> bool:
        loop.call_soon_threadsafe(reached.set)
        assert go_on.wait(20)
        return real(*args)

    async with room.manager() as manager:
        await manager.pull(REF)
        monkeypatch.setattr(hashing, "is_right_chunk", held)
        checking = asyncio.create_task(manager.validate(REF, "full"))
        await reached.wait()
        checking.cancel()
        for _ in range(5):  # the task hears it at once, and then waits for its thread
            await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await checking
        assert (await manager.status()).rows[0].depth == "install"


async def test_a_depth_that_is_none_is_refused(room: Room) -> None:
    """A slip is told at once."""
    async with room.manager() as manager:
        with pytest.raises(ConfigError, match="deep"):
            await manager.validate(REF, "deep")  # type: ignore[arg-type]  # that is the point
        with pytest.raises(ConfigError, match="budget_s"):
            await manager.scrub(float("nan"))


async def test_the_report_is_the_recorded_one(room: Room) -> None:
    """A status hands out what was found, whole."""
    room.publish({REF: FILES})
    async with room.manager() as manager:
        await manager.pull(REF)
        flip_silently(room.dir(REF) / "w.bin", 1)
        report = await manager.validate(REF, "full")
    async with Manager(room.config(offline=True)) as later:
        assert (await later.status(REF)).health_summary[REF] == report
    assert ValidationReport.model_validate_json(report.model_dump_json()) == report


async def test_a_model_that_is_a_link_is_validated_and_mended(room: Room, tmp_path: Path) -> None:
    """A version kept on another disk, linked into its place, is looked at and mended where it lies."""
    room.publish({REF: FILES})
    async with room.manager() as manager:
        await manager.pull(REF)
        shutil.move(room.dir(REF), tmp_path / "far")
        room.dir(REF).symlink_to(tmp_path / "far")
        flip_silently(tmp_path / "far" / "w.bin", 1)
        (tmp_path / "far" / "config.json").unlink()
        (tmp_path / "far" / "config.json").mkdir()
        (tmp_path / "far" / "config.json" / "mine").write_bytes(b"mine")
        assert (await manager.validate(REF, "full")).overall_status == "failed"
        repaired = await manager.repair(REF)
        assert repaired.success
        assert repaired.kept is not None
        assert (Path(repaired.kept) / "config.json" / "mine").read_bytes() == b"mine"
        assert (await manager.validate(REF, "full")).is_healthy
    assert room.dir(REF).is_symlink()
