"""What operations came to: each cache on its own, bills and estimates apart, and limits that a pipeline sets."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from tests.prompts.telemetry.helpers import digest, record
from xprim_nb.prompts.answers import Usage
from xprim_nb.prompts.telemetry import Breach, Latency, Outcome, Thresholds, analyze, check

_RECORDS = (
    record(
        1,
        usage=Usage(1000, 50, 800, 100),
        billed=Decimal("0.10"),
        latency_s=1.0,
        first_token_s=0.5,
        predicted_read_tokens=780,
        checkpoint="c1",
        scaffold=digest("s"),
        scaffold_type="module",
        in_scaffold=Outcome(False, "content"),
        in_response=Outcome(False, "content"),
        in_prefix=Outcome(True, "read"),
    ),
    record(2, usage=Usage(1000, 50, reported=False), estimated=Decimal("0.25"), latency_s=3.0),
    record(
        3, finish="error", error="GenerationFailedError", latency_s=99.0, in_response=Outcome(False, "failed")
    ),
    record(
        3,
        is_sent=False,
        in_response=Outcome(True, "kept"),
        saved_tokens=90,
        saved=Decimal("0.09"),
        latency_s=0.001,
    ),
    record(
        4, provider="anthropic", model="claude", usage=Usage(10, 5), in_prefix=Outcome(False, "nothing kept")
    ),
)


def test_all_of_it_in_sum() -> None:
    """Tokens, money, waiting; the predicted beside what was reported; failures wait for nobody's percentile."""
    total = analyze(_RECORDS).total
    assert (total.operations, total.calls, total.failed, total.unpriced) == (5, 4, 1, 1)
    assert (total.input_tokens, total.output_tokens) == (2010, 105)
    assert (total.read_tokens, total.written_tokens, total.reported_tokens) == (800, 100, 1010)
    assert (total.predicted_read_tokens, total.reported_read_tokens) == (780, 800)
    assert (total.billed, total.estimated) == (Decimal("0.10"), Decimal("0.25"))
    assert (total.saved, total.saved_tokens) == (Decimal("0.09"), 90)
    assert (total.latency.p50_s, total.latency.p95_s) == (1.0, 3.0)
    assert (total.hit_latency.p50_s, total.first_token.p99_s) == (0.001, 0.5)


def test_each_cache_has_a_rate_of_its_own() -> None:
    """Only those that asked a cache count for it, and the prefix's share is in tokens of those who reported."""
    total = analyze(_RECORDS).total
    scaffold, response, prefix = total.caches
    assert (scaffold.asked, scaffold.hits) == (1, 0)
    assert (response.asked, response.hits, response.share) == (3, 1, 1 / 3)
    assert response.reasons == (("content", 1), ("failed", 1), ("kept", 1))
    assert (prefix.asked, prefix.hits) == (2, 1)
    assert total.prefix_read_share == 800 / 1010


def test_parts_and_days() -> None:
    """By what they have in common, the largest first; days in their order; parts add up to the whole."""
    found = analyze(_RECORDS)
    assert [each.key for each in found.by_provider] == ["openai", "anthropic"]
    assert [each.key for each in found.by_day] == ["1970-01-02", "1970-01-03", "1970-01-04", "1970-01-05"]
    assert [each.key for each in found.by_scaffold_type] == ["", "module"]
    for parts in (found.by_provider, found.by_model, found.by_day, found.by_operation, found.by_checkpoint):
        assert sum(each.input_tokens for each in parts) == found.total.input_tokens
        assert sum((each.billed for each in parts), Decimal(0)) == found.total.billed


@pytest.mark.parametrize("chosen", [{"checkpoint": "c1"}, {"scaffold": digest("s")}])
def test_some_of_it(chosen: dict[str, str]) -> None:
    """One checkpoint's, or one scaffold's; and what began since."""
    found = analyze(_RECORDS, **chosen)  # type: ignore[arg-type]  # since_s is not among them
    assert (found.total.operations, found.total.billed, dict(found.wanted)) == (1, Decimal("0.10"), chosen)
    assert analyze(_RECORDS, since_s=3 * 86_400.0).total.operations == 3


def test_it_is_told_to_people_and_to_programs() -> None:
    """Words name each cache, and money is text in JSON; of nothing nothing is told."""
    found = analyze(_RECORDS)
    text = found.text()
    assert "Billed $0.1; estimated of what nobody billed $0.25; 1 call without a known price" in text
    assert "Response cache: 1 of 3 (33%): content 1, failed 1, kept 1" in text
    assert "anthropic: 1 call, 10 + 5 tokens, answers 0%, prefix 0%" in text
    document = json.loads(json.dumps(found.document()))
    assert document["total"]["billed"] == "0.10"
    assert document["total"]["caches"]["response"]["share"] == 1 / 3
    assert [each["key"] for each in document["by_provider"]] == ["openai", "anthropic"]
    assert analyze([]).text() == "Nothing is recorded."
    assert json.dumps(analyze([]).document())


def test_percentiles_are_times_that_were_measured() -> None:
    """Of a hundred the 95th, of one that one, of none zero."""
    assert Latency.of(float(n) for n in range(1, 101)) == Latency(50.0, 90.0, 95.0, 99.0)
    assert Latency.of([2.0]) == Latency(2.0, 2.0, 2.0, 2.0)
    assert Latency.of([]) == Latency()


def test_limits_are_kept_or_named() -> None:
    """What equals its limit keeps it; money is compared exactly; nothing measured keeps no lower limit."""
    found = analyze(_RECORDS)
    assert check(found, Thresholds()) == ()
    kept = Thresholds(
        max_billed=Decimal("0.10"),
        max_input_tokens=2010,
        max_p95_s=3.0,
        max_failed_share=0.25,
        max_unpriced=1,
        min_response_hit_share=1 / 3,
        min_prefix_read_share=0.79,
        min_prediction=1.0,
    )
    assert check(found, kept) == ()
    broken = check(
        found, Thresholds(max_billed=Decimal("0.0999"), min_response_hit_share=0.5, max_output_tokens=104)
    )
    assert broken == (
        Breach("max_billed", Decimal("0.0999"), Decimal("0.10")),
        Breach("max_output_tokens", 104, 105),
        Breach("min_response_hit_share", 0.5, 1 / 3),
    )
    assert str(broken[0]) == "billed should be at most 0.0999; it is 0.10."
    (nothing,) = check(analyze([]), Thresholds(min_prefix_read_share=0.1, max_estimated=Decimal(0)))
    assert str(nothing) == "prefix read share should be at least 0.1; nothing was measured."
