"""The toolkit's verbs for maintenance.

Source: spec 2 §Maintenance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xprim_nb._bridge import Handle
from xprim_nb.manager import Manager
from xprim_nb.toolkit.base import Verbs

if TYPE_CHECKING:
    from xprim_nb.cache.health.report import Depth
    from xprim_nb.cache.upkeep.cleanup import CleanupPolicy
    from xprim_nb.manager.due import MaintenanceRecord, Schedule
    from xprim_nb.manager.steward import MaintenancePlan, MaintenanceReport

__all__ = ["MaintenanceVerbs"]


class MaintenanceVerbs(Verbs):
    """See `Manager`; each verb returns a `Handle`."""

    def maintain(
        self,
        policy: CleanupPolicy | None = None,
        *,
        if_due: bool = False,
        schedule: Schedule | None = None,
        depth: Depth = "quick",
        scrub_s: float = 60.0,
    ) -> Handle[MaintenanceReport]:
        """See `Manager.maintain`."""
        return self._do(
            "maintain",
            Manager.maintain,
            policy,
            if_due=if_due,
            schedule=schedule,
            depth=depth,
            scrub_s=scrub_s,
        )

    def plan_maintenance(
        self,
        policy: CleanupPolicy | None = None,
        *,
        schedule: Schedule | None = None,
    ) -> Handle[MaintenancePlan]:
        """See `Manager.plan_maintenance`."""
        return self._do("plan maintenance", Manager.plan_maintenance, policy, schedule=schedule)

    def maintenance_record(self) -> Handle[MaintenanceRecord]:
        """See `Manager.maintenance_record`."""
        return self._do("recall maintenance", Manager.maintenance_record)

    def schedule_maintenance(self, schedule: Schedule | None) -> Handle[MaintenanceRecord]:
        """See `Manager.schedule_maintenance`."""
        return self._do("schedule maintenance", Manager.schedule_maintenance, schedule)

    def start_maintenance(
        self, policy: CleanupPolicy | None = None, *, poll_s: float = 300.0
    ) -> Handle[bool]:
        """See `Manager.start_maintenance`; it ends with the toolkit."""
        return self._do("start maintenance", Manager.start_maintenance, policy, poll_s=poll_s)

    def stop_maintenance(self) -> Handle[bool]:
        """See `Manager.stop_maintenance`."""
        return self._do("stop maintenance", Manager.stop_maintenance)
