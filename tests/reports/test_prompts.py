"""Calls and their summaries as frames: typed columns, also when there is nothing to show."""

from __future__ import annotations

from decimal import Decimal

import pandas as pd

from xprim_nb._hashing import Digest
from xprim_nb.prompts.answers import Usage
from xprim_nb.prompts.caches import Call
from xprim_nb.prompts.telemetry import CACHES, Outcome, Record, analyze
from xprim_nb.reports import calls_frame, records_frame, summary_frame

_REQUEST = Digest("0" * 64)
_CALLS = (
    Call(
        *(_REQUEST, "openai", "gpt-5.6", 1_800_000_000.5, "openai/1", ()),
        usage=Usage(1000, 50, 800, 100, 20),
        predicted_read_tokens=790,
        cost="0.0125",
        cost_kind="billed",
        latency_s=2.0,
    ),
    Call(_REQUEST, "vllm", "m", 1_800_000_001.0, "vllm/1", (), finish="error"),
)


def test_calls_are_rows() -> None:
    """What is not known is NA, and a time is a time."""
    frame = calls_frame(_CALLS)
    assert frame["at"].dt.year.tolist() == [2027, 2027]
    assert frame["written_tokens"].iloc[0] == 120
    assert frame.iloc[1][["input_tokens", "predicted_read_tokens", "cost_usd"]].isna().all()
    assert frame["cost_usd"].iloc[0] == 0.0125
    assert frame.dtypes.equals(calls_frame([]).dtypes)
    assert isinstance(frame.dtypes["at"], pd.DatetimeTZDtype)


_RECORDS = (
    Record(
        *(1_800_000_000.5, "ask", "openai", "gpt-5.6"),
        is_sent=True,
        usage=Usage(1000, 50, 800, 100, 20),
        billed=Decimal("0.0125"),
        in_response=Outcome(False, "content"),
    ),
    Record(1_800_000_001.0, "ask", "openai", "gpt-5.6", saved=Decimal(1), in_response=Outcome(True, "kept")),
    Record(1_800_000_001.0, "ask", "vllm", "m", is_sent=True, finish="error"),
)


def test_records_are_rows() -> None:
    """An answer from the cache has no tokens and no bill, and a cache that was not asked no answer."""
    frame = records_frame(_RECORDS)
    assert frame["response_hit"].tolist()[:2] == [False, True]
    assert frame["response_hit"].isna().tolist() == [False, False, True]
    assert frame["billed_usd"].iloc[0] == 0.0125
    assert frame.iloc[1][["input_tokens", "billed_usd", "prefix_hit"]].isna().all()
    assert frame["written_tokens"].iloc[0] == 120
    assert frame.dtypes.equals(records_frame([]).dtypes)
    assert [name for name in frame.columns if name.endswith("_hit")] == [f"{cache}_hit" for cache in CACHES]


def test_summaries_are_rows() -> None:
    """Each cache's share stands apart, and is unknown where it was not asked."""
    frame = summary_frame(analyze(_RECORDS).by_provider).set_index("key")
    assert frame.loc["openai", "prefix_read_share"] == 0.8
    assert frame.loc["openai", "response_hit_share"] == 0.5
    assert frame.loc["openai", "billed_usd"] == 0.0125
    assert frame.loc["openai", "saved_usd"] == 1.0
    assert frame.loc["vllm", "failed"] == 1
    assert frame["response_hit_share"].isna().tolist() == [False, True]
    assert summary_frame([]).columns[0] == "key"
