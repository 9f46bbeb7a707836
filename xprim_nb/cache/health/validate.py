"""Validate installed models, remember what was found, and tell it.

    1. What the registry last said is read from the cache: nobody is asked.
    2. The model is looked at in a thread. Whatever put another version in its place meanwhile, it is looked at again.
    3. The verdict, the files it rests on and the chunks found right are kept; damage is told.

Source: spec 2 §Validation.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Collection
from typing import Literal

from xprim_nb._threads import settled
from xprim_nb.cache.health.examine import Examined, Examiner
from xprim_nb.cache.health.hashing import stoppable
from xprim_nb.cache.health.report import Depth, ValidationReport
from xprim_nb.cache.health.rules import HealthPolicy
from xprim_nb.cache.health.verdicts import Verdicts
from xprim_nb.cache.store import Store
from xprim_nb.cache.values import InstalledModel
from xprim_nb.errors import NotInstalledError
from xprim_nb.events import CheckProgress, CorruptionFound, EventHub
from xprim_nb.refs import ModelRef
from xprim_nb.registry.client import IndexAnswer, RegistryClient

__all__ = ["Teller", "Validator"]

# How often a model that is being replaced under our eyes is looked at again.
_TRIES = 3
# Ten a second look continuous.
_INTERVAL_S = 0.1


class Validator:
    """Validates. Holds nothing open itself.

    Args:
        store: What is installed.
        examiner: Looks at one model.
        verdicts: Where what was found is kept.
        client: The registry; only its cached index is read.
        events: Where progress and damage are told.
    """

    def __init__(
        self,
        store: Store,
        examiner: Examiner,
        verdicts: Verdicts,
        client: RegistryClient,
        events: EventHub,
    ) -> None:
        self._store, self._examiner, self._verdicts = store, examiner, verdicts
        self._client, self._events = client, events

    async def validate(
        self, ref: ModelRef, depth: Depth = "quick", policy: HealthPolicy | None = None
    ) -> ValidationReport:
        """What is to be said of one installed model.

        Raises:
            NotInstalledError: It is neither listed nor there.
            StorageError: The disk cannot be read.
        """
        answer = await self._client.cached_index()
        report = await stoppable(
            functools.partial(self._validate, ref, depth, answer, policy or HealthPolicy(), (1, 0), None)
        )
        await settled(self._remember, str(ref), depth, [report])
        return report

    async def validate_all(
        self, depth: Depth = "quick", policy: HealthPolicy | None = None
    ) -> list[ValidationReport]:
        """The same for every installed model, sorted by ref; asked once, one after the other.

        Raises:
            StorageError: `registry.json` cannot be read.
        """
        answer = await self._client.cached_index()
        models = await settled(self._store.list)
        is_damaged = (await settled(self._store.document))[1]
        reports = []
        for number, model in enumerate(models):
            rest = (depth, answer, policy or HealthPolicy(), (len(models), number))
            listed = (
                None if is_damaged else model
            )  # read once: of thousands, each would read the whole list again
            try:
                reports.append(await stoppable(functools.partial(self._validate, model.ref, *rest, listed)))
            except NotInstalledError:  # removed meanwhile
                continue
        await settled(self._remember, "", depth, reports)
        return reports

    def _remember(self, ref: str, depth: Depth, reports: list[ValidationReport]) -> None:
        """One line in the history, however many models were looked at."""
        self._verdicts.remember(
            "validate",
            ref,
            depth=depth,
            models=len(reports),
            failed=[report.model_id for report in reports if report.overall_status == "failed"],
            degraded=sum(report.overall_status == "degraded" for report in reports),
            bytes_hashed=sum(report.bytes_hashed for report in reports),
            seconds=round(sum(report.seconds for report in reports), 3),
        )

    def look(
        self,
        ref: ModelRef,
        depth: Depth,
        answer: IndexAnswer | None,
        policy: HealthPolicy,
        *,
        model: InstalledModel | None = None,
        suspects: Collection[int] = (),
        told: Callable[[int, int], None] | None = None,
        stop: threading.Event | None = None,
    ) -> Examined:
        """Steps 2 and 3 for one model, in the calling thread, without a word to anybody."""
        for _ in range(_TRIES):
            found = self._examiner.examine(
                ref, depth, answer, policy, model=model, suspects=suspects, told=told, stop=stop
            )
            if self._examiner.token_of(ref) == found.token:
                break
        self.keep(ref, found)
        return found

    def keep(self, ref: ModelRef, found: Examined) -> None:
        """Keep what was found."""
        self._verdicts.record(ref, found.report, found.inspection.files, plain=found.is_plain)
        if found.manifest is not None and (found.inspection.right or found.inspection.wrong):
            count = len(found.manifest.manifest.chunks)
            at = found.report.validation_timestamp.timestamp()
            self._verdicts.mark_chunks(found.model, count, found.inspection.right, found.inspection.wrong, at)

    def _validate(
        self,
        ref: ModelRef,
        depth: Depth,
        answer: IndexAnswer | None,
        policy: HealthPolicy,
        place: tuple[int, int],
        model: InstalledModel | None,
        stop: threading.Event,
    ) -> ValidationReport:
        teller = Teller(self._events, ref, "validate", *place)
        found = self.look(ref, depth, answer, policy, model=model, told=teller, stop=stop)
        if model is not None and found.report.overall_status == "failed":  # removed or replaced meanwhile?
            found = self.look(ref, depth, answer, policy, told=teller, stop=stop)
        report = found.report
        teller.finish(report.bytes_hashed)
        if report.overall_status == "failed":
            self._events.publish(CorruptionFound(ref, report.verdict, report.recommendations.details))
        return report


class Teller:
    """Publishes how far one check is, at most ten times a second. Called from any thread.

    Args:
        events: Where it is told.
        ref: The model looked at.
        doing: What is done to it.
        models_total: Models to be looked at.
        models_done: Models looked at already.
    """

    def __init__(
        self,
        events: EventHub,
        ref: ModelRef,
        doing: Literal["validate", "scrub", "repair"],
        models_total: int = 1,
        models_done: int = 0,
    ) -> None:
        self._events, self._ref, self._doing = events, ref, doing
        self._models = models_total, models_done
        self._lock, self._told_at = threading.Lock(), 0.0

    def __call__(self, done: int, total: int) -> None:
        """So many bytes are done, of so many."""
        with self._lock:
            now = time.monotonic()
            if now - self._told_at < _INTERVAL_S:
                return
            self._told_at = now
        self._events.publish(CheckProgress(self._ref, self._doing, total, done, *self._models))

    def finish(self, done: int) -> None:
        """This model is done."""
        total, before = self._models
        self._events.publish(
            CheckProgress(self._ref, self._doing, done, done, total, before + 1, finished=True)
        )
