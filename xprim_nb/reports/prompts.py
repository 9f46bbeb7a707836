"""Calls of providers and what they came to, as DataFrames. Each docstring lists the columns, in order.

Source: spec 6 §Telemetry ("DataFrames and a chart").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import pandas as pd

from xprim_nb.reports.columns import COUNT, FLAG, MAYBE_BYTES, SHARE, TEXT, TIME, typed_frame

if TYPE_CHECKING:
    from decimal import Decimal

    from xprim_nb.prompts.answers import Usage
    from xprim_nb.prompts.caches import Call
    from xprim_nb.prompts.telemetry import CacheName, Record, Summary

__all__ = ["calls_frame", "records_frame", "summary_frame"]

_MAYBE_COUNT: Final = MAYBE_BYTES
_MAYBE_FLAG: Final = "boolean"
# As in `prompts.telemetry.CACHES`, which a notebook without prompts need not load.
_CACHES: Final[tuple[CacheName, ...]] = ("scaffold", "response", "prefix")


def calls_frame(calls: Iterable[Call]) -> pd.DataFrame:
    """Calls that were sent, one a row, in the order given.

    Columns: `at` UTC · `provider, model, scaffold_type, checkpoint, finish` string · `input_tokens, output_tokens,
    read_tokens, written_tokens` Int64 (NA where the provider reported nothing) · `predicted_read_tokens,
    predicted_written_tokens` Int64 (NA where nobody predicted) · `latency_s, first_token_s` float64 · `cost_usd` float64
    (NaN where no price is known; the record has it exactly) · `cost_kind, request` string.
    """
    columns = {
        "at": TIME,
        **dict.fromkeys(("provider", "model", "scaffold_type", "checkpoint", "finish"), TEXT),
        **dict.fromkeys(("input_tokens", "output_tokens", "read_tokens", "written_tokens"), _MAYBE_COUNT),
        **dict.fromkeys(("predicted_read_tokens", "predicted_written_tokens"), _MAYBE_COUNT),
        **dict.fromkeys(("latency_s", "first_token_s", "cost_usd"), SHARE),
        **dict.fromkeys(("cost_kind", "request"), TEXT),
    }
    return typed_frame(columns, (_row(call) for call in calls))


def records_frame(records: Iterable[Record]) -> pd.DataFrame:
    """All that was recorded, answers from the cache too, one operation a row, in the order given.

    Columns: `at` UTC · `operation, provider, model, scaffold, scaffold_type, checkpoint, request, finish, error` string ·
    `is_sent` bool · `input_tokens, output_tokens, read_tokens, written_tokens, predicted_read_tokens` Int64 (NA where
    nobody told) · `billed_usd, estimated_usd, saved_usd` float64 (NaN where not known; the record has them exactly) ·
    `latency_s, first_token_s` float64 · `scaffold_hit, response_hit, prefix_hit` boolean (NA where the cache was not
    asked) · `scaffold_reason, response_reason, prefix_reason` string.
    """
    names = (
        "operation",
        "provider",
        "model",
        "scaffold",
        "scaffold_type",
        "checkpoint",
        "request",
        "finish",
        "error",
    )
    tokens = ("input_tokens", "output_tokens", "read_tokens", "written_tokens", "predicted_read_tokens")
    money, seconds = ("billed", "estimated", "saved"), ("latency_s", "first_token_s")
    columns = {
        "at": TIME,
        **dict.fromkeys(names, TEXT),
        "is_sent": FLAG,
        **dict.fromkeys(tokens, _MAYBE_COUNT),
        **dict.fromkeys((*(f"{each}_usd" for each in money), *seconds), SHARE),
        **{f"{cache}_hit": _MAYBE_FLAG for cache in _CACHES},
        **{f"{cache}_reason": TEXT for cache in _CACHES},
    }

    def row(record: Record) -> tuple[object, ...]:
        outcomes = [record.outcome(cache) for cache in _CACHES]
        return (
            _time(record.at_s),
            *(getattr(record, name) for name in names),
            record.is_sent,
            *_tokens(record.usage),
            record.predicted_read_tokens,
            *(_dollars(getattr(record, name)) for name in money),
            *(getattr(record, name) for name in seconds),
            *(outcome.hit for outcome in outcomes),
            *(outcome.reason for outcome in outcomes),
        )

    return typed_frame(columns, (row(record) for record in records))


def summary_frame(summaries: Iterable[Summary]) -> pd.DataFrame:
    """What operations came to, one group a row (`Analysis.by_provider`, `by_day` …); each cache has a share of its own.

    Columns: `key` string · `operations, calls, failed, unpriced, input_tokens, output_tokens, read_tokens,
    written_tokens, reported_tokens, predicted_read_tokens, reported_read_tokens, saved_tokens` int64 ·
    `scaffold_hit_share, response_hit_share, prefix_hit_share` float64, 0 to 1, by call (NaN where the cache was not
    asked) · `prefix_read_share` float64, 0 to 1, by token · `billed_usd, estimated_usd, saved_usd, p50_s, p95_s` float64.
    """
    counts = (
        *("operations", "calls", "failed", "unpriced", "input_tokens", "output_tokens", "read_tokens"),
        *(
            "written_tokens",
            "reported_tokens",
            "predicted_read_tokens",
            "reported_read_tokens",
            "saved_tokens",
        ),
    )
    shares = (
        *(f"{cache}_hit_share" for cache in _CACHES),
        *("prefix_read_share", "billed_usd", "estimated_usd", "saved_usd", "p50_s", "p95_s"),
    )
    columns = {"key": TEXT, **dict.fromkeys(counts, COUNT), **dict.fromkeys(shares, SHARE)}
    return typed_frame(
        columns,
        (
            (
                each.key,
                *(getattr(each, name) for name in counts),
                *(rate.share if rate.asked else float("nan") for rate in each.caches),
                each.prefix_read_share,
                *(float(amount) for amount in (each.billed, each.estimated, each.saved)),
                *(each.latency.p50_s, each.latency.p95_s),
            )
            for each in summaries
        ),
    )


def _time(at_s: float) -> pd.Timestamp:
    # As nanoseconds: a float of seconds, converted as one, is rounded.
    return pd.Timestamp(round(at_s * 1e6) * 1000, unit="ns", tz="UTC")


def _dollars(amount: Decimal | None) -> float:
    return float("nan") if amount is None else float(amount)


def _tokens(usage: Usage | None) -> tuple[int | None, ...]:
    """Input, output, read, written."""
    if usage is None:
        return (None,) * 4
    written = usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
    return (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, written)


def _row(call: Call) -> tuple[object, ...]:
    return (
        _time(call.at),
        *(call.provider, call.model, call.scaffold_type, call.checkpoint, call.finish),
        *_tokens(call.usage),
        *(call.predicted_read_tokens, call.predicted_write_tokens),
        *(call.latency_s, call.first_token_s),
        float(call.cost) if call.cost else float("nan"),
        *(call.cost_kind, call.request),
    )
