"""What follows from what was found, decided purely. The first rule that applies decides.

    | # | when                                                   | overall  | action  | priority |
    |---|--------------------------------------------------------|----------|---------|----------|
    | 1 | a file is missing or corrupt                           | failed   | rebuild | critical |
    | 2 | the same, and local sources alone can mend it          | failed   | rebuild | high     |
    | 3 | expired: past its date, or twice `max_age_days` old    | degraded | refresh | high     |
    | 4 | stale: above `max_age_days`, or another one is offered | degraded | refresh | medium   |
    | 5 | partial: a component that it names is not there        | degraded | refresh | medium   |
    | 6 | a model that it builds on is not installed             | degraded | none    | medium   |
    | 7 | unused for `unused_days`, and not pinned               | healthy  | remove  | low      |
    | 8 | otherwise                                              | healthy  | none    | low      |

Files that somebody changed or added make no model unhealthy: they are told, and left alone.

Source: spec 2 §Validation; seeds/000 §Cache Validation & Integrity Checks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from xprim_nb._text import format_bytes, format_count
from xprim_nb.cache.health.report import (
    Checks,
    CompletenessCheck,
    DependencyCheck,
    FileFinding,
    FreshnessCheck,
    IntegrityCheck,
    OverallStatus,
    Recommendation,
)

__all__ = ["Facts", "HealthPolicy", "Judgement", "judge"]

_ABSENT = ("missing", "replaced")
_NAMED = 3  # files that a sentence names before it counts the rest


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """What counts as old.

    Attributes:
        max_age_days: Days after which a model that nobody confirmed is stale; None for never. A quarter: published
            versions are immutable, and a registry that is asked now and then confirms them.
        unused_days: Days without use after which removal is suggested; None for never.
    """

    max_age_days: float | None = 90.0
    unused_days: float | None = 90.0


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of one model.

    Attributes:
        ref: Its name.
        findings: What is wrong with which file.
        file_count: Files that it should have.
        mendable_here: Whether this machine holds every byte that is damaged.
        age_days: Since it was installed, or last confirmed by the registry.
        offers_other: Whether the registry is known to offer another manifest under this name.
        is_expired: Whether its expiry date is past.
        missing_components: Files that one of its own indexes names, and that it does not have.
        unresolved: Models it builds on that are not installed.
        unused_days: Since it was last used; None where that is not known.
        is_pinned: Whether somebody asked to keep it.
    """

    ref: str
    findings: tuple[FileFinding, ...] = ()
    file_count: int = 1
    mendable_here: bool = False
    age_days: float = 0.0
    offers_other: bool = False
    is_expired: bool = False
    missing_components: tuple[str, ...] = ()
    unresolved: tuple[str, ...] = ()
    unused_days: float | None = None
    is_pinned: bool = False


class Judgement(NamedTuple):
    """The rule that decided, and what a report says because of it."""

    rule: int
    overall_status: OverallStatus
    checks: Checks
    recommendation: Recommendation
    verdict: str


def judge(facts: Facts, policy: HealthPolicy) -> Judgement:
    """What the rules say of a model; see the table above."""
    checks = Checks(
        file_integrity=_integrity(facts),
        freshness=_freshness(facts, policy),
        completeness=_completeness(facts),
        dependencies=DependencyCheck(
            status="missing" if facts.unresolved else "satisfied", unresolved=facts.unresolved
        ),
    )
    rule, overall, advice = _decide(facts, checks, policy)
    return Judgement(rule, overall, checks, advice, _verdict(facts, checks, rule, advice))


def _decide(facts: Facts, checks: Checks, policy: HealthPolicy) -> tuple[int, OverallStatus, Recommendation]:
    ref, fresh = facts.ref, checks.freshness.status
    if checks.file_integrity.status == "fail":
        repair = f"Run `xprim cache repair {ref}`"
        if not facts.mendable_here:  # 1
            details = f"{repair}: what this machine does not hold is fetched."
            return 1, "failed", Recommendation(action="rebuild", priority="critical", details=details)
        details = f"{repair}: this machine holds every byte it takes."  # 2
        return 2, "failed", Recommendation(action="rebuild", priority="high", details=details)
    refresh = f"Run `xprim cache refresh {ref}`."
    if fresh == "expired":  # 3
        return 3, "degraded", Recommendation(action="refresh", priority="high", details=refresh)
    if fresh == "stale":  # 4
        return 4, "degraded", Recommendation(action="refresh", priority="medium", details=refresh)
    if checks.completeness.status != "complete":  # 5
        return 5, "degraded", Recommendation(action="refresh", priority="medium", details=refresh)
    if facts.unresolved:  # 6
        details = f"Run `xprim models pull {facts.unresolved[0]}`."
        return 6, "degraded", Recommendation(action="none", priority="medium", details=details)
    limit, unused = policy.unused_days, facts.unused_days
    if limit is not None and unused is not None and unused >= limit and not facts.is_pinned:  # 7
        details = f"`xprim models remove {ref}` would free its space."
        return 7, "healthy", Recommendation(action="remove", priority="low", details=details)
    return 8, "healthy", Recommendation()  # 8


def _integrity(facts: Facts) -> IntegrityCheck:
    damaged = [finding for finding in facts.findings if finding.is_damage]
    return IntegrityCheck(
        status="fail" if damaged else "pass",
        corrupted_files=tuple(each.path for each in damaged if each.status not in _ABSENT),
        missing_files=tuple(each.path for each in damaged if each.status in _ABSENT),
    )


def _freshness(facts: Facts, policy: HealthPolicy) -> FreshnessCheck:
    limit = policy.max_age_days
    if facts.is_expired or (limit is not None and facts.age_days >= 2 * limit):
        return FreshnessCheck(status="expired", age_days=facts.age_days, recommended_refresh=True)
    if facts.offers_other or (limit is not None and facts.age_days > limit):
        return FreshnessCheck(status="stale", age_days=facts.age_days, recommended_refresh=True)
    return FreshnessCheck(status="fresh", age_days=facts.age_days)


def _completeness(facts: Facts) -> CompletenessCheck:
    absent = [finding.path for finding in facts.findings if finding.status in _ABSENT]
    missing = tuple(dict.fromkeys([*absent, *facts.missing_components]))
    if not missing:
        return CompletenessCheck()
    if facts.file_count and len(absent) >= facts.file_count:
        return CompletenessCheck(
            status="minimal",
            missing_components=missing,
            impact_assessment="Nothing of the model is there: it cannot be loaded.",
        )
    return CompletenessCheck(
        status="partial",
        missing_components=missing,
        impact_assessment=f"What needs {_listed(missing)} will fail.",
    )


def _verdict(facts: Facts, checks: Checks, rule: int, advice: Recommendation) -> str:
    ref, days = facts.ref, format_count(round(checks.freshness.age_days), "day")
    match rule:
        case 1 | 2:
            said = f"is damaged: {_damage([each for each in facts.findings if each.is_damage])}"
        case 3:
            said = "is past its expiry date." if facts.is_expired else f"expired: {days} old."
        case 4 if facts.offers_other:
            said = "is stale: the registry offers another manifest."
        case 4:
            said = f"is stale: {days} old."
        case 5:
            said = f"is incomplete: {_listed(checks.completeness.missing_components)} missing."
        case 6:
            said = f"builds on {_listed(facts.unresolved)}, which is not installed."
        case 7:
            said = f"is healthy, and was not used for {format_count(round(facts.unused_days or 0), 'day')}."
        case _:
            said = "is healthy."
    changed = [each.path for each in facts.findings if not each.is_damage]
    told = f" {len(changed)} files of yours are left alone." if len(changed) > 1 else ""
    if len(changed) == 1:
        told = f" Your {changed[0]} is left alone."
    return f"{ref} {said}{told} {advice.details}".rstrip()


def _damage(damaged: Sequence[FileFinding]) -> str:
    if len(damaged) == 1:
        return f"{damaged[0].path}: {damaged[0].sentence or damaged[0].status + '.'}"
    wrong = sum(finding.bytes_wrong for finding in damaged)
    return f"{_listed([each.path for each in damaged])} ({format_bytes(wrong)})."


def _listed(names: Sequence[str]) -> str:
    if len(names) > _NAMED:
        return f"{', '.join(names[: _NAMED - 1])} and {len(names) - _NAMED + 1} more files"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
