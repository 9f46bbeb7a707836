"""Tokens as providers count them: two conventions that differ by the cached part, read as one."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic.types import CacheCreation
from anthropic.types import Usage as AnthropicUsage
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CompletionUsage

from xprim_nb.prompts.answers import Usage
from xprim_nb.prompts.usage import NOT_REPORTED, usage_from

_COUNTS = st.integers(min_value=0, max_value=10**7)
# What a broken or newer server may say instead of a count.
_ANYTHING = st.one_of(
    st.none(), st.integers(-(10**6), 10**7), st.booleans(), st.floats(allow_nan=True), st.text(max_size=3)
)


@pytest.mark.parametrize(
    ("provider", "raw", "expected"),
    [
        (
            "openai",
            {
                "prompt_tokens": 2006,
                "completion_tokens": 300,
                "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
            },
            Usage(2006, 300, 1920),
        ),
        (
            "openai",
            {
                "input_tokens": 5000,
                "output_tokens": 20,
                "input_tokens_details": {"cached_tokens": 3000, "cache_write_tokens": 1500},
            },
            Usage(5000, 20, 3000, 1500),
        ),
        (
            "anthropic",
            {
                "input_tokens": 50,
                "output_tokens": 7,
                "cache_read_input_tokens": 100_000,
                "cache_creation_input_tokens": 548,
                "cache_creation": {"ephemeral_5m_input_tokens": 148, "ephemeral_1h_input_tokens": 400},
            },
            Usage(100_598, 7, 100_000, 148, 400),
        ),
        ("anthropic", {"input_tokens": 12, "output_tokens": 3}, Usage(12, 3)),
        (
            "vllm",
            {
                "prompt_tokens": 100,
                "completion_tokens": 1,
                "prompt_tokens_details": {"cached_tokens": 96},
            },
            Usage(100, 1, 96),
        ),
        (
            "vllm",
            {"prompt_tokens": 100, "completion_tokens": 1, "prompt_tokens_details": None},
            Usage(100, 1),
        ),
        ("sglang", {"prompt_tokens": 100, "completion_tokens": 1, "cached_tokens": 99}, Usage(100, 1, 99)),
        (
            "llama-cpp",
            {"timings": {"prompt_n": 10, "cache_n": 90, "predicted_n": 4}},
            Usage(100, 4, 90),
        ),
        (
            "llama-cpp",
            {
                "usage": {"prompt_tokens": 100, "completion_tokens": 4},
                "timings": {"prompt_n": 10, "cache_n": 90, "predicted_n": 4},
            },
            Usage(100, 4, 90),
        ),
        (
            "llama-cpp",
            {"tokens_evaluated": 100, "tokens_predicted": 4, "tokens_cached": 90},
            Usage(100, 4, 90),
        ),
        # An older build: `tokens_cached` is the length of the slot, answer included; what was computed tells the truth.
        (
            "llama-cpp",
            {
                "tokens_evaluated": 100,
                "tokens_predicted": 4,
                "tokens_cached": 103,
                "timings": {"prompt_n": 30, "predicted_n": 4},
            },
            Usage(100, 4, 70),
        ),
        # A gateway in OpenAI's shape that hands Anthropic's fields on: the prompt's count already includes them.
        (
            "anthropic",
            {
                "prompt_tokens": 1000,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 900},
                "cache_read_input_tokens": 900,
                "cache_creation_input_tokens": 0,
            },
            Usage(1000, 5, 900),
        ),
    ],
)
def test_each_convention_becomes_ours(provider: str, raw: dict[str, Any], expected: Usage) -> None:
    """The providers' own examples, with the whole prompt as `input_tokens` in each."""
    assert usage_from(provider, raw) == expected


def test_the_objects_of_the_sdks_are_read_as_they_are() -> None:
    """Nobody has to take a model of an SDK apart first."""
    openai = CompletionUsage.model_validate(
        {
            "prompt_tokens": 9,
            "completion_tokens": 2,
            "total_tokens": 11,
            "prompt_tokens_details": {"cached_tokens": 8},
        }
    )
    anthropic = AnthropicUsage(
        input_tokens=1,
        output_tokens=2,
        cache_read_input_tokens=8,
        cache_creation_input_tokens=4,
        cache_creation=CacheCreation(ephemeral_1h_input_tokens=4, ephemeral_5m_input_tokens=0),
    )
    assert usage_from("openai", openai) == Usage(9, 2, 8)
    assert usage_from("anthropic", anthropic) == Usage(13, 2, 8, 0, 4)


def test_what_was_asked_for_says_how_long_when_the_provider_does_not() -> None:
    """Without the split by lifetime, a write of an hour is one that was asked to be kept for an hour."""
    raw = {"input_tokens": 1, "output_tokens": 1, "cache_creation_input_tokens": 100}
    assert usage_from("anthropic", raw, ttl="1h") == Usage(101, 1, 0, 0, 100)
    assert usage_from("anthropic", raw) == Usage(101, 1, 0, 100, 0)


@pytest.mark.parametrize("raw", [None, {}, {"usage": None}, "none", {"total_duration": 3}])
def test_what_nobody_told_is_not_reported(raw: object) -> None:
    """An absent usage is no usage of zero."""
    assert usage_from("openai", raw) == NOT_REPORTED
    assert not usage_from("openai", raw).reported


@given(whole=_COUNTS, read=_COUNTS, written=_COUNTS, answer=_COUNTS)
def test_both_conventions_of_one_call_are_one(whole: int, read: int, written: int, answer: int) -> None:
    """The same call told in OpenAI's and in Anthropic's way gives the same numbers: nothing counted twice."""
    read = min(read, whole)
    written = min(written, whole - read)
    chat = usage_from(
        "openai",
        {
            "prompt_tokens": whole,
            "completion_tokens": answer,
            "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
        },
    )
    messages = usage_from(
        "anthropic",
        {
            "input_tokens": whole - read - written,
            "output_tokens": answer,
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": written,
        },
    )
    assert chat == messages == Usage(whole, answer, read, written)
    assert chat.fresh_tokens == whole - read - written


@given(
    provider=st.sampled_from(["openai", "anthropic", "vllm", "sglang", "llama-cpp", "somebody"]),
    flat=st.dictionaries(
        st.sampled_from(
            "prompt_tokens completion_tokens input_tokens output_tokens cached_tokens cache_read_input_tokens "
            "cache_creation_input_tokens tokens_evaluated tokens_predicted tokens_cached".split()
        ),
        _ANYTHING,
    ),
    details=st.dictionaries(st.sampled_from(["cached_tokens", "cache_write_tokens"]), _ANYTHING),
    split=st.dictionaries(
        st.sampled_from(["ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"]), _ANYTHING
    ),
    timings=st.dictionaries(st.sampled_from(["prompt_n", "cache_n", "predicted_n"]), _ANYTHING),
    holders=st.sets(
        st.sampled_from(["prompt_tokens_details", "input_tokens_details", "cache_creation", "timings"])
    ),
)
def test_whatever_is_told_adds_up(
    provider: str,
    flat: dict[str, object],
    details: dict[str, object],
    split: dict[str, object],
    timings: dict[str, object],
    holders: set[str],
) -> None:
    """Of any numbers at all: none is negative, and the parts of the prompt are exactly the prompt."""
    parts: dict[str, object] = {
        "prompt_tokens_details": details,
        "input_tokens_details": details,
        "cache_creation": split,
        "timings": timings,
    }
    usage = usage_from(provider, {**flat, **{name: parts[name] for name in holders}})
    cached = usage.cache_read_tokens + usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
    assert min(usage.cache_read_tokens, usage.cache_write_5m_tokens, usage.cache_write_1h_tokens) >= 0
    assert usage.output_tokens >= 0
    assert cached + usage.fresh_tokens == usage.input_tokens
