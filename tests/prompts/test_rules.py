"""The table of cache rules: one row for each model, the most precise, and none without a source and a day."""

from __future__ import annotations

from datetime import date

import pytest

from xprim_nb.prompts.rules import CHECKED, RULES, cache_rule
from xprim_nb.prompts.values import PROVIDERS


@pytest.mark.parametrize(
    ("provider", "model", "minimum"),
    [
        ("anthropic", "claude-opus-5", 512),
        ("anthropic", "claude-opus-5-5", 512),
        ("anthropic", "claude-sonnet-5", 1024),
        ("anthropic", "claude-sonnet-5-5", 512),
        ("anthropic", "claude-haiku-5-5", 512),
        ("anthropic", "claude-fable-5-1", 512),
        ("anthropic", "claude-mythos-preview", 2048),
        ("anthropic", "claude-opus-4-8", 1024),
        ("anthropic", "claude-opus-4-7", 2048),
        ("anthropic", "claude-opus-4-6", 4096),
        ("anthropic", "claude-opus-4-5-20251101", 4096),
        ("anthropic", "claude-opus-4-1-20250805", 1024),
        ("anthropic", "claude-opus-4-20250514", 1024),
        ("anthropic", "claude-sonnet-4-5-20250929", 1024),
        ("anthropic", "Anthropic/Claude-Haiku-4-5-20251001", 4096),
        ("anthropic", "something-new", 4096),
        ("openai", "gpt-5.6-sol", 1024),
        ("vllm", "org/model", 16),
        ("sglang", "org/model", 1),
        ("llama-cpp", "x", 1),
    ],
)
def test_the_minimum_of_each_model(provider: str, model: str, minimum: int) -> None:
    """As its provider's page has it on the day of the table."""
    rule = cache_rule(provider, model)
    assert rule is not None
    assert rule.minimum_tokens == minimum


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("gpt-5.6", True),
        ("gpt-6.2-astra", True),
        ("gpt-5.5", False),
        ("gpt-5", False),
        ("gpt-4o", False),
        ("o3", False),
    ],
)
def test_openai_is_told_from_gpt_5_6_on(model: str, told: bool) -> None:
    """Explicit breakpoints came with that family, and the later ones have them."""
    rule = cache_rule("openai", model)
    assert rule is not None
    assert rule.can_be_told is told


def test_each_provider_has_a_rule_for_any_model() -> None:
    """No model is without one, however new; a plug-in's provider has none, nor has this machine: it keeps no prefix."""
    ruled = [provider for provider in PROVIDERS if cache_rule(provider, "unheard-of")]
    assert ruled == [provider for provider in PROVIDERS if provider != "local"]
    assert cache_rule("plugin", "gpt-5.6") is None


def test_each_row_says_where_and_when() -> None:
    """A source, a day that is none of the future of the table, and no unverified cell that does not exist."""
    assert max(rule.checked for rule in RULES) == CHECKED
    for rule in RULES:
        assert rule.source.startswith("https://")
        assert date.fromisoformat(rule.checked) <= date.fromisoformat(CHECKED)
        assert all(hasattr(rule, name) for name in rule.unverified)


def test_no_two_rows_say_the_same_of_one_model() -> None:
    """A provider's pattern stands once."""
    patterns = [(rule.provider, rule.models) for rule in RULES]
    assert len(set(patterns)) == len(patterns)


def test_a_lifetime_is_the_shortest_that_is_long_enough() -> None:
    """And the longest there is where none is; nothing where nothing can be asked for."""
    claude, gpt, vllm = (
        cache_rule(*each) for each in (("anthropic", "x"), ("openai", "gpt-6"), ("vllm", "x"))
    )
    assert claude is not None and gpt is not None and vllm is not None  # noqa: PT018
    assert [claude.lifetime(each) for each in (60, 300, 301, 99999)] == ["5m", "5m", "1h", "1h"]
    assert [gpt.lifetime(each) for each in (300, 3600)] == ["30m", "12h"]
    assert vllm.lifetime(300) == ""
