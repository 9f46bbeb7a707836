"""Maintenance: when it is due, what it does in which order, what it does when things fail, and never twice at once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from xprim_nb.cache.upkeep.cleanup import CleanupPolicy
from xprim_nb.config import Config
from xprim_nb.errors import ConfigError, NetworkError, StorageError
from xprim_nb.events import CorruptionFound
from xprim_nb.manager import Manager
from xprim_nb.manager.due import MaintenanceRecord, write_record
from xprim_nb.manager.steward import MaintenanceReport

from .stewards import T0, Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A maintainer whose verbs are recorded and whose clock stands still."""
    return Bench.at(tmp_path)


async def test_the_order_is_the_specs(bench: Bench) -> None:
    """Health check, then clean-up, then optimisation, then the record; nothing is mended that is whole."""
    bench.steward.states = {"demo/a v1": "healthy", "demo/b v1": "degraded"}
    bench.steward.bundle_states = {"demo/a": "healthy"}
    report = await bench.maintainer.run(CleanupPolicy(deduplication_enabled=True))
    assert bench.steward.calls == [
        "scrub 60",
        "validate_all quick",
        "list_bundles",
        "validate_bundle demo/a",
        "plan_cleanup",
        "cleanup",
        "dedupe",
    ]
    assert (report.ran, report.success, report.checked, report.damaged) == (True, True, 3, ())
    assert (report.freed_bytes, report.removed_models) == (10, ("demo/old v1",))
    assert report.optimisation == "2 files share their blocks."
    assert (await bench.maintainer.record()).outcome == report.verdict == "3 checked; 10 B freed."


async def test_without_the_wish_nothing_is_shared(bench: Bench) -> None:
    """Deduplication happens only where the policy asks for it."""
    await bench.maintainer.run(CleanupPolicy())
    await bench.maintainer.run()
    assert "dedupe" not in bench.steward.calls


async def test_the_time_budget_is_for_quick_looks(bench: Bench) -> None:
    """A full look hashes every byte, and needs no scrub; a budget of 0 is none."""
    await bench.maintainer.run(depth="full")
    await bench.maintainer.run(scrub_s=0)
    assert not [call for call in bench.steward.calls if call.startswith("scrub")]
    assert "validate_all full" in bench.steward.calls


async def test_damage_is_repaired(bench: Bench) -> None:
    """A damaged model is repaired; no backup is touched and nobody is alarmed."""
    bench.steward.states = {"demo/a v1": "failed"}
    report = await bench.maintainer.run()
    assert (report.damaged, report.repaired, report.rolled_back) == (("demo/a v1",), ("demo/a v1",), ())
    assert "rollback demo/a v1" not in bench.steward.calls
    assert bench.heard == []


async def test_beyond_repair_is_rolled_back(bench: Bench) -> None:
    """What a repair cannot mend is put back from its backup, and looked at again."""
    bench.steward.states, bench.steward.mends = {"demo/a v1": "failed"}, {"demo/a v1": False}
    bench.steward.backups = {"demo/a v1": "healthy"}
    report = await bench.maintainer.run()
    assert bench.steward.calls[2:5] == ["repair demo/a v1", "rollback demo/a v1", "validate demo/a v1"]
    assert (report.rolled_back, report.unresolved, report.success) == (("demo/a v1",), (), True)


@pytest.mark.parametrize("backups", [{}, {"demo/a v1": "failed"}])
async def test_what_cannot_be_mended_is_told_with_the_next_step(
    bench: Bench, backups: dict[str, str]
) -> None:
    """No backup, or a damaged one: the report and an event name what is wrong, and the command to run."""
    bench.steward.states, bench.steward.mends = {"demo/a v1": "failed"}, {"demo/a v1": False}
    bench.steward.backups = backups
    report = await bench.maintainer.run()
    assert not report.success
    assert "chunk 3 is nowhere" in report.unresolved[0].problem
    assert "xprim cache repair demo/a v1" in report.unresolved[0].next_step
    (told,) = bench.heard
    assert isinstance(told, CorruptionFound)
    assert (str(told.ref), told.next_step) == ("demo/a v1", report.unresolved[0].next_step)
    assert "1 still damaged" in report.verdict


async def test_a_repair_that_raises_leads_to_the_backup(bench: Bench) -> None:
    """A repair that fails for want of a network is followed by a rollback, like one that says it failed."""
    bench.steward.states, bench.steward.backups = {"demo/a v1": "failed"}, {"demo/a v1": "healthy"}
    bench.steward.fails["repair"] = NetworkError("no line")
    assert (await bench.maintainer.run()).rolled_back == ("demo/a v1",)


async def test_damaged_bundles_are_repaired_or_told(bench: Bench) -> None:
    """A bundle is mended like a model; one that cannot be is told with the next step."""
    bench.steward.bundle_states = {"demo/a": "failed"}
    assert (await bench.maintainer.run()).repaired == ("info/demo/a",)
    bench.steward.bundle_mends = False
    report = await bench.maintainer.run()
    assert report.unresolved[0].ref == "info/demo/a"
    assert "it never came" in report.unresolved[0].problem


@pytest.mark.parametrize(
    "verb", ["scrub", "validate_all", "list_bundles", "plan_cleanup", "cleanup", "dedupe"]
)
async def test_a_step_that_fails_does_not_stop_the_others(bench: Bench, verb: str) -> None:
    """A full disk in one step is a sentence in the report; every other step is still taken."""
    bench.steward.fails[verb] = StorageError("the disk is full")
    report = await bench.maintainer.run(CleanupPolicy(deduplication_enabled=True))
    assert (report.ran, report.success) == (True, False)
    assert len(report.problems) == 1
    assert "the disk is full" in report.problems[0]
    expected = {"scrub", "validate_all", "list_bundles", "plan_cleanup", "cleanup", "dedupe"}
    if verb == "plan_cleanup":
        expected.remove("cleanup")
    assert {call.split()[0] for call in bench.steward.calls} == expected


async def test_it_runs_when_it_is_due(bench: Bench) -> None:
    """Never without a schedule; at once when it never ran; then a day later, and not before."""
    assert not (await bench.maintainer.run(if_due=True)).ran
    await bench.maintainer.set_schedule("daily")
    first = await bench.maintainer.run(if_due=True)
    assert (first.ran, first.next_due) == (True, T0 + timedelta(hours=23))
    bench.clock.now += timedelta(hours=22)
    early = await bench.maintainer.run(if_due=True)
    assert (early.ran, early.next_due) == (False, first.next_due)
    assert "until 2026-03-02 02:00 UTC" in early.verdict
    bench.clock.now += timedelta(hours=2)
    assert (await bench.maintainer.run(if_due=True)).ran
    assert (await bench.maintainer.run()).ran, "asked for by hand, it always runs"


async def test_a_killed_run_is_not_begun_again_at_once(bench: Bench) -> None:
    """A run that began and never ended waits an hour: whatever killed it must not be met every five minutes."""
    await bench.maintainer.set_schedule("daily")
    record = MaintenanceRecord(schedule="daily", begun_at=T0)
    write_record(bench.maintainer.record_file, record)
    assert not (await bench.maintainer.run(if_due=True)).ran
    bench.clock.now += timedelta(minutes=61)
    assert (await bench.maintainer.run(if_due=True)).ran


async def test_a_schedule_set_during_a_run_stays(bench: Bench) -> None:
    """The record is read again at the end, so that a schedule that was set meanwhile is not undone."""
    bench.steward.goes_on = asyncio.Event()
    running = asyncio.create_task(bench.maintainer.run())
    await bench.steward.entered.wait()
    await bench.maintainer.set_schedule("weekly")
    bench.steward.goes_on.set()
    await running
    assert (await bench.maintainer.record()).schedule == "weekly"


async def test_the_plan_mends_nothing(bench: Bench) -> None:
    """A plan looks and tells; it repairs, removes and records nothing."""
    bench.steward.states = {"demo/a v1": "failed", "demo/b v1": "healthy"}
    plan = await bench.maintainer.plan(CleanupPolicy(deduplication_enabled=True), schedule="daily")
    assert (plan.is_due, plan.models, plan.to_repair, plan.freed_bytes) == (True, 2, ("demo/a v1",), 10)
    assert "demo/a v1" in str(plan)
    assert bench.steward.calls == ["validate_all quick", "list_bundles", "plan_cleanup"]
    assert not bench.maintainer.record_file.exists()


async def test_a_wrong_schedule_is_refused(tmp_path: Path) -> None:
    """A schedule that is none is refused before it is written."""
    async with Manager(Config(data_dir=tmp_path, offline=True)) as manager:
        with pytest.raises(ConfigError, match="hourly"):
            await manager.schedule_maintenance(cast("Any", "hourly"))
        assert (await manager.schedule_maintenance("weekly")).schedule == "weekly"
        assert (await manager.maintenance_record()).schedule == "weekly"
        assert (await manager.schedule_maintenance(None)).schedule is None


def test_reports_speak(bench: Bench) -> None:
    """A report and a record print as sentences."""
    report = MaintenanceReport(ran=True, checked=2, repaired=("a",), problems=("The clean-up failed: full.",))
    assert str(report).splitlines() == [
        "2 checked, 1 repaired, 1 steps failed; 0 B freed.",
        "The clean-up failed: full.",
    ]
    assert str(MaintenanceRecord(schedule="daily")) == "maintenance: daily, never run."
