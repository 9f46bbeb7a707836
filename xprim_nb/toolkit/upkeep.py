"""The toolkit's verbs of upkeep: true sizes, clean-up, pins, leases, archives, sharing, adoption.

Source: spec 2 §Clean-up, §Access, §Adopt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from xprim_nb._bridge import Handle
from xprim_nb.cache.adopt.installing import Adopted
from xprim_nb.cache.adopt.scanning import AdoptedPlace
from xprim_nb.cache.upkeep.accounting import CacheAccounts
from xprim_nb.cache.upkeep.archive import ArchivePlan
from xprim_nb.cache.upkeep.archived import Archived
from xprim_nb.cache.upkeep.cleanup import CleanupPlan, CleanupPolicy
from xprim_nb.cache.upkeep.dedupe import DedupePlan, Deduplicated
from xprim_nb.cache.upkeep.execute import CleanupResult
from xprim_nb.cache.upkeep.leases import Lease
from xprim_nb.cache.upkeep.opening import OpenedFile
from xprim_nb.cache.upkeep.pins import Pin
from xprim_nb.cache.upkeep.restoring import Restored, RestorePlan
from xprim_nb.cache.upkeep.usage import Used
from xprim_nb.cache.upkeep.why import Why
from xprim_nb.events import PullProgress
from xprim_nb.manager import Manager
from xprim_nb.refs import ModelRef
from xprim_nb.toolkit.base import Verbs

__all__ = ["UpkeepVerbs"]


class UpkeepVerbs(Verbs):
    """See `Manager`; each verb returns a `Handle`. The latest progress of each version is the toolkit's."""

    _latest: dict[ModelRef, PullProgress]

    def accounts(self) -> Handle[CacheAccounts]:
        """See `Manager.accounts`."""
        return self._do("measure the cache", Manager.accounts)

    def plan_cleanup(self, policy: CleanupPolicy | None = None) -> Handle[CleanupPlan]:
        """See `Manager.plan_cleanup`."""
        return self._do("plan a clean-up", Manager.plan_cleanup, policy)

    def cleanup(self, plan: CleanupPlan | CleanupPolicy | None = None) -> Handle[CleanupResult]:
        """See `Manager.cleanup`."""
        return self._do("clean up", Manager.cleanup, plan)

    def plan_free(self, size: str | float, policy: CleanupPolicy | None = None) -> Handle[CleanupPlan]:
        """See `Manager.plan_free`."""
        return self._do(f"plan to free {size}", Manager.plan_free, size, policy)

    def free(self, size: str | float, policy: CleanupPolicy | None = None) -> Handle[CleanupResult]:
        """See `Manager.free`."""
        return self._do(f"free {size}", Manager.free, size, policy)

    def pin(self, ref: ModelRef | str, reason: str = "") -> Handle[Pin]:
        """See `Manager.pin`."""
        return self._do(f"pin {ref}", Manager.pin, ref, reason)

    def unpin(self, ref: ModelRef | str) -> Handle[bool]:
        """See `Manager.unpin`."""
        return self._do(f"unpin {ref}", Manager.unpin, ref)

    def pins(self) -> Handle[list[Pin]]:
        """See `Manager.pins`."""
        return self._do("list pins", Manager.pins)

    def lease(self, ref: ModelRef | str) -> Handle[Lease]:
        """See `Manager.lease`."""
        return self._do(f"lease {ref}", Manager.lease, ref)

    def open_file(self, ref: ModelRef | str, path: str, mmap: bool = True) -> Handle[OpenedFile]:
        """See `Manager.open_file`."""
        return self._do(f"open {path} of {ref}", Manager.open_file, ref, path, mmap)

    def usage(self) -> Handle[Mapping[str, Used]]:
        """See `Manager.usage`."""
        return self._do("look up usage", Manager.usage)

    def why(self, path: Path | str) -> Handle[Why]:
        """See `Manager.why`."""
        return self._do(f"look into {path}", Manager.why, path)

    def plan_dedupe(self, *, hard_links: bool = False) -> Handle[DedupePlan]:
        """See `Manager.plan_dedupe`."""
        return self._do("look for equal files", Manager.plan_dedupe, hard_links=hard_links)

    def dedupe(self, plan: DedupePlan | None = None, *, hard_links: bool = False) -> Handle[Deduplicated]:
        """See `Manager.dedupe`."""
        return self._do("share equal files", Manager.dedupe, plan, hard_links=hard_links)

    def plan_archive(self, ref: ModelRef | str) -> Handle[ArchivePlan]:
        """See `Manager.plan_archive`."""
        return self._do(f"plan to archive {ref}", Manager.plan_archive, ref)

    def archive(self, ref: ModelRef | str) -> Handle[Archived]:
        """See `Manager.archive`."""
        return self._do(f"archive {ref}", Manager.archive, ref)

    def plan_restore(self, ref: ModelRef | str) -> Handle[RestorePlan]:
        """See `Manager.plan_restore`."""
        return self._do(f"plan to restore {ref}", Manager.plan_restore, ref)

    def restore(
        self,
        ref: ModelRef | str,
        *,
        concurrency: int | None = None,
        progress: Callable[[PullProgress], object] | None = None,
    ) -> Handle[Restored]:
        """See `Manager.restore`. The handle's snapshot is the latest `PullProgress`.

        Raises:
            InvalidRefError: At once, before anything is started.
        """
        parsed = ModelRef.parse(ref).require_version()
        self._latest.pop(parsed, None)
        return self._do(
            f"restore {parsed}",
            Manager.restore,
            parsed,
            snapshot=lambda: self._latest.get(parsed),
            concurrency=concurrency,
            progress=progress,
        )

    def archived(self) -> Handle[list[Archived]]:
        """See `Manager.archived`."""
        return self._do("list archives", Manager.archived)

    def remove_archive(self, ref: ModelRef | str) -> Handle[Path | None]:
        """See `Manager.remove_archive`."""
        return self._do(f"remove the archive of {ref}", Manager.remove_archive, ref)

    def scan(self, place: Path | str) -> Handle[AdoptedPlace]:
        """See `Manager.scan`."""
        return self._do(f"scan {place}", Manager.scan, place)

    def adopt(
        self,
        place: Path | str,
        *,
        install_as: ModelRef | str | None = None,
        model: str | None = None,
        concurrency: int | None = None,
        progress: Callable[[PullProgress], object] | None = None,
    ) -> Handle[Adopted]:
        """See `Manager.adopt`. While it installs, the handle's snapshot is the latest `PullProgress`.

        Raises:
            InvalidRefError: At once, before anything is started.
        """
        parsed = ModelRef.parse(install_as).require_version() if install_as is not None else None
        if parsed is not None:
            self._latest.pop(parsed, None)
        return self._do(
            f"adopt {place}",
            Manager.adopt,
            place,
            snapshot=(lambda: self._latest.get(parsed)) if parsed is not None else None,
            install_as=parsed,
            model=model,
            concurrency=concurrency,
            progress=progress,
        )

    def adopted(self) -> Handle[list[AdoptedPlace]]:
        """See `Manager.adopted`."""
        return self._do("list adopted directories", Manager.adopted)

    def forget_adopted(self, place: Path | str | None = None) -> Handle[list[str]]:
        """See `Manager.forget_adopted`."""
        return self._do("forget adopted directories", Manager.forget_adopted, place)
