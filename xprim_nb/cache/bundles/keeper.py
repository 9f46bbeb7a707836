"""The verbs on bundles: initialize, derive, validate, repair, refresh. Each holds the bundle's lock.

Source: spec 2 §Information bundle, §Validation, §Repair, §Refresh; seeds/000.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from xprim_nb._files import locked
from xprim_nb._hashing import sha256_hex
from xprim_nb._threads import settled
from xprim_nb.cache.bundles.derive import derive_documents
from xprim_nb.cache.bundles.examine import bundle_status, examine, find_all
from xprim_nb.cache.bundles.facts import ModelFacts, gather_facts
from xprim_nb.cache.bundles.fetch import Fetcher
from xprim_nb.cache.bundles.initialize import (
    BundlePlan,
    FetchStep,
    Initialized,
    Outcome,
    fetch_documents,
    plan_initialize,
)
from xprim_nb.cache.bundles.manifest import CacheInitRequest, DocumentSource
from xprim_nb.cache.bundles.naming import plan_documents
from xprim_nb.cache.bundles.store import Bundle, Shelf
from xprim_nb.cache.health.report import Depth, FileFinding, ValidationReport
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.store import Store
from xprim_nb.errors import NotInstalledError, StorageError
from xprim_nb.refs import ModelRef
from xprim_nb.registry.sources.answers import shown_url

__all__ = ["BundleKeeper", "BundleRepaired"]


class BundleRepaired(BaseModel):
    """What a repair of a bundle did: the seed's result, and how the bundle is now.

    Attributes:
        repairable: Nothing that is damaged is beyond what can be fetched or derived here.
        repair_actions: What was done, as sentences.
        success: Nothing is damaged any more.
        remaining_issues: What still is, as sentences.
        validation_report: How it is now.
        kept: Where the damaged bytes were put aside; empty when there were none.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    repairable: bool
    repair_actions: tuple[str, ...]
    success: bool
    remaining_issues: tuple[str, ...]
    validation_report: ValidationReport
    kept: str = ""

    def __str__(self) -> str:
        lines = [*self.repair_actions, *(f"still: {issue}" for issue in self.remaining_issues)]
        return "\n".join(lines or ["nothing was damaged"])


@dataclass(frozen=True, slots=True)
class BundleKeeper:
    """Works on bundles. Holds nothing open; safe from many tasks and processes.

    Attributes:
        layout: Where things lie.
        store: What is installed.
        fetcher: Fetches documents; stays its owner's.
        clock: Seconds since 1970.
    """

    layout: Layout
    store: Store
    fetcher: Fetcher
    clock: Callable[[], float] = time.time

    def bundle(self, ref: ModelRef) -> Bundle:
        """A model's bundle, whether or not there is one. Touches no disk."""
        name = ref.with_version("")
        return Bundle(name, self.layout.info / name.group / name.model)

    async def plan_initialize(self, request: CacheInitRequest) -> BundlePlan:
        """What `initialize` would do; see there for the errors."""
        bundle = self.bundle(ModelRef.parse(request.model_id))
        shelf = await settled(self._shelf, bundle) if bundle.exists else None
        return await settled(plan_initialize, bundle, request, shelf, offline=self.fetcher.offline)

    async def initialize(self, request: CacheInitRequest) -> Initialized:
        """Make or complete a bundle from URLs; what could be had is kept, whatever failed.

        Raises:
            InvalidRefError, ConfigError: The request cannot work; nothing was touched.
            StorageError: The disk refused; what was written stays.
        """
        ref, planned = ModelRef.parse(request.model_id), plan_documents(request)
        async with locked(self.layout.info_lock(ref)):
            shelf = await settled(self._shelf, self.bundle(ref))
            await settled(shelf.note, request=request)
            outcome = await fetch_documents(shelf, planned, self.fetcher)
            return await settled(self._finish, shelf, outcome, ref.version)

    async def derive(self, ref: ModelRef) -> Initialized:
        """Make or complete a bundle from an installed model; documents that were fetched or edited stay.

        Raises:
            NotInstalledError: The model is not installed.
            ConfigError: The bundle was written by a newer version of this program.
            StorageError: The disk refused.
        """
        facts = await settled(self._facts, ref)
        async with locked(self.layout.info_lock(ref)):
            shelf = await settled(self._shelf, self.bundle(ref))
            outcome = await settled(self._derive, shelf, facts, {})
            return await settled(self._finish, shelf, outcome, facts.model.ref.version, facts)

    async def validate(self, ref: ModelRef, depth: Depth = "full") -> ValidationReport:
        """How a bundle is now; the manifest remembers it.

        Args:
            ref: The model.
            depth: `quick` leaves checksums alone where the request said so; documents are small, so `full` is usual.

        Raises:
            NotInstalledError: There is no bundle.
            ConfigError: It was written by a newer version of this program.
            StorageError: The disk refused.
        """
        async with self._existing(ref) as shelf:
            return await settled(self._seal, shelf, depth=depth, updated=False)

    async def plan_refresh(self, ref: ModelRef) -> BundlePlan:
        """What `refresh` would do; see there for the errors."""
        async with self._existing(ref) as shelf:
            request, steps = shelf.sources.request, list[FetchStep]()
            if request is not None:
                plan = await settled(
                    plan_initialize, shelf.bundle, request, shelf, offline=self.fetcher.offline
                )
                steps += plan.steps
            for path, source in shelf.sources.documents.items():
                if source.origin == "derived":
                    edited = await settled(shelf.state_of, path) == "edited"
                    steps.append(FetchStep(path, "", "keep" if edited else "check"))
            return BundlePlan(shelf.bundle.ref, tuple(steps), self.fetcher.offline)

    async def refresh(self, ref: ModelRef) -> Initialized:
        """Ask upstream for what changed, and derive again what was derived. Edited documents stay as they are.

        Raises:
            NotInstalledError: There is no bundle.
            ConfigError: It was written by a newer version of this program.
            StorageError: The disk refused; what was written stays.
        """
        async with self._existing(ref) as shelf:
            request, outcome, facts = shelf.sources.request, Outcome([], [], {}, set()), None
            if request is not None:
                outcome = await fetch_documents(shelf, plan_documents(request), self.fetcher)
            facts = await settled(self._origin, shelf)
            if facts is not None:
                derived = await settled(self._derive, shelf, facts, {})
                outcome.updated += derived.updated
                outcome.conflicts += derived.conflicts
            return await settled(self._finish, shelf, outcome, "", facts)

    async def plan_repair(self, ref: ModelRef) -> BundlePlan:
        """What `repair` would bring; see there for the errors."""
        async with self._existing(ref) as shelf:
            damaged = await settled(_damage, shelf)
            documents = shelf.sources.documents
            steps = tuple(FetchStep(each.path, documents[each.path].url, "fetch") for each in damaged)
            return BundlePlan(shelf.bundle.ref, steps, self.fetcher.offline)

    async def repair(self, ref: ModelRef) -> BundleRepaired:
        """Fetch or derive again just the documents that are damaged or missing; their old bytes are put aside.

        Raises:
            NotInstalledError: There is no bundle.
            ConfigError: It was written by a newer version of this program.
            StorageError: The disk refused; what was mended stays so.
        """
        async with self._existing(ref) as shelf:
            damaged, request = await settled(_damage, shelf), shelf.sources.request
            kept = self.layout.kept_dir(ref.with_version("info"))
            aside = {each.path: kept for each in damaged}
            lost = {shelf.sources.documents[path].url for path in aside} | set(shelf.sources.failures)
            planned = plan_documents(request) if request else ()
            wanted = tuple(each for each in planned if each.url in lost)  # what never came is mended too
            outcome = await fetch_documents(shelf, wanted, self.fetcher, damaged=aside)
            facts = await settled(self._origin, shelf)
            if facts is not None:
                derived = await settled(self._derive, shelf, facts, aside)
                outcome.updated += derived.updated
            report = await settled(self._seal, shelf, updated=False, facts=facts)
            return _repaired(shelf, damaged, outcome, report, kept)

    @contextlib.asynccontextmanager
    async def _existing(self, ref: ModelRef) -> AsyncIterator[Shelf]:
        bundle = self.bundle(ref)
        await settled(bundle.require)  # an unknown name fails at once, and leaves no lock file
        async with locked(self.layout.info_lock(ref)):
            yield await settled(self._shelf, bundle)

    def _shelf(self, bundle: Bundle) -> Shelf:
        return Shelf(bundle, self.clock)

    def _facts(self, ref: ModelRef) -> ModelFacts:
        """What the installed version tells; of a model without a version, the one installed last."""
        installed = self.store.list()
        if not ref.version:
            versions = [each for each in installed if each.ref.name == ref.name]
            if versions:
                ref = max(versions, key=lambda each: (each.installed_at, each.ref)).ref
        model = self.store.get(ref if ref.version else ref.with_version("latest"))
        return gather_facts(model, self.store.manifest_of(model), installed)

    def _origin(self, shelf: Shelf) -> ModelFacts | None:
        """What the model tells that the bundle was derived from; None when it was not, or that model has gone."""
        if not shelf.sources.derived_from:
            return None
        try:
            return self._facts(ModelRef.parse(shelf.sources.derived_from))
        except (NotInstalledError, StorageError):  # what was derived from it stays
            return None

    def _derive(self, shelf: Shelf, facts: ModelFacts, aside: Mapping[str, Path]) -> Outcome:
        """Write what is derived: over what was derived before, beside what was edited, never over what was fetched."""
        outcome, writes = Outcome([], [], {}, set()), dict[str, tuple[bytes, DocumentSource]]()
        for path, data in derive_documents(facts).items():
            known, digest = shelf.sources.documents.get(path), sha256_hex(data)
            if known is not None and known.origin == "fetched":
                continue
            state = "missing" if path in aside else shelf.state_of(path)
            if state == "edited":
                if known is None or known.sha256 != digest:
                    shelf.put_beside(path, data)
                    outcome.conflicts.append(path)
            elif state == "missing" or known is None or known.sha256 != digest or known.origin == "unknown":
                if path in aside:
                    shelf.put_aside(path, aside[path])
                writes[path] = (data, DocumentSource(origin="derived", sha256=digest))
                outcome.updated.append(path)
        shelf.put(writes, derived_from=str(facts.model.ref), derived_hash=facts.model.manifest_hash)
        return outcome

    def _finish(
        self, shelf: Shelf, outcome: Outcome, version: str = "", facts: ModelFacts | None = None
    ) -> Initialized:
        asked = bool(outcome.answered or facts is not None) and not outcome.failures
        report = self._seal(shelf, updated=bool(outcome.updated) or asked, facts=facts, version=version)
        assert shelf.manifest is not None, "sealed just now"
        return Initialized(
            success=shelf.manifest.validation_status == "valid",
            cache_path=str(shelf.bundle.path),
            manifest=shelf.manifest,
            validation_report=report,
            updated=tuple(sorted(outcome.updated)),
            conflicts=tuple(sorted(outcome.conflicts)),
            problems=(*outcome.failures.values(), *(facts.problems if facts else ())),
        )

    def _seal(
        self,
        shelf: Shelf,
        *,
        updated: bool,
        depth: Depth = "full",
        facts: ModelFacts | None = None,
        version: str = "",
    ) -> ValidationReport:
        """Examine, and write down what was found."""
        before, request = shelf.manifest, shelf.sources.request
        dependencies = facts.dependencies if facts else before.dependencies if before else ()
        expiry = before.expiry_date if before else None
        if updated:
            age = timedelta(days=2 * request.validation_rules.max_age_days) if request else None
            expiry = _later(shelf.now, age)
            # Only what is written down counts when the age is asked for.
            shelf.seal("incomplete", updated=True, expiry=expiry, dependencies=dependencies, version=version)
        report = examine(shelf, self.store.list(), dependencies, depth)
        shelf.seal(
            bundle_status(report), updated=False, expiry=expiry, dependencies=dependencies, version=version
        )
        return report


def _later(now: datetime, age: timedelta | None) -> datetime | None:
    try:
        return now + age if age is not None else None
    except OverflowError:  # somebody's way to say never
        return None


def _damage(shelf: Shelf) -> list[FileFinding]:
    return [each for each in find_all(shelf) if each.is_damage]


def _repaired(
    shelf: Shelf, damaged: Sequence[FileFinding], outcome: Outcome, report: ValidationReport, kept: Path
) -> BundleRepaired:
    documents, actions = shelf.sources.documents, list(shelf.mended)
    for path in sorted(outcome.updated):
        source = documents[path]
        how = (
            f"fetched again from {shown_url(source.url)}"
            if source.url
            else f"derived again from {shelf.sources.derived_from}"
        )
        actions.append(f"{path} was {how}.")
    if kept.exists():
        actions.append(f"The damaged bytes were put aside in {kept}.")
    issues = [f"{each.path}: {each.sentence}" for each in report.damaged]
    issues += [
        f"{path}: it never came."
        for path in report.checks.completeness.missing_components
        if path not in {each.path for each in report.damaged}
    ]
    beyond = [each for each in report.damaged if not documents[each.path].url]
    return BundleRepaired(
        repairable=not beyond,
        repair_actions=tuple(actions),
        success=not issues,
        remaining_issues=(*issues, *(outcome.failures.values() if issues else ())),
        validation_report=report,
        kept=str(kept) if kept.exists() else "",
    )
