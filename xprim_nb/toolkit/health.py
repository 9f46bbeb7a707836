"""The toolkit's verbs that look after what is installed.

Source: spec 2 §Validation, §Repair, §Status.
"""

from __future__ import annotations

from collections.abc import Callable

from xprim_nb._bridge import Handle
from xprim_nb.cache.health.repaired import Repaired, RepairPlan
from xprim_nb.cache.health.report import Depth, ValidationReport
from xprim_nb.cache.health.rules import HealthPolicy
from xprim_nb.cache.health.scrub import Scrubbed
from xprim_nb.cache.health.status import CacheStatus
from xprim_nb.events import CheckProgress
from xprim_nb.manager import Manager
from xprim_nb.refs import ModelRef
from xprim_nb.toolkit.base import Verbs

__all__ = ["HealthVerbs"]


class HealthVerbs(Verbs):
    """See `Manager`; each verb returns a `Handle`, whose snapshot is the latest `CheckProgress` where bytes are hashed.

    A ref that is none raises `InvalidRefError` at once, before anything is started.
    """

    _checks: dict[tuple[str, ModelRef | None], CheckProgress]

    def _followed(self, doing: str, ref: ModelRef | None = None) -> Callable[[], CheckProgress | None]:
        self._checks.pop((doing, ref), None)
        return lambda: self._checks.get((doing, ref))

    def validate(
        self, ref: ModelRef | str, depth: Depth = "quick", *, policy: HealthPolicy | None = None
    ) -> Handle[ValidationReport]:
        """See `Manager.validate`."""
        parsed = ModelRef.parse(ref).require_version()
        follow = self._followed("validate", parsed)
        return self._do(f"validate {parsed}", Manager.validate, parsed, depth, snapshot=follow, policy=policy)

    def validate_all(
        self, depth: Depth = "quick", *, policy: HealthPolicy | None = None
    ) -> Handle[list[ValidationReport]]:
        """See `Manager.validate_all`."""
        follow = self._followed("validate")
        return self._do("validate everything", Manager.validate_all, depth, snapshot=follow, policy=policy)

    def scrub(self, budget_s: float = 60.0, *, policy: HealthPolicy | None = None) -> Handle[Scrubbed]:
        """See `Manager.scrub`."""
        follow = self._followed("scrub")
        return self._do(
            f"scrub for {budget_s:.0f} s", Manager.scrub, budget_s, snapshot=follow, policy=policy
        )

    def plan_repair(self, ref: ModelRef | str, *, overwrite_modified: bool = False) -> Handle[RepairPlan]:
        """See `Manager.plan_repair`."""
        return self._do(
            f"plan a repair of {ref}", Manager.plan_repair, ref, overwrite_modified=overwrite_modified
        )

    def repair(self, ref: ModelRef | str, *, overwrite_modified: bool = False) -> Handle[Repaired]:
        """See `Manager.repair`."""
        parsed = ModelRef.parse(ref).require_version()
        follow = self._followed("repair", parsed)
        return self._do(
            f"repair {parsed}",
            Manager.repair,
            parsed,
            snapshot=follow,
            overwrite_modified=overwrite_modified,
        )

    def status(self, ref: ModelRef | str | None = None) -> Handle[CacheStatus]:
        """See `Manager.status`."""
        return self._do("look at the cache", Manager.status, ref)
