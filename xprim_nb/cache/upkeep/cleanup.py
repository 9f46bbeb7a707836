"""What a clean-up would remove, decided purely: no clock, no disk, replayable.

Steps, in order; each takes what the one before left:

    1. Stale leftovers: unfinished pulls and archives that nobody touched for `partial_idle_hours`, loose chunks, trees
       on their way out.
    2. Superseded backups: all but the newest of each version.
    3. Models installed longer ago than `max_model_age_days`.
    4. Models (and archives) unused for `unused_threshold_days`; archived instead of removed with `compression_enabled`.
    5. Least recently used models and archives, until the cache is under `max_cache_size_gb`, or the target is reached.

With a target every step stops as soon as it is reached, and no model is taken that the sum does not need.

A step never takes, in this order of reasons:

    a. what is pinned,
    b. what a living reader has leased,
    c. what somebody works on now,
    d. the last copy of files that somebody changed or added,
    e. what was used, installed or touched within `min_age_hours` (leftovers: `partial_idle_hours`),
    f. what a kept model depends on.

Source: spec 2 §Clean-up; seeds/000 §Cache Cleanup & Optimization.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from xprim_nb._text import format_bytes, format_span
from xprim_nb.cache.upkeep.accounting import Ledger, total_bytes
from xprim_nb.cache.upkeep.values import CacheFacts, Holding, HoldingKind, told_readers
from xprim_nb.errors import ConfigError

__all__ = [
    "Candidate",
    "CleanupPlan",
    "CleanupPolicy",
    "Guard",
    "Spared",
    "dependents",
    "parse_size",
    "plan_cleanup",
]

Guard: TypeAlias = Literal["pinned", "leased", "busy", "changed", "young", "needed"]

_DAY_S, _HOUR_S = 86_400.0, 3_600.0
_GB = 1024**3
_REF_KINDS = ("model", "archive")


class CleanupPolicy(BaseModel):
    """What may go. The default removes stale leftovers and superseded backups, and no model.

    Attributes:
        max_cache_size_gb: Least recently used models go until the cache is below, in GiB; None for no limit.
        max_model_age_days: Models installed longer ago go; None for no limit.
        unused_threshold_days: Models not used for longer go; None for no limit.
        compression_enabled: Archive unused models instead of removing them (extra `archive`).
        deduplication_enabled: Let equal files share their blocks afterwards, where the file system can.
        cleanup_schedule: When maintenance does this; None for never by itself.
        partial_idle_hours: Leftovers untouched for longer are stale.
        min_age_hours: What was used or installed within is spared.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    max_cache_size_gb: float | None = Field(default=None, ge=0)
    max_model_age_days: float | None = Field(default=None, ge=0)
    unused_threshold_days: float | None = Field(default=None, ge=0)
    compression_enabled: bool = False
    deduplication_enabled: bool = False
    cleanup_schedule: Literal["daily", "weekly", "monthly"] | None = None
    partial_idle_hours: float = Field(default=24.0, ge=0)
    min_age_hours: float = Field(default=1.0, ge=0)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One thing that goes.

    Attributes:
        kind: What it is.
        name: Its ref, or the name of its file or directory.
        path: Relative to the base.
        ref: The version it belongs to; empty for none.
        manifest_hash: The manifest it had when the plan was made; empty for things without.
        action: `remove`, or `archive`: compressed, and restored by a pull.
        step: Number of the rule, 1 to 5.
        reason: One sentence.
        freed_bytes: What comes back on the disk when those before it have gone. 0 for `archive`: what compression
            saves is known afterwards.
    """

    kind: HoldingKind
    name: str
    path: str
    ref: str
    manifest_hash: str
    action: Literal["remove", "archive"]
    step: int
    reason: str
    freed_bytes: int

    def __str__(self) -> str:
        return f"{self.action} {self.kind} {self.name} ({format_bytes(self.freed_bytes)}): {self.reason}"


@dataclass(frozen=True, slots=True)
class Spared:
    """One thing that a rule would take and a guard keeps.

    Attributes:
        kind: What it is.
        name: Its ref, or the name of its file or directory.
        path: Relative to the base.
        guard: `pinned`, `leased`, `busy`, `changed`, `young` or `needed`.
        reason: One sentence.
    """

    kind: HoldingKind
    name: str
    path: str
    guard: Guard
    reason: str

    def __str__(self) -> str:
        return f"keep {self.kind} {self.name}: {self.reason}"


@dataclass(frozen=True, slots=True)
class CleanupPlan:
    """What a clean-up would do.

    Attributes:
        policy: What it follows.
        candidates: In the order in which they go.
        spared: What a rule would have taken, and why it stays.
        freed_bytes: What comes back on the disk, by `du`.
        total_bytes: What the cache takes now.
        target_bytes: What was asked for; None for a plan without a target.
        short_bytes: What is still too much when all of this has gone: nothing else may go.
    """

    policy: CleanupPolicy
    candidates: tuple[Candidate, ...]
    spared: tuple[Spared, ...]
    freed_bytes: int
    total_bytes: int
    target_bytes: int | None = None
    short_bytes: int = 0

    def __str__(self) -> str:
        lines = [str(each) for each in (*self.candidates, *self.spared)]
        removed = len(self.candidates)
        lines.append(
            f"{removed} things go and free {format_bytes(self.freed_bytes)} "
            f"of {format_bytes(self.total_bytes)}."
            if removed
            else f"Nothing to clean up: {format_bytes(self.total_bytes)} in use."
        )
        if self.short_bytes:
            lines.append(f"{format_bytes(self.short_bytes)} short: nothing else may go.")
        return "\n".join(lines)


_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGTP]?)(i?)(B?)\s*\Z", re.IGNORECASE)


def parse_size(size: str | float) -> int:
    """Bytes that a text or a number means; units are powers of 1024, as everywhere in this project.

    >>> parse_size("20 GB") == 20 * 1024**3, parse_size("1.5GiB"), parse_size(4096)
    (True, 1610612736, 4096)

    Raises:
        ConfigError: It is no size, or negative.
    """
    if isinstance(size, str):
        found = _SIZE.match(size)
        if found is None:
            raise ConfigError(f"{size[:80]!r} is no size.", subject="size", hint='Write it as "20 GB".')
        return int(float(found[1]) * 1024 ** " KMGTP".index(found[2].upper() or " "))
    if not size >= 0 or size == float("inf"):
        raise ConfigError(f"A size cannot be {size}.", subject="size", hint='Write it as "20 GB".')
    return int(size)


def dependents(holding: Holding, others: Iterable[Holding]) -> list[str]:
    """Names of those among `others` that need a model: its ref, or `group/model` where no such version is meant."""
    name = holding.ref.partition(" ")[0]
    return sorted(
        other.name
        for other in others
        if other is not holding and (holding.ref in other.depends_on or name in other.depends_on)
    )


def plan_cleanup(
    facts: CacheFacts, policy: CleanupPolicy, now: float, *, target_bytes: int | None = None
) -> CleanupPlan:
    """What a clean-up would remove, and what it spares; see the module's decision tree.

    Args:
        facts: The cache.
        policy: What may go.
        now: In unix seconds.
        target_bytes: Free this much and then stop.
    """
    return _Planner(facts, policy, now, target_bytes).plan()


class _Planner:
    """One plan in the making."""

    def __init__(
        self, facts: CacheFacts, policy: CleanupPolicy, now: float, target_bytes: int | None
    ) -> None:
        self._facts, self._policy, self._now, self._target = facts, policy, now, target_bytes
        self._ledger = Ledger(facts)
        self._total = total_bytes(facts.holdings, facts)
        self._limit = (
            None if policy.max_cache_size_gb is None else max(0, int(policy.max_cache_size_gb * _GB))
        )
        self._chosen: dict[str, tuple[Holding, int, str, bool]] = {}  # by path: step, reason, archived
        self._spared: dict[str, Spared] = {}
        self._freed = 0
        self._needers = [each for each in facts.models if each.depends_on]

    def plan(self) -> CleanupPlan:
        policy, held = self._policy, self._facts.holdings
        models = [each for each in held if each.kind in _REF_KINDS]
        by_use = sorted(models, key=lambda each: (each.used_at, each.name, each.path))
        self._sweep(1, _oldest(each for each in held if each.kind in ("partial", "leftover")), self._stale)
        self._sweep(2, _oldest(each for each in held if each.kind == "backup"), _superseded)
        if policy.max_model_age_days is not None:
            self._sweep(3, _oldest(each for each in models if each.kind == "model"), self._over_age)
        if policy.unused_threshold_days is not None:
            self._sweep(4, by_use, self._unused)
        if self._target is not None or self._limit is not None:
            self._sweep(5, by_use, self._least_used)
            self._drop_needless()
        return self._written()

    def _sweep(self, step: int, holdings: Sequence[Holding], rule: Callable[[Holding], str]) -> None:
        """Take what the rule names and no guard keeps; again, until nothing changes: who needed it may go later."""
        found = True
        while found and not self._done(step):
            found = False
            for holding in holdings:
                if self._done(step):
                    return
                known = self._chosen.get(holding.path)
                reason = rule(holding) if known is None or (known[3] and step == 5) else ""
                if not reason:
                    continue
                guard = self._guard(holding)
                if guard is not None:
                    self._spared[holding.path] = guard
                    continue
                self._spared.pop(holding.path, None)
                self._choose(holding, step, reason)
                found = True
                if step == 5 and holding.depends_on:
                    break  # from the least recently used again: what it needed may go now

    def _choose(self, holding: Holding, step: int, reason: str) -> None:
        archived = step == 4 and self._policy.compression_enabled and holding.kind == "model"
        if archived:
            self._chosen[holding.path] = (holding, step, reason, True)
            return
        self._chosen.pop(holding.path, None)  # an archived one that has to go after all goes last
        self._chosen[holding.path] = (holding, step, reason, False)
        self._freed += self._ledger.take(holding)

    def _done(self, step: int) -> bool:
        if self._target is not None:
            return self._freed >= self._target
        return step == 5 and (self._limit is None or self._total - self._freed <= self._limit)

    def _stale(self, holding: Holding) -> str:
        what = {"partial": "An unfinished pull", "leftover": "A leftover"}[holding.kind]
        return f"{what} that nobody touched for {format_span(self._now - holding.used_at)}."

    def _over_age(self, holding: Holding) -> str:
        limit = (self._policy.max_model_age_days or 0.0) * _DAY_S
        age = self._now - holding.created_at
        if age <= limit:
            return ""
        return f"Installed {format_span(age)} ago; the limit is {format_span(limit)}."

    def _unused(self, holding: Holding) -> str:
        limit = (self._policy.unused_threshold_days or 0.0) * _DAY_S
        idle = self._now - holding.used_at
        return f"Unused for {format_span(idle)}; the limit is {format_span(limit)}." if idle > limit else ""

    def _least_used(self, holding: Holding) -> str:
        wanted = (
            f"{format_bytes(self._target)} are to be freed"
            if self._target is not None
            else f"the limit is {format_bytes(self._limit or 0)}"
        )
        return f"Least recently used ({format_span(self._now - holding.used_at)} ago), and {wanted}."

    def _guard(self, holding: Holding) -> Spared | None:
        def kept(guard: Guard, reason: str) -> Spared:
            return Spared(holding.kind, holding.name, holding.path, guard, reason)

        if holding.pinned:  # a
            return kept("pinned", f"Pinned: {holding.pinned}")
        if holding.leases:  # b
            return kept("leased", f"{told_readers(holding.leases)} it open.")
        if holding.busy:  # c
            return kept("busy", "Somebody works on it now.")
        if holding.changed:  # d
            shown = ", ".join(holding.changed[:3]) + (", …" if len(holding.changed) > 3 else "")
            return kept("changed", f"Holds the last copy of changed files: {shown}.")
        leftover = holding.kind in ("partial", "leftover")
        hours = self._policy.partial_idle_hours if leftover else self._policy.min_age_hours
        since = self._now - max(holding.used_at, holding.created_at)
        if since < hours * _HOUR_S:  # e
            return kept("young", f"Touched {format_span(since)} ago, within {format_span(hours * _HOUR_S)}.")
        if holding.kind == "model":  # f
            left = (each for each in self._needers if not self._is_removed(each))
            if needed := dependents(holding, left):
                return kept("needed", f"{needed[0]} depends on it.")
        return None

    def _is_removed(self, holding: Holding) -> bool:
        known = self._chosen.get(holding.path)
        return known is not None and not known[3]

    def _drop_needless(self) -> None:
        """Leave out models of step 5 without which the sum is still enough, most recently used first."""
        wanted = self._target if self._target is not None else self._total - (self._limit or 0)
        alone = Ledger(self._facts)
        for path in [path for path, each in self._chosen.items() if each[1] == 5][-2::-1]:
            holding = self._chosen[path][0]
            if alone.freed_by(holding) > self._freed - wanted:  # never less than that in company
                continue
            rest = [each[0] for other, each in self._chosen.items() if other != path and not each[3]]
            ledger = Ledger(self._facts)
            freed = sum(ledger.take(each) for each in rest)
            needs = [each for each in rest if each.kind == "model" and dependents(each, [holding])]
            if freed >= wanted and not needs:
                del self._chosen[path]
                self._freed = freed

    def _written(self) -> CleanupPlan:
        ledger, candidates = Ledger(self._facts), []
        for holding, step, reason, archived in self._chosen.values():
            candidates.append(
                Candidate(
                    holding.kind,
                    holding.name,
                    holding.path,
                    holding.ref,
                    holding.manifest_hash,
                    "archive" if archived else "remove",
                    step,
                    reason,
                    0 if archived else ledger.take(holding),
                )
            )
        freed = sum(each.freed_bytes for each in candidates)
        wanted = self._target or 0
        if self._target is None and self._limit is not None:
            wanted = self._total - self._limit
        return CleanupPlan(
            self._policy,
            tuple(candidates),
            tuple(self._spared.values()),
            freed,
            self._total,
            self._target,
            max(0, wanted - freed),
        )


def _superseded(holding: Holding) -> str:
    return "A newer backup of the same version is kept." if holding.superseded else ""


def _oldest(holdings: Iterable[Holding]) -> list[Holding]:
    return sorted(holdings, key=lambda each: (each.created_at, each.name, each.path))
