"""The rule table, rule by rule, and what holds for all facts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xprim_nb.cache.health.report import FileFinding, ValidationReport
from xprim_nb.cache.health.rules import Facts, HealthPolicy, judge

_POLICY = HealthPolicy(max_age_days=10, unused_days=30)
_DAMAGE = FileFinding(
    path="w.bin", status="corrupted", chunks=(3,), bytes_wrong=5, sentence="1 chunk is wrong."
)
_EDIT = FileFinding(path="config.json", status="modified")

_CASES = {
    "corrupt": (Facts("r", (_DAMAGE,)), 1, "failed", "rebuild", "critical"),
    "missing": (Facts("r", (FileFinding(path="w", status="missing"),)), 1, "failed", "rebuild", "critical"),
    "replaced": (Facts("r", (FileFinding(path="w", status="replaced"),)), 1, "failed", "rebuild", "critical"),
    "unreadable": (
        Facts("r", (FileFinding(path="w", status="unreadable"),)),
        1,
        "failed",
        "rebuild",
        "critical",
    ),
    "mendable": (Facts("r", (_DAMAGE,), mendable_here=True), 2, "failed", "rebuild", "high"),
    "damage-first": (
        Facts("r", (_DAMAGE,), age_days=99, unresolved=("b",)),
        1,
        "failed",
        "rebuild",
        "critical",
    ),
    "expiry-date": (Facts("r", is_expired=True), 3, "degraded", "refresh", "high"),
    "twice-as-old": (Facts("r", age_days=20), 3, "degraded", "refresh", "high"),
    "old": (Facts("r", age_days=10.5), 4, "degraded", "refresh", "medium"),
    "not-yet-twice": (Facts("r", age_days=19.99), 4, "degraded", "refresh", "medium"),
    "other-offered": (Facts("r", offers_other=True), 4, "degraded", "refresh", "medium"),
    "just-not-old": (Facts("r", age_days=10), 8, "healthy", "none", "low"),
    "partial": (Facts("r", missing_components=("s-2",)), 5, "degraded", "refresh", "medium"),
    "dependency": (Facts("r", unresolved=("g/base v1",)), 6, "degraded", "none", "medium"),
    "unused": (Facts("r", unused_days=30), 7, "healthy", "remove", "low"),
    "pinned": (Facts("r", unused_days=300, is_pinned=True), 8, "healthy", "none", "low"),
    "used": (Facts("r", unused_days=29.9), 8, "healthy", "none", "low"),
    "usage-unknown": (Facts("r", unused_days=None), 8, "healthy", "none", "low"),
    "edited": (Facts("r", (_EDIT, FileFinding(path="x", status="extra"))), 8, "healthy", "none", "low"),
}


@pytest.mark.parametrize("name", _CASES)
def test_each_rule_of_the_table(name: str) -> None:
    """Facts that meet one rule give the row of the table."""
    facts, rule, overall, action, priority = _CASES[name]
    found = judge(facts, _POLICY)
    assert found.rule == rule
    assert (found.overall_status, found.recommendation.action, found.recommendation.priority) == (
        overall,
        action,
        priority,
    )


@pytest.mark.parametrize(("days", "said"), [(0.9, "1 day old"), (1.4, "1 day old"), (2.0, "2 days old")])
def test_an_age_is_said_as_a_person_says_it(days: float, said: str) -> None:
    """One day is no days."""
    policy = HealthPolicy(max_age_days=days / 1.5)
    assert f"is stale: {said}." in judge(Facts("r", age_days=days), policy).verdict


def test_the_checks_have_the_seeds_words() -> None:
    """Each finding stands in the list where the seed puts it."""
    findings = (_DAMAGE, FileFinding(path="gone", status="missing"), _EDIT)
    checks = judge(Facts("r", findings, file_count=9, unresolved=("b",), age_days=30), _POLICY).checks
    assert checks.file_integrity.model_dump() == {
        "status": "fail",
        "corrupted_files": ("w.bin",),
        "missing_files": ("gone",),
    }
    assert (checks.freshness.status, checks.freshness.recommended_refresh) == ("expired", True)
    assert (checks.completeness.status, checks.completeness.missing_components) == ("partial", ("gone",))
    assert "gone" in checks.completeness.impact_assessment
    assert checks.dependencies.model_dump() == {"status": "missing", "unresolved": ("b",)}


def test_a_model_without_any_file_is_minimal() -> None:
    """Nothing there is more than a part missing."""
    gone = tuple(FileFinding(path=name, status="missing") for name in "ab")
    assert judge(Facts("r", gone, file_count=2), _POLICY).checks.completeness.status == "minimal"


def test_a_policy_may_let_nothing_grow_old() -> None:
    """None switches age and disuse off; an expiry date stays."""
    never = HealthPolicy(max_age_days=None, unused_days=None)
    assert judge(Facts("r", age_days=1e6, unused_days=1e6), never).rule == 8
    assert judge(Facts("r", is_expired=True), never).rule == 3


_FINDINGS = st.lists(
    st.builds(
        FileFinding,
        path=st.sampled_from(["a", "b", "c/d"]),
        status=st.sampled_from(["corrupted", "missing", "replaced", "unreadable", "modified", "extra"]),
        sentence=st.sampled_from(["", "is wrong."]),
    ),
    max_size=5,
)
_FACTS = st.builds(
    Facts,
    ref=st.just("group/model v1"),
    findings=_FINDINGS.map(tuple),
    file_count=st.integers(0, 5),
    mendable_here=st.booleans(),
    age_days=st.floats(0, 100),
    offers_other=st.booleans(),
    is_expired=st.booleans(),
    missing_components=st.lists(st.sampled_from(["x", "y"]), max_size=2).map(tuple),
    unresolved=st.lists(st.sampled_from(["base/one v1", "base/two"]), max_size=2).map(tuple),
    unused_days=st.none() | st.floats(0, 100),
    is_pinned=st.booleans(),
)


@given(facts=_FACTS)
def test_what_holds_for_all_facts(facts: Facts) -> None:
    """Damage fails and nothing else does; whatever is not healthy names a command; the sentence names the model."""
    found = judge(facts, _POLICY)
    damaged = [each for each in facts.findings if each.is_damage]
    assert (found.overall_status == "failed") == bool(damaged) == (found.rule in (1, 2))
    assert (found.overall_status == "healthy") == (found.rule in (7, 8))
    if found.rule != 8:
        assert "`xprim " in found.recommendation.details
        assert found.recommendation.details in found.verdict
    assert found.verdict.startswith("group/model v1 ")
    assert len(found.verdict.splitlines()) == 1
    integrity = found.checks.file_integrity
    assert len(integrity.corrupted_files) + len(integrity.missing_files) == len(damaged)
    assert judge(facts, _POLICY) == found


@given(facts=_FACTS)
def test_a_report_survives_the_disk(facts: Facts) -> None:
    """A report read back from its JSON is the report."""
    found = judge(facts, _POLICY)
    report = ValidationReport(
        model_id=facts.ref,
        validation_timestamp="2025-01-02T03:04:05+01:00",  # type: ignore[arg-type]  # pydantic reads it
        overall_status=found.overall_status,
        checks=found.checks,
        recommendations=found.recommendation,
        findings=facts.findings,
        verdict=found.verdict,
    )
    assert ValidationReport.model_validate_json(report.model_dump_json()) == report
    assert report.model_dump(mode="json")["validation_timestamp"] == "2025-01-02T02:04:05Z"
