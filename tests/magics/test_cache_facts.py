"""Faces of the cache's values: each has one, and nothing that a file is called can disturb it."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from xprim_nb import ModelRef
from xprim_nb.cache.health.report import FileFinding, Recommendation, ValidationReport
from xprim_nb.cache.renewal import values as renewal
from xprim_nb.cache.upkeep.cleanup import Candidate, CleanupPlan, CleanupPolicy
from xprim_nb.cache.upkeep.why import Why
from xprim_nb.magics import cache_tables
from xprim_nb.magics.facts import FACTS, facts_html, facts_line, facts_of, facts_text
from xprim_nb.reports import HealthReport

_WHEN = datetime(2026, 2, 3, tzinfo=UTC)
_REF = ModelRef("demo", "tiny", "v1")
# A name that a hostile archive, or a careless colleague, may give a file.
_HOSTILE = "<img src=x onerror=alert(1)>\x1b[2J\u202e.txt"
_ROOMS = (
    "health.repaired health.report health.scrub health.status renewal.values upkeep.accounting upkeep.archive "
    "upkeep.archived upkeep.cleanup upkeep.dedupe upkeep.execute upkeep.pins upkeep.restoring upkeep.why "
    "adopt.installing adopt.scanning bundles.initialize bundles.keeper"
).split()
# Parts of other values, settings, what lies on disk, and owners: none of these is ever a cell's answer.
_NO_ANSWERS = set(
    "Checks CompletenessCheck DependencyCheck FreshnessCheck IntegrityCheck Recommendation RepairAction Contact "
    "CleanupPolicy ArchiveDocument LocalFile Share FetchStep AdoptedFile BundleKeeper Glance Unreadable "
    "Outcome".split()
)


def _is_value(kind: object) -> bool:
    return isinstance(kind, type) and (dataclasses.is_dataclass(kind) or hasattr(kind, "model_fields"))


def test_every_value_of_the_cache_has_a_face() -> None:
    """No value that a verb returns shows as a row of raw fields in a notebook."""
    faceless = []
    for room in _ROOMS:
        module = importlib.import_module(f"xprim_nb.cache.{room}")
        for name in module.__all__:
            kind = getattr(module, name)
            if _is_value(kind) and name not in _NO_ANSWERS and (kind.__module__, name) not in FACTS:
                faceless.append(f"{room}.{name}")
    assert faceless == []


def test_every_face_belongs_to_something() -> None:
    """Each name for which facts are registered exists, so that a renamed value is noticed here."""
    for module, name in FACTS:
        assert hasattr(importlib.import_module(module), name), f"{module}.{name}"


def _report() -> ValidationReport:
    finding = FileFinding(path=_HOSTILE, status="extra", sentence="is not part of the model.")
    return ValidationReport(
        model_id=str(_REF),
        validation_timestamp=_WHEN,
        findings=(finding,),
        recommendations=Recommendation(details="Run `xprim cache repair demo/tiny v1`."),
    )


def _plan() -> CleanupPlan:
    gone = Candidate("kept", _HOSTILE, "cache/kept/x", "", "", "remove", 1, "Nobody needs it.", 10)
    return CleanupPlan(CleanupPolicy(), (gone,), (), 10, 20)


_VALUES: dict[str, Callable[[], Any]] = {
    "report": _report,
    "plan": _plan,
    "why": lambda: Why(Path("/") / _HOSTILE, "kept", kept_because=(f"{_HOSTILE} was changed.",)),
    "drop plan": lambda: renewal.DropPlan(
        _REF,
        (
            renewal.Backup(
                _REF, "b1", "0" * 64, _WHEN, "refresh", "", 10, 1, Path("/b"), problem=f"{_HOSTILE} is gone."
            ),
        ),
    ),
}


@pytest.mark.parametrize("name", _VALUES)
def test_hostile_names_are_shown_and_not_obeyed(name: str) -> None:
    """Markup stays text, control characters and direction marks are spelt out: as text, as HTML, and in a list."""
    value = _VALUES[name]()
    text, html = facts_text(facts_of(value)), facts_html(facts_of(value))
    for shown in (text, html):
        assert not set(shown) & set("\x1b\u202e")
        assert "\\x1b[2J" in shown
    assert "<img" not in html
    assert "&lt;img" in html


def test_hostile_names_in_tables_and_reports() -> None:
    """The same in the table of all models and in the health report."""
    report = _report().model_copy(update={"overall_status": "failed"})
    rows, health = cache_tables.reports([report]), HealthReport((report,), command="%xprim repair {ref}")
    for shown in (repr(rows), rows._repr_html_(), repr(health), health._repr_html_()):
        assert not set(shown) & set("\x1b\u202e")
        assert "\\x1b[2J" in shown
    for page in (rows._repr_html_(), health._repr_html_()):
        assert "<img" not in page


def test_values_in_a_list_are_one_line_each() -> None:
    """What has a model is named by it, what has none by its first line."""
    assert facts_line(_report()) == "<ValidationReport demo/tiny v1: healthy>"
    assert facts_line(_plan().candidates[0]).startswith("<Candidate remove kept ")


def test_long_lists_are_cut_and_counted() -> None:
    """A clean-up of a thousand things shows the first ones, and how many more there are."""
    candidates = tuple(
        Candidate("partial", f"p{number}", "x", "", "", "remove", 1, "Stale.", 1) for number in range(1000)
    )
    text = facts_text(facts_of(CleanupPlan(CleanupPolicy(), candidates, (), 1000, 2000)))
    assert "1,000 things would go" in text
    assert "and 970 more" in text
    assert len(text.splitlines()) < 40


def test_commands_are_named_as_cells_have_them() -> None:
    """What the core says of a terminal's commands is said in a notebook's words, in every face."""
    for shown in (facts_text(facts_of(_report())), facts_html(facts_of(_report()))):
        assert "`%xprim repair demo/tiny v1`" in shown
