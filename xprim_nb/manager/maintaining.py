"""One run of maintenance: health check → clean-up → optimisation → report. Never two at once, in any process.

    1. Somebody else holds the lock, or it is not due: nothing is done, and the report says so.
    2. That it began is remembered.
    3. What was verified longest ago is hashed, within a time budget. Then every model and bundle is looked at. What is
       damaged is repaired; what cannot be is put back from its newest backup, and looked at again; what cannot be
       either is told with the next step.
    4. What the policy lets go goes; equal bytes share their blocks, if the policy wants that.
    5. What was done is remembered.

A step that fails is a sentence in the report, and the next one goes on: a full disk must not keep damage from being
found. Only what a newer program wrote, and a cancellation, end the run.

Source: spec 2 §Maintenance; seeds/000 §Error Recovery.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from xprim_nb._files import PathLock
from xprim_nb._threads import settled
from xprim_nb.cache.bundles.keeper import BundleRepaired
from xprim_nb.cache.bundles.store import Bundle
from xprim_nb.cache.health.report import Depth, ValidationReport
from xprim_nb.cache.upkeep.cleanup import CleanupPolicy
from xprim_nb.errors import NotInstalledError, XprimError
from xprim_nb.events import CorruptionFound, EventHub
from xprim_nb.manager.due import MaintenanceRecord, Schedule, next_due, read_record, write_record
from xprim_nb.manager.steward import MaintenancePlan, MaintenanceReport, Steward, Unresolved
from xprim_nb.refs import ModelRef

__all__ = ["BundleSteward", "Maintainer"]

_log = logging.getLogger("xprim_nb.manager")
_T = TypeVar("_T")


class BundleSteward(Protocol):
    """Whoever looks after bundles."""

    async def list_bundles(self) -> list[Bundle]:
        """Every bundle."""
        ...

    async def validate_bundle(self, ref: ModelRef, depth: Depth = "full") -> ValidationReport:
        """How one is."""
        ...

    async def repair_bundle(self, ref: ModelRef) -> BundleRepaired:
        """Mend one."""
        ...


@dataclass
class _Run:
    """What has been done so far."""

    checked: int = 0
    damaged: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    rolled_back: list[str] = field(default_factory=list)
    unresolved: list[Unresolved] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    freed_bytes: int = 0
    removed_models: tuple[str, ...] = ()
    cleanup: str = ""
    scrubbed: str = ""
    optimisation: str = ""


@dataclass(frozen=True, slots=True)
class Maintainer:
    """Runs maintenance. Holds nothing open between runs.

    Attributes:
        steward: Checks, mends, cleans and optimises.
        bundles: The same for bundles.
        record_file: `cache/maintenance.json`.
        lock_file: Held during a run.
        events: Where what cannot be mended is told.
        clock: Seconds since 1970.
    """

    steward: Steward
    bundles: BundleSteward
    record_file: Path
    lock_file: Path
    events: EventHub
    clock: Callable[[], float] = time.time

    @property
    def now(self) -> datetime:
        """The time."""
        return datetime.fromtimestamp(self.clock(), UTC)

    async def record(self) -> MaintenanceRecord:
        """What is remembered; see `read_record` for the errors."""
        return await settled(read_record, self.record_file)

    async def set_schedule(self, schedule: Schedule | None) -> MaintenanceRecord:
        """Remember when it shall run; None for never by itself."""
        changed = (await self.record()).model_copy(update={"schedule": schedule})
        await settled(write_record, self.record_file, changed)
        return changed

    async def plan(self, policy: Any = None, *, schedule: Schedule | None = None) -> MaintenancePlan:  # noqa: ANN401
        """What a run would do now. Looks quickly at every model; changes nothing."""
        record, now = await self.record(), self.now
        due = next_due(record, now, schedule)
        reports = await self.steward.validate_all("quick")
        bundles = await self.bundles.list_bundles()
        sketch = await self.steward.plan_cleanup(policy)
        return MaintenancePlan(
            is_due=due is not None and due <= now,
            next_due=due,
            models=len(reports) + len(bundles),
            to_repair=tuple(each.model_id for each in reports if each.overall_status == "failed"),
            cleanup=str(sketch),
            freed_bytes=sketch.freed_bytes,
            optimises=policy is not None and policy.deduplication_enabled,
        )

    async def run(
        self,
        policy: CleanupPolicy | None = None,
        *,
        if_due: bool = False,
        schedule: Schedule | None = None,
        depth: Depth = "quick",
        scrub_s: float = 60.0,
    ) -> MaintenanceReport:
        """Do it; see the module's list.

        Args:
            policy: What the clean-up may take, and whether to optimise; the clean-up's own default when None.
            if_due: Only when the schedule says so.
            schedule: Instead of the one that is remembered.
            depth: How the models are looked at.
            scrub_s: Seconds to spend on hashing what was verified longest ago; a full look needs none.

        Raises:
            ConfigError: The record was written by a newer version of this program.
            StorageError: The record cannot be read or written.
        """
        lock = PathLock(self.lock_file)
        if not await settled(lock.try_acquire):  # 1
            return MaintenanceReport(ran=False, reason="Another process maintains this cache now.")
        try:
            record, begun = await self.record(), self.now
            due = next_due(record, begun, schedule)
            if if_due and (due is None or due > begun):
                when = "without a schedule" if due is None else f"until {due:%Y-%m-%d %H:%M} UTC"
                return MaintenanceReport(ran=False, reason=f"Not due {when}.", next_due=due)
            record = record.model_copy(update={"begun_at": begun})
            await settled(write_record, self.record_file, record)  # 2
            run = _Run()
            if scrub_s > 0 and depth == "quick":  # 3
                scrubbed = await _tried(run, "The scrub", self.steward.scrub(scrub_s))
                run.scrubbed = "" if scrubbed is None else str(scrubbed)
            await self._check_models(run, depth)
            await self._check_bundles(run)
            await self._clean_up(run, policy)  # 4
            return await self._remember(run, record, begun, schedule)  # 5
        finally:
            lock.release()

    async def _remember(
        self, run: _Run, record: MaintenanceRecord, begun: datetime, schedule: Schedule | None
    ) -> MaintenanceReport:
        ended = max(self.now, begun)
        report = MaintenanceReport(
            ran=True,
            begun_at=begun,
            ended_at=ended,
            checked=run.checked,
            damaged=tuple(run.damaged),
            repaired=tuple(run.repaired),
            rolled_back=tuple(run.rolled_back),
            unresolved=tuple(run.unresolved),
            freed_bytes=run.freed_bytes,
            removed_models=run.removed_models,
            cleanup=run.cleanup,
            scrubbed=run.scrubbed,
            optimisation=run.optimisation,
            problems=tuple(run.problems),
        )
        # Read again: somebody may have set another schedule meanwhile.
        latest = await self.record()
        ended_record = latest.model_copy(
            update={"begun_at": begun, "last_begun_at": begun, "ended_at": ended, "outcome": report.verdict}
        )
        await settled(write_record, self.record_file, ended_record)
        return report.model_copy(update={"next_due": next_due(ended_record, ended, schedule)})

    async def _check_models(self, run: _Run, depth: Depth) -> None:
        reports = await _tried(run, "The health check", self.steward.validate_all(depth))
        for report in reports or ():
            run.checked += 1
            if report.overall_status == "failed":
                run.damaged.append(report.model_id)
                await self._mend(run, report)

    async def _mend(self, run: _Run, report: ValidationReport) -> None:
        """Repair; if that fails, roll back; if that fails, say so."""
        name, ref = report.model_id, ModelRef.parse(report.model_id)
        problems: list[str] = []
        try:
            mended = await self.steward.repair(ref)
            if mended.success:
                run.repaired.append(name)
                return
            problems += list(mended.remaining_issues) or ["the repair did not succeed"]
        except XprimError as error:
            problems.append(error.message)
        try:
            await self.steward.rollback(ref)
            if (await self.steward.validate(ref, "quick")).overall_status != "failed":
                run.rolled_back.append(name)
                return
            problems.append("what its backup holds is damaged too")
        except NotInstalledError:
            problems.append("there is no backup of it")
        except XprimError as error:
            problems.append(error.message)
        said = "; ".join(each.rstrip(".") for each in problems)
        step = f"Run `xprim cache repair {name}` when the registry can be reached, or `xprim models pull {name} --force`."
        run.unresolved.append(
            Unresolved(ref=name, problem=f"It is damaged and could not be mended: {said}.", next_step=step)
        )
        self.events.publish(CorruptionFound(ref, f"{name} is damaged and could not be mended: {said}.", step))

    async def _check_bundles(self, run: _Run) -> None:
        for bundle in await _tried(run, "The list of bundles", self.bundles.list_bundles()) or ():
            run.checked += 1
            what = f"The bundle of {bundle.ref}"
            report = await _tried(run, what, self.bundles.validate_bundle(bundle.ref))
            if report is None or report.overall_status != "failed":
                continue
            name = f"info/{bundle.ref}"
            run.damaged.append(name)
            mended = await _tried(run, what, self.bundles.repair_bundle(bundle.ref))
            if mended is not None and mended.success:
                run.repaired.append(name)
            elif mended is not None:
                step = f"Run `xprim cache repair {bundle.ref}` when its documents can be fetched."
                said = "; ".join(each.rstrip(".") for each in mended.remaining_issues)
                run.unresolved.append(
                    Unresolved(ref=name, problem=f"Documents are damaged: {said}.", next_step=step)
                )
                self.events.publish(CorruptionFound(bundle.ref, f"{what} is damaged: {said}.", step))

    async def _clean_up(self, run: _Run, policy: CleanupPolicy | None) -> None:
        # The optimisation is a step of its own here, so that the report can tell what came of it.
        alone = policy.model_copy(update={"deduplication_enabled": False}) if policy is not None else None
        plan = await _tried(run, "The plan of the clean-up", self.steward.plan_cleanup(alone))
        if plan is not None:
            done = await _tried(run, "The clean-up", self.steward.cleanup(plan))
            if done is not None:
                run.freed_bytes, run.removed_models = done.freed_bytes, tuple(done.removed_models)
                run.cleanup = str(done)
        if policy is not None and policy.deduplication_enabled:
            shared = await _tried(run, "The optimisation", self.steward.dedupe())
            run.optimisation = "" if shared is None else str(shared)


async def _tried(run: _Run, what: str, work: Awaitable[_T]) -> _T | None:
    """What `work` returns; None, and a sentence in the report, when it fails as things do."""
    try:
        return await work
    except XprimError as error:
        _log.warning("maintenance: %s failed: %s", what, error.message)
        run.problems.append(f"{what} failed: {error.message}")
        return None
