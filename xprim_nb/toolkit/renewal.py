"""The toolkit's verbs for bringing installed versions up to date and back.

Source: spec 2 §Refresh.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from xprim_nb._bridge import Handle
from xprim_nb.events import PullProgress
from xprim_nb.manager import Manager
from xprim_nb.refs import ModelRef
from xprim_nb.toolkit.base import Verbs

if TYPE_CHECKING:
    from xprim_nb.cache.renewal.strategy import UpdateStrategy
    from xprim_nb.cache.renewal.values import (
        Backup,
        Dropped,
        DropPlan,
        Refreshed,
        RefreshPlan,
        Restored,
        RollbackPlan,
    )

__all__ = ["RenewalVerbs"]


class RenewalVerbs(Verbs):
    """See `Manager`; each verb returns a `Handle`. The latest progress of each version is the toolkit's."""

    _latest: dict[ModelRef, PullProgress]

    def plan_refresh(
        self, ref: ModelRef | str, strategy: UpdateStrategy | None = None
    ) -> Handle[RefreshPlan]:
        """See `Manager.plan_refresh`."""
        return self._do(f"plan a refresh of {ref}", Manager.plan_refresh, ref, strategy)

    def refresh(
        self,
        ref: ModelRef | str,
        strategy: UpdateStrategy | None = None,
        *,
        concurrency: int | None = None,
        progress: Callable[[PullProgress], object] | None = None,
    ) -> Handle[Refreshed]:
        """See `Manager.refresh`. The handle's snapshot is the latest `PullProgress`.

        Raises:
            InvalidRefError: At once, before anything is started.
        """
        parsed = ModelRef.parse(ref).require_version()
        return self._do(
            f"refresh {parsed}",
            Manager.refresh,
            parsed,
            strategy,
            snapshot=lambda: self._latest.get(parsed),
            concurrency=concurrency,
            progress=progress,
        )

    def plan_rollback(self, ref: ModelRef | str, to: str | None = None) -> Handle[RollbackPlan]:
        """See `Manager.plan_rollback`."""
        return self._do(f"plan a rollback of {ref}", Manager.plan_rollback, ref, to)

    def rollback(
        self, ref: ModelRef | str, to: str | None = None, *, force: bool = False
    ) -> Handle[Restored]:
        """See `Manager.rollback`."""
        return self._do(f"roll back {ref}", Manager.rollback, ref, to, force=force)

    def backups(self, ref: ModelRef | str | None = None) -> Handle[list[Backup]]:
        """See `Manager.backups`."""
        return self._do("list backups", Manager.backups, ref)

    def plan_drop_backup(self, ref: ModelRef | str, which: str | None = None) -> Handle[DropPlan]:
        """See `Manager.plan_drop_backup`."""
        return self._do(f"plan to drop backups of {ref}", Manager.plan_drop_backup, ref, which)

    def drop_backup(self, ref: ModelRef | str, which: str | None = None) -> Handle[tuple[Dropped, ...]]:
        """See `Manager.drop_backup`."""
        return self._do(f"drop backups of {ref}", Manager.drop_backup, ref, which)
