"""Spend a time budget on the chunks that were verified longest ago, and remember.

    1. Every model has an oldest chunk. The model with the oldest of all is next.
    2. Its chunks are hashed, oldest first, in batches, until another model has an older one or the time is spent.
    3. A model with a wrong chunk is looked at at once: which files, and what to do.

Source: spec 2 §Validation ("91 % verified within 30 days").
"""

from __future__ import annotations

import functools
import heapq
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict

from xprim_nb._text import format_bytes, format_seconds
from xprim_nb.cache.health.examine import Examiner
from xprim_nb.cache.health.hashing import hashed_chunks, stoppable
from xprim_nb.cache.health.report import SCHEMA_VERSION, ValidationReport
from xprim_nb.cache.health.rules import HealthPolicy
from xprim_nb.cache.health.validate import Teller, Validator
from xprim_nb.cache.health.verdicts import Verdicts
from xprim_nb.cache.store import Store
from xprim_nb.cache.values import InstalledModel
from xprim_nb.events import CorruptionFound, EventHub
from xprim_nb.registry.client import IndexAnswer, RegistryClient

__all__ = ["Scrubbed", "Scrubber", "coverage"]

# What the sentence at the end counts as lately.
_RECENT_DAYS = 30.0
_DAY_S = 24 * 3600.0
# Between two looks at the clock each core hashes a few chunks: some hundredths of a second.
_BATCH_A_CORE = 4


class Scrubbed(BaseModel):
    """What a scrub did.

    Attributes:
        schema_version: Of this document.
        chunks_checked: Chunks hashed.
        bytes_hashed: Their bytes.
        seconds: How long it took.
        models_checked: Names of the models whose chunks these were, in the order they were taken.
        damaged: A report on each model in which damage was found.
        recent_share: Share of all installed bytes that was verified within `recent_days`: 0.0 to 1.0.
        recent_days: See there.
        oldest_at: When the chunk that now is the oldest was verified; None when nothing is installed.
        verdict: One sentence.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    schema_version: int = SCHEMA_VERSION
    chunks_checked: int = 0
    bytes_hashed: int = 0
    seconds: float = 0.0
    models_checked: tuple[str, ...] = ()
    damaged: tuple[ValidationReport, ...] = ()
    recent_share: float = 1.0
    recent_days: float = _RECENT_DAYS
    oldest_at: datetime | None = None
    verdict: str = ""

    def __str__(self) -> str:
        return "\n".join([self.verdict, *(f"  {report.verdict}" for report in self.damaged)])


@dataclass(slots=True)
class _Tally:
    """What one scrub has done so far."""

    chunks: int = 0
    size_bytes: int = 0
    models: dict[str, None] = field(default_factory=dict)
    damaged: list[ValidationReport] = field(default_factory=list)


class Scrubber:
    """Scrubs. Holds nothing open itself.

    Args:
        store: What is installed.
        examiner: Finds manifests.
        validator: Looks at models in which a chunk is wrong.
        verdicts: When each chunk was verified.
        client: The registry; only its cached index is read.
        events: Where progress and damage are told.
        clock: Seconds that only grow; a test's clock.
    """

    def __init__(
        self,
        store: Store,
        examiner: Examiner,
        validator: Validator,
        verdicts: Verdicts,
        client: RegistryClient,
        events: EventHub,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._examiner = store, examiner
        self._validator, self._verdicts = validator, verdicts
        self._client, self._events, self._clock = client, events, clock

    async def scrub(self, budget_s: float, policy: HealthPolicy | None = None) -> Scrubbed:
        """Verify for so many seconds.

        Raises:
            StorageError: `registry.json` cannot be read.
        """
        answer = await self._client.cached_index()
        work = functools.partial(self._scrub, budget_s, answer, policy or HealthPolicy())
        return await stoppable(work)

    def _scrub(
        self, budget_s: float, answer: IndexAnswer | None, policy: HealthPolicy, stop: threading.Event
    ) -> Scrubbed:
        began, tally = self._clock(), _Tally()
        deadline = began + budget_s
        models = {str(model.ref): model for model in self._store.list()}
        oldest = _oldest(models, self._verdicts)
        heapq.heapify(oldest)
        started = int(time.time())
        while oldest and self._clock() < deadline and not stop.is_set():
            when, name = heapq.heappop(oldest)
            if when >= started and name in tally.models:  # verified by this very scrub
                continue
            limit = oldest[0][0] if oldest else started
            following = self._scrub_model(models[name], limit, deadline, answer, policy, tally, stop)
            if following is not None:
                heapq.heappush(oldest, (following, name))
        result = self._result(list(models.values()), tally, self._clock() - began)
        self._verdicts.remember(
            "scrub",
            "",
            chunks_checked=result.chunks_checked,
            bytes_hashed=result.bytes_hashed,
            seconds=round(result.seconds, 3),
            damaged=[report.model_id for report in result.damaged],
            recent_share=round(result.recent_share, 4),
        )
        return result

    def _scrub_model(
        self,
        model: InstalledModel,
        limit: int,
        deadline: float,
        answer: IndexAnswer | None,
        policy: HealthPolicy,
        tally: _Tally,
        stop: threading.Event,
    ) -> int | None:
        """Step 2 for one model; the time of its then oldest chunk, None when it is done for now."""
        verified = self._examiner.manifest_of(model)
        if verified is None:
            tally.damaged.append(self._report(model, set(), answer, policy))
            return None
        manifest = verified.manifest
        times = self._verdicts.chunk_times(model, len(manifest.chunks))
        order = sorted(range(len(times)), key=lambda index: (times[index], index))
        teller = Teller(self._events, model.ref, "scrub")
        right, wrong, at = set[int](), set[int](), time.time()
        batch = _BATCH_A_CORE * (os.cpu_count() or 1)
        position = 0
        while (
            position < len(order)
            and times[order[position]] <= limit
            and self._clock() < deadline
            and not stop.is_set()
        ):
            numbers = order[position : position + batch]
            position += len(numbers)
            for index, good in hashed_chunks(model.path, manifest, numbers):
                (right if good else wrong).add(index)
                tally.chunks += 1
                tally.size_bytes += manifest.sizes[index]
            teller(sum(manifest.sizes[index] for index in order[:position]), manifest.total_size)
        tally.models[str(model.ref)] = None
        self._verdicts.mark_chunks(model, len(times), right, wrong, at)
        if wrong:  # 3
            tally.damaged.append(self._report(model, wrong, answer, policy))
        teller.finish(sum(manifest.sizes[index] for index in right))
        return times[order[position]] if position < len(order) else None

    def _report(
        self, model: InstalledModel, wrong: set[int], answer: IndexAnswer | None, policy: HealthPolicy
    ) -> ValidationReport:
        report = self._validator.look(model.ref, "quick", answer, policy, suspects=wrong).report
        if report.overall_status == "failed":
            self._events.publish(CorruptionFound(model.ref, report.verdict, report.recommendations.details))
        return report

    def _result(self, models: list[InstalledModel], tally: _Tally, seconds: float) -> Scrubbed:
        share, oldest = coverage(models, self._verdicts, time.time() - _RECENT_DAYS * _DAY_S)
        damaged = [report for report in tally.damaged if report.overall_status == "failed"]
        told = (
            f"{format_bytes(tally.size_bytes)} verified in {format_seconds(seconds)}; "
            f"{int(share * 100)} % verified within {_RECENT_DAYS:.0f} days."
        )
        if damaged:
            names = ", ".join(report.model_id for report in damaged)
            told += f" Damage was found in {names}. {damaged[0].recommendations.details}"
        return Scrubbed(
            chunks_checked=tally.chunks,
            bytes_hashed=tally.size_bytes,
            seconds=seconds,
            models_checked=tuple(tally.models),
            damaged=tuple(damaged),
            recent_share=share,
            oldest_at=oldest,
            verdict=told,
        )


def _oldest(models: dict[str, InstalledModel], verdicts: Verdicts) -> list[tuple[int, str]]:
    """For each model the time of its oldest chunk: 0 where one was found wrong, which is looked at first."""
    stored, found = verdicts.all_chunk_times(), []
    for name, model in models.items():
        times = stored.get(name)
        installed = int(model.installed_at.timestamp())
        if times is None or times[0] != model.manifest_hash or not times[1]:
            found.append((installed, name))
        else:
            found.append((max(min(times[1]), installed) if min(times[1]) else 0, name))
    return found


def coverage(models: list[InstalledModel], verdicts: Verdicts, since: float) -> tuple[float, datetime | None]:
    """Share of the installed bytes that was verified since then (by chunk count), and the oldest verification."""
    stored, total, recent = verdicts.all_chunk_times(), 0, 0.0
    oldest: int | None = None
    for model in models:
        installed, known = int(model.installed_at.timestamp()), stored.get(str(model.ref))
        times = list(known[1]) if known is not None and known[0] == model.manifest_hash else []
        moments = [max(each, installed) if each else 0 for each in times] or [installed]
        total += model.total_size
        recent += model.total_size * sum(each >= since for each in moments) / len(moments)
        oldest = min(moments) if oldest is None else min(oldest, *moments)
    share = recent / total if total else 1.0
    return share, None if oldest is None else datetime.fromtimestamp(oldest, UTC)
