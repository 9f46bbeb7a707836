"""Rows, shares and the sentence on top, from what was recorded."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from xprim_nb.cache.health.glance import Contact, StatusRow, summed_up
from xprim_nb.cache.health.report import FileFinding, ValidationReport
from xprim_nb.cache.health.rules import Facts, HealthPolicy, judge
from xprim_nb.cache.health.status import CacheStatus
from xprim_nb.cache.renewal.values import Backup
from xprim_nb.cache.upkeep.accounting import Account, CacheAccounts
from xprim_nb.refs import ModelRef
from xprim_widgets._assets import STATIC
from xprim_widgets._health_rows import (
    HealthRow,
    contact_sentence,
    disk_sentence,
    edits,
    health_rows,
    shares_of,
    told_lines,
    verdict_of,
)

_GB = 1024**3
_NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
_WRONG = FileFinding(
    path="w.bin", status="corrupted", chunks=(3,), bytes_wrong=10, sentence="chunk 3 is wrong."
)
_HERE = Contact("http://registry", offline=False, needs_network=True, last_contact_at=None)
_OFFLINE = Contact("http://registry", offline=True, needs_network=True, last_contact_at=0.0)


def _row(facts: Facts, size_bytes: int = 1000) -> StatusRow:
    rule = judge(facts, HealthPolicy())
    report = ValidationReport(
        model_id=facts.ref,
        validation_timestamp=_NOW,
        overall_status=rule.overall_status,
        checks=rule.checks,
        recommendations=rule.recommendation,
        findings=facts.findings,
        verdict=rule.verdict,
    )
    advice = rule.recommendation
    stored = report.model_dump_json() if rule.rule != 8 or facts.findings else ""
    when = _NOW.timestamp()
    status = rule.overall_status
    return StatusRow(
        facts.ref, size_bytes, status, "full", when, advice.action, advice.priority, "ab", stored
    )


def _status(*rows: StatusRow, contact: Contact = _HERE) -> CacheStatus:
    return CacheStatus(*summed_up(list(rows)), contact=contact)


def _backup(ref: str, problem: str = "") -> Backup:
    return Backup(
        ModelRef.parse(ref), "b1", "cd" * 32, _NOW, "refresh", "", 5, 1, Path("/b"), problem=problem
    )


_WHOLE = _row(Facts("demo/whole v1"), 3 * _GB)
_UNUSED = _row(Facts("demo/unused v1", unused_days=100.0), 42 * _GB)
_DAMAGED = _row(Facts("demo/damaged v1", findings=(_WRONG,)), _GB)
_STALE = _row(Facts("demo/stale v1", age_days=100.0), 2 * _GB)
_LORA = _row(Facts("demo/lora v1", unresolved=("demo/whole v9",)))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "Nothing is installed."),
        ([_WHOLE], "The model is healthy."),
        ([_WHOLE, _UNUSED], "All 2 models healthy; 42.0 GB unused for 90 days."),
        (
            [_WHOLE, _UNUSED, _DAMAGED],
            "2 of 3 models healthy; 42.0 GB unused for 90 days; 1 corrupt chunk: repair it.",
        ),
        ([_WHOLE, _STALE], "1 of 2 models healthy; 1 degraded: refresh it."),
        ([_STALE, _LORA], "0 of 2 models healthy; 2 degraded."),
        (
            [_DAMAGED, _row(Facts("a/b c", findings=(_WRONG, _WRONG.model_copy(update={"chunks": (4, 5)}))))],
            "0 of 2 models healthy; 4 corrupt chunks in 2 models: repair them.",
        ),
        (
            [_row(Facts("a/b c", findings=(FileFinding(path="w", status="missing"),)))],
            "0 of 1 model healthy; 1 damaged file: repair it.",
        ),
        (
            [StatusRow("a/b c", 0, "failed", "install", 0.0, "rebuild", "high", "")],
            "0 of 1 model healthy; 1 failed: repair it.",
        ),
    ],
)
def test_the_verdict_says_what_to_do(rows: list[StatusRow], said: str) -> None:
    """One sentence: how many are healthy, what is unused, what is old, what is damaged."""
    assert verdict_of(_status(*rows)) == said


def test_rows_say_what_is_wrong_and_what_applies() -> None:
    """Repair for damage, refresh for age, a rollback where there is a backup; nothing for what is well."""
    found = health_rows(
        _status(_WHOLE, _DAMAGED, _STALE, _LORA, _UNUSED),
        [_backup("demo/whole v1"), _backup("demo/damaged v1")],
    )
    acts = {row.ref: row.acts for row in found}
    assert acts == {
        "demo/whole v1": [["rollback", ""]],
        "demo/damaged v1": [["repair", ""], ["rollback", ""]],
        "demo/stale v1": [["refresh", ""]],
        "demo/lora v1": [],
        "demo/unused v1": [],
    }
    whole, damaged, stale, lora, unused = found
    assert (whole.found, whole.advice, whole.status) == ("", "", "healthy")
    assert (damaged.found, damaged.lines[0]) == (
        "Damaged: w.bin: chunk 3 is wrong.",
        "w.bin: chunk 3 is wrong.",
    )
    assert damaged.advice == "Repair it: what this machine does not hold is fetched."
    assert (stale.found, stale.advice) == ("Stale: 100 days old.", "Refresh it.")
    assert lora.advice == "Run `%xprim pull demo/whole v9`."
    assert unused.found == "Not used for 100 days."
    assert unused.advice == "Removing it would free 42.0 GB: `%xprim remove demo/unused v1`."
    assert whole.checked_at == _NOW.timestamp()


def test_what_cannot_be_done_says_why() -> None:
    """No refresh in offline mode, no rollback to a backup that is damaged."""
    (row,) = health_rows(_status(_STALE, contact=_OFFLINE), [_backup("demo/stale v1", "The backup is torn.")])
    assert row.acts == [["refresh", "offline mode is on"], ["rollback", "The backup is torn."]]


def test_some_models_are_asked_for() -> None:
    """A ref without a version means all versions, and no other model whose name begins so."""
    rows = [_row(Facts(name)) for name in ("demo/a v1", "demo/a v2", "demo/ab v1", "other/a v1")]
    wanted = frozenset({ModelRef.parse("demo/a"), ModelRef.parse("other/a v1")})
    assert [row.ref for row in health_rows(_status(*rows), wanted=wanted)] == [
        "demo/a v1",
        "demo/a v2",
        "other/a v1",
    ]
    assert verdict_of(_status(*rows), wanted) == "All 3 models healthy."
    assert verdict_of(_status(*rows), frozenset({ModelRef.parse("no/thing")})).startswith("None of these")


def test_shares_are_of_all_bytes() -> None:
    """A part for each state that there is, the most urgent first; models without a size make no division by zero."""
    shares = shares_of(health_rows(_status(_WHOLE, _DAMAGED)))
    assert [(each.state, each.models, each.percent) for each in shares] == [
        ("failed", 1, 25.0),
        ("healthy", 1, 75.0),
    ]
    assert [each.percent for each in shares_of(health_rows(_status(_row(Facts("a/b c"), 0))))] == [0.0]


def test_hostile_text_is_told_not_obeyed() -> None:
    """Control characters are spelt out, and nothing is longer or more than somebody reads."""
    name = "demo/\x1b[31m\u202ered<script> v1" + "x" * 10_000
    findings = tuple(
        FileFinding(path=f"{at}\u200f", status="corrupted", sentence="y" * 10_000) for at in range(40)
    )
    (row,) = health_rows(_status(_row(Facts(name, findings=findings))))
    assert row.ref.startswith("demo/\\x1b[31m\\u202ered<script> v1")
    assert len(row.ref) <= 600
    assert row.lines[-1] == "… and 28 more"
    assert all(len(line) <= 600 for line in [*row.lines, row.found, row.advice])
    assert not re.search("[\x1b\u202e\u200f]", "".join([row.ref, row.found, row.advice, *row.lines]))
    assert told_lines(["  a ", "", "b"]) == ["a", "b"]


@pytest.mark.alone
def test_ten_thousand_rows_are_made_quickly_and_sent_once() -> None:
    """A change in one of them sends that one; another list, or a change in many, sends all."""
    rows = [_row(Facts(f"group/model-{at} v1")) for at in range(9_000)]
    rows += [_row(Facts(f"stale/model-{at} v1", age_days=100.0)) for at in range(1_000)]
    before = health_rows(_status(*rows))
    began = time.perf_counter()
    after = health_rows(_status(*rows[:-1], _row(Facts(rows[-1].ref, findings=(_WRONG,)))))
    assert time.perf_counter() - began < 2  # a thousand reports are not parsed again
    assert edits(before, before) == {}
    assert edits(before, after) == {"9999": after[9999]}
    assert edits(before, after[1:]) is None
    assert edits(before, [*after[1:], after[0]]) is None
    assert edits(before, [row._replace(size_bytes=1) for row in before]) is None


def test_the_disk_in_a_sentence() -> None:
    """What all takes, what is no model, what is free."""
    model = Account("model", "a/b c", "a/b/c", 10 * _GB, 0, 10 * _GB)
    backup = Account("backup", "x", "cache/backup/x", _GB, 0, _GB)
    said = disk_sentence(CacheAccounts((model, backup), 11 * _GB, 80 * _GB))
    assert said == "11.0 GB on disk (1.0 GB in backups beside the models); 80.0 GB free."
    assert disk_sentence(CacheAccounts((model,), 10 * _GB, 0)) == "10.0 GB on disk; 0 B free."


def test_contact_is_told_in_words_that_last() -> None:
    """A time of day, not an age: the sentence stays on screen."""
    assert contact_sentence(_HERE) == "http://registry has not answered yet."
    assert (
        contact_sentence(_OFFLINE)
        == "Offline mode is on; http://registry last answered 1970-01-01 00:00 UTC."
    )
    local = Contact("/srv", offline=True, needs_network=False, last_contact_at=None)
    assert contact_sentence(local) == "The registry lies on this machine: /srv."


def test_the_front_end_reads_rows_as_they_are_sent() -> None:
    """The names of a row's fields in the front end are ours, in our order."""
    source = (STATIC / "health.js").read_text(encoding="utf-8")
    named = re.search(r"const FIELDS = \[([^\]]*)\]", source)
    assert named is not None
    assert re.findall(r'"(\w+)"', named[1]) == list(HealthRow._fields)
