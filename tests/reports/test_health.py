"""The health report: what is wrong first, in a sentence that names the command, and never more than is known."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from xprim_nb.cache.health.report import (
    Checks,
    FileFinding,
    IntegrityCheck,
    Recommendation,
    ValidationReport,
)
from xprim_nb.cache.values import InstalledModel
from xprim_nb.refs import ModelRef
from xprim_nb.reports.health import HealthReport, health_frame

_WHEN = datetime(2026, 2, 3, tzinfo=UTC)
_GOOD = ValidationReport(model_id="group/good v1", validation_timestamp=_WHEN, depth="full")
_BAD = ValidationReport(
    model_id="group/bad v1",
    validation_timestamp=_WHEN,
    overall_status="failed",
    checks=Checks(
        file_integrity=IntegrityCheck(
            status="fail", corrupted_files=("w.safetensors",), missing_files=("config.json",)
        )
    ),
    recommendations=Recommendation(action="rebuild", priority="critical", details="Mend it."),
    findings=(
        FileFinding(path="config.json", status="missing", bytes_wrong=2, sentence="it is not there"),
        FileFinding(path="notes.txt", status="extra"),
        FileFinding(
            path="w.safetensors", status="corrupted", chunks=(1,), bytes_wrong=1000, sentence="<b>damaged</b>"
        ),
    ),
    verdict="group/bad v1 is damaged.",
)
_OLD = ValidationReport(
    model_id="group/old v1",
    validation_timestamp=_WHEN,
    overall_status="degraded",
    recommendations=Recommendation(action="refresh", priority="medium", details="Refresh it."),
)


def _model(name: str) -> InstalledModel:
    return InstalledModel(ModelRef.parse(name), "a" * 64, 5000, 2, _WHEN, Path("/base"))


_MODELS = tuple(map(_model, ["group/good v1", "group/bad v1", "group/new v1"]))


@pytest.mark.parametrize(
    ("report", "verdict"),
    [
        (HealthReport(()), "Nothing is installed."),
        (HealthReport((_GOOD,)), "The model is healthy."),
        (
            HealthReport((_GOOD,), (_model("group/good v1"), _model("group/new v1"))),
            "No damage is known; 1 of 2 models was never checked.",
        ),
        (
            HealthReport((), (_model("group/new v1"),)),
            "No damage is known; group/new v1 was never checked.",
        ),
        (HealthReport((_OLD,)), "group/old v1 is degraded. Refresh it."),
        (HealthReport((_GOOD, _OLD)), "1 of 2 models is degraded (group/old v1). Refresh it."),
        (
            HealthReport((_GOOD, _OLD, _BAD)),
            "1 of 3 models is damaged (group/bad v1): run `xprim cache repair group/bad v1`.",
        ),
    ],
)
def test_the_verdict_says_the_worst_first(report: HealthReport, verdict: str) -> None:
    """One sentence: damage before age, age before what nobody looked at."""
    assert report.verdict == verdict


def test_a_model_nobody_looked_at_is_not_called_healthy() -> None:
    """Not checked is a state of its own, in the table and in the chart."""
    report = HealthReport((_GOOD,), (_model("group/good v1"), _model("group/new v1")))
    assert "group/new v1   not checked yet" in repr(report)
    assert [(bar.name, bar.group) for bar in report.chart.bars] == [
        ("group/new v1", "not checked yet"),
        ("group/good v1", "healthy"),
    ]


def test_table_and_chart_say_the_same_word() -> None:
    """What the verdict calls damaged is so called in every form of the table and the chart; frames have the seed's word."""
    report = HealthReport((_GOOD, _BAD), _MODELS[:2])
    assert [bar.group for bar in report.chart.bars] == ["damaged", "healthy"]
    for told in (repr(report), report._repr_html_(), report.chart.text(), report.chart.svg()):
        assert "damaged" in told
        assert "failed" not in told
    assert list(report.frame["status"]) == ["healthy", "failed"]


def test_the_frame_counts_files_and_bytes() -> None:
    """Damage is counted by kind; what a user added is counted and is no damage."""
    row = HealthReport((_BAD,), _MODELS).frame.iloc[0]
    assert (row["corrupted"], row["missing"], row["modified"], row["extra"]) == (1, 1, 0, 1)
    assert (row["bytes_wrong"], row["size_bytes"]) == (1002, 5000)
    assert row["checked_at"] == pd.Timestamp("2026-02-03", tz="UTC")


def test_the_frame_has_its_dtypes_without_rows() -> None:
    """An empty cache gives the same columns and dtypes."""
    full, empty = health_frame([_GOOD, _BAD]), health_frame([])
    assert empty.dtypes.to_dict() == full.dtypes.to_dict()
    assert str(full["bytes_wrong"].dtype) == "int64"


def test_hostile_text_stays_text() -> None:
    """A sentence with markup is shown as it is written."""
    page = HealthReport((_BAD,), _MODELS)._repr_html_()
    assert "&lt;b&gt;damaged&lt;/b&gt;" in page
    assert "<b>" not in page


def test_damage_stands_above_health() -> None:
    """The table begins with what needs somebody."""
    text = repr(HealthReport((_GOOD, _BAD), _MODELS))
    assert text.index("group/bad v1  ") < text.index("group/new v1") < text.index("group/good v1")
