"""What was resolved, asked and saved is recorded, and what led to a checkpoint is found along its parents."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.prompts.caches.helpers import Answerer, question
from xprim_nb.errors import CheckpointNotFoundError
from xprim_nb.prompts.answers import Answer, Usage
from xprim_nb.prompts.desk import Prompts
from xprim_nb.prompts.resolve import resolve_scaffold
from xprim_nb.prompts.telemetry import Outcome, Telemetry, record_of_resolving
from xprim_nb.prompts.telemetry.lineage import led_by

_ASKED: dict[str, Any] = {"provider": "openai", "model": "gpt-5.6"}


class _At:
    """As much of a checkpoint as a line needs."""

    def __init__(self, id_: str, at: float) -> None:
        self.id, self.at = id_ * 8, at


@pytest.fixture
async def prompts(tmp_path: Path) -> AsyncIterator[Prompts]:
    """Prompts with nothing in them."""
    said = Answerer(lambda call: Answer("yes", usage=Usage(1000, 10, 400), latency_s=0.5))
    async with Prompts(tmp_path / "prompts", generate=said) as prompts:
        yield prompts


async def test_a_prompt_that_is_resolved_is_recorded(prompts: Prompts) -> None:
    """With its checkpoint and kind, and whether it had been rendered before: only what was sent is kept, and then it was."""
    for _ in range(2):
        await prompts.resolve("Why?", checkpoint="c1", scaffold_type="daily", **_ASKED)
    await prompts.ask("Why?", scaffold_type="daily", **_ASKED)
    resolved = await prompts.resolve("Why?", scaffold_type="daily", **_ASKED)
    records = prompts.telemetry.records()
    assert [each.operation for each in records] == ["resolve", "resolve", "ask", "resolve"]
    assert [each.in_scaffold for each in records if each.operation == "resolve"] == [
        *[Outcome(False, "new")] * 2,
        Outcome(True, "rendered before"),
    ]
    assert {each.request for each in records} == {resolved.request_hash}
    assert {each.scaffold for each in records} == {resolved.scaffold.hash}
    assert [each.checkpoint for each in records] == ["c1", "c1", "", ""]
    assert all(each.latency_s > 0 for each in records)
    (daily,) = await prompts.analyze("scaffold_type")
    assert (daily.calls, daily.rate("scaffold").asked, daily.rate("scaffold").hits) == (1, 4, 1)
    assert daily.rate("response").asked == 1


async def test_a_state_that_is_saved_is_recorded(prompts: Prompts) -> None:
    """Under its id; it belongs to no provider and is no kind of prompt; one that cannot be saved is recorded as that."""
    saved = await prompts.save("review", {"plan": ["read"]})
    scaffold = resolve_scaffold(question()).scaffold.hash
    await prompts.save(scaffold, {"plan": ["read"]})
    with pytest.raises(CheckpointNotFoundError):
        await prompts.save("review", {"plan": []}, parent="0" * 12)
    first, second, failed = prompts.telemetry.records()
    assert (first.operation, first.checkpoint, first.scaffold, first.error) == (
        "checkpoint",
        saved.id,
        "",
        "",
    )
    assert second.scaffold == scaffold
    assert (failed.checkpoint, failed.finish, failed.error) == ("", "error", "CheckpointNotFoundError")
    analysis = await prompts.analysis()
    assert [each.key for each in analysis.by_operation] == ["checkpoint"]
    assert analysis.by_provider == analysis.by_model == analysis.by_scaffold_type == ()
    assert (analysis.total.calls, analysis.total.operations) == (0, 3)


async def test_what_led_to_a_checkpoint_is_found_along_its_parents(prompts: Prompts) -> None:
    """All before it on its line and nothing of another branch, by id, by the beginning of one, and by branch."""
    start = await prompts.save("review", {"step": 0})
    await prompts.resolve("One?", checkpoint=start.id, **_ASKED)
    await prompts.ask("One?", checkpoint=start.id[:10], **_ASKED)
    await prompts.ask("Elsewhere?", checkpoint="c1", **_ASKED)
    middle = await prompts.save("review", {"step": 1})
    await prompts.branch(start.id, "other")
    await prompts.ask("Other?", checkpoint=start.id, **_ASKED)  # after the line had gone on
    other = await prompts.save("review", {"step": "other"}, "other")
    await prompts.ask("Two?", checkpoint=middle.id, **_ASKED)
    tip = await prompts.save("review", {"step": 2})
    await prompts.ask("Three?", checkpoint=tip.id, **_ASKED)
    steps = [
        ("checkpoint", start.id),
        ("resolve", start.id),
        ("ask", start.id[:10]),
        ("checkpoint", middle.id),
        ("ask", middle.id),
        ("checkpoint", tip.id),
        ("ask", tip.id),
    ]
    for word in (tip.id, tip.id[:8], "main"):
        analysis = await prompts.analysis(checkpoint=word)
        assert [(each.operation, each.checkpoint) for each in analysis.steps] == steps
        assert (analysis.total.calls, analysis.total.input_tokens) == (3, 3000)
    early = await prompts.analysis(checkpoint=middle.id)
    assert [each.operation for each in early.steps] == [
        *("checkpoint", "resolve", "ask", "checkpoint", "ask")
    ]
    branched = await prompts.analysis(checkpoint=other.id)
    assert [each.checkpoint for each in branched.steps][-2:] == [start.id, other.id]
    assert (await prompts.analysis(checkpoint="c1")).total.calls == 1
    assert len((await prompts.analysis()).steps) == 0
    told = early.document()["steps"]
    assert [each["operation"] for each in told] == ["checkpoint", "resolve", "ask", "checkpoint", "ask"]
    assert told[2]["input_tokens"] == 1000
    assert told[1]["caches"]["scaffold"] == {"hit": False, "reason": "new"}
    lines = early.text().splitlines()
    assert lines[-4].startswith("  resolve, gpt-5.6, ")
    assert "1,000 + 10 tokens" in lines[-3]


async def test_an_analysis_makes_no_database(prompts: Prompts) -> None:
    """A name that calls were made under is found where no state was ever saved, and nothing is created for it."""
    await prompts.ask("Why?", checkpoint="c1", **_ASKED)
    assert (await prompts.analysis(checkpoint="c1")).total.calls == 1
    assert not (prompts.folder / "checkpoints.sqlite").exists()


async def test_a_branch_that_several_scaffolds_have_is_the_name_in_the_records(prompts: Prompts) -> None:
    """Where a word names two checkpoints, what was recorded under that very word is shown, and no more."""
    for scaffold in ("one", "two"):
        await prompts.save(scaffold, {"of": scaffold})
    await prompts.ask("Why?", checkpoint="main", **_ASKED)
    assert [each.operation for each in (await prompts.analysis(checkpoint="main")).steps] == ["ask"]


def test_a_line_says_until_when_each_name_counts() -> None:
    """The checkpoint itself for ever, a parent until its follower was saved; short and strange names are no ids."""
    line = [_At("cccccccc", 30.0), _At("bbbbbbbb", 20.0), _At("aaaaaaaa", 10.0)]
    known = ["c" * 64, "bbbbbbbbbb", "a" * 64, "aaaaaaa", "main", "dddddddd", "bbbbbbbbx"]
    assert led_by(line, known) == {"c" * 64: float("inf"), "bbbbbbbbbb": 30.0, "a" * 64: 20.0}
    assert led_by([], known) == {}


@pytest.mark.alone
async def test_recording_costs_a_resolve_next_to_nothing(prompts: Prompts) -> None:
    """The look and the record together take less than 0.3 ms of 95 % of the resolves, and nothing is written meanwhile."""
    await prompts.ask("Why?", **_ASKED)
    prompts.telemetry.flush()
    resolved = await prompts.resolve("Why?", **_ASKED)
    request, renderer = resolved.request_hash, resolved.rendered.renderer
    alone = Telemetry(prompts.folder / "alone")
    costs = []
    for _ in range(400):  # fewer than are written together
        began = time.perf_counter()
        _, known = prompts.caches.holds(request, renderer)
        alone.record(record_of_resolving(resolved, 1.0, 0.1, checkpoint="c1", known=known))
        costs.append(time.perf_counter() - began)
    p95_s = sorted(costs)[len(costs) * 95 // 100]
    assert known
    assert not alone.path.exists()
    alone.close()
    assert p95_s < 0.3e-3, f"{p95_s * 1e6:.0f} µs"
