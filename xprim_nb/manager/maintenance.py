"""The verbs of maintenance: run it, plan it, schedule it, let it run by itself in this process.

Outside a kernel something else calls `xprim maintain --if-due` (cron, systemd, launchd, the Task Scheduler); both may
be at work, since a run holds a lock and asks again, with the lock held, whether it is still due.

Source: spec 2 §Maintenance.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from xprim_nb._threads import settled
from xprim_nb.cache.history import record
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.state import State
from xprim_nb.errors import ConfigError, XprimError
from xprim_nb.events import EventHub
from xprim_nb.manager.reading import Reading, at_home

if TYPE_CHECKING:
    from xprim_nb.cache.health.report import Depth
    from xprim_nb.cache.upkeep.cleanup import CleanupPolicy
    from xprim_nb.manager.due import MaintenanceRecord, Schedule
    from xprim_nb.manager.maintaining import Maintainer
    from xprim_nb.manager.steward import MaintenancePlan, MaintenanceReport

__all__ = ["Maintenance"]

_log = logging.getLogger("xprim_nb.manager")

# A laptop that was asleep when it was due catches up within this.
_POLL_S = 300.0


class Maintenance(Reading):
    """The part of `Manager` that looks after everything. Loads what it is made of at its first verb."""

    events: EventHub
    _layout: Layout
    _state: State
    _caretaker: Maintainer | None = None
    _watch: asyncio.Task[None] | None = None

    @property
    def _maintainer(self) -> Maintainer:
        if self._caretaker is None:
            made: Maintainer = importlib.import_module("xprim_nb.manager.maintaining").Maintainer(
                steward=self,
                bundles=self,
                record_file=self._layout.cache / "maintenance.json",
                lock_file=self._layout.cache / "locks" / "maintenance.lock",
                events=self.events,
            )
            self._caretaker = made
        return self._caretaker

    @at_home
    async def maintain(
        self,
        policy: CleanupPolicy | None = None,
        *,
        if_due: bool = False,
        schedule: Schedule | None = None,
        depth: Depth = "quick",
        scrub_s: float = 60.0,
    ) -> MaintenanceReport:
        """Check, mend, clean up, optimise, and say what was done. Never twice at once, in any process.

        Args:
            policy: A `CleanupPolicy`; its default, which removes no model, when None.
            if_due: Only when the schedule says so; a cache without one has none to say it.
            schedule: `daily`, `weekly` or `monthly`, instead of the one that is remembered.
            depth: `quick`, or `full` to hash every byte.
            scrub_s: Seconds to spend, with `quick`, on hashing what was verified longest ago.

        Raises:
            ConfigError: The record was written by a newer version of this program.
            StorageError: The record cannot be read or written. All else that fails is in the report.
        """
        report = await self._maintainer.run(
            policy, if_due=if_due, schedule=schedule, depth=depth, scrub_s=scrub_s
        )
        if report.ran:
            await settled(record, self._state, "maintain", "", report.model_dump(mode="json"))
        return report

    @at_home
    async def plan_maintenance(
        self,
        policy: CleanupPolicy | None = None,
        *,
        schedule: Schedule | None = None,
    ) -> MaintenancePlan:
        """What `maintain` would do now; changes nothing.

        Raises:
            ConfigError, StorageError: See `maintain`.
        """
        return await self._maintainer.plan(policy, schedule=schedule)

    @at_home
    async def maintenance_record(self) -> MaintenanceRecord:
        """The schedule, and when it last ran.

        Raises:
            ConfigError, StorageError: See `maintain`.
        """
        return await self._maintainer.record()

    @at_home
    async def schedule_maintenance(self, schedule: Schedule | None) -> MaintenanceRecord:
        """Remember when `maintain(if_due=True)` shall do something: `daily`, `weekly`, `monthly`, or None for never.

        Raises:
            ConfigError: It is none of these, or the record was written by a newer version of this program.
            StorageError: The record cannot be written.
        """
        if schedule not in ("daily", "weekly", "monthly", None):
            raise ConfigError(
                f"{schedule!r} is no schedule.",
                subject="schedule",
                hint="Use daily, weekly, monthly or None.",
            )
        return await self._maintainer.set_schedule(schedule)

    @at_home
    async def start_maintenance(
        self,
        policy: CleanupPolicy | None = None,
        *,
        poll_s: float = _POLL_S,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> bool:
        """Maintain by itself, as long as this manager is open: ask every `poll_s` seconds whether it is due.

        Args:
            policy: A `CleanupPolicy`.
            poll_s: Seconds between two questions.
            sleep: Waits between them.

        Returns:
            False when it was started before and still runs.
        """
        if self._watch is not None and not self._watch.done():
            return False
        self._watch = asyncio.create_task(self._look_after(policy, poll_s, sleep), name="xprim-maintenance")
        return True

    @at_home
    async def stop_maintenance(self) -> bool:
        """End that; a run under way is cancelled, and cleans up. False when nothing ran."""
        return await self._stop_watch()

    async def _stop_watch(self) -> bool:
        watch, self._watch = self._watch, None
        if watch is None or watch.done():
            return False
        watch.cancel()
        await asyncio.wait([watch])
        return True

    async def _look_after(
        self, policy: CleanupPolicy | None, poll_s: float, sleep: Callable[[float], Awaitable[object]]
    ) -> None:
        while True:
            try:
                report = await self.maintain(policy, if_due=True)
                if report.ran:
                    _log.info("maintenance: %s", report.verdict)
            except XprimError as error:  # the next time may do
                _log.warning("maintenance could not run: %s", error.message)
            except Exception:  # noqa: BLE001  # a bug in one run must not end the ones after it
                _log.exception("maintenance failed")
            await sleep(poll_s)
