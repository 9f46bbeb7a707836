"""How each provider's prefix cache behaves, as one dated table: what it takes, for how long, and where it may be told.

Prices are elsewhere (`pricing`). A cell that no documentation confirmed is named in its row's `unverified`.

Source: research/prompts §5; the provider's own page, which each row names with the day on which it was read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Literal, TypeAlias

__all__ = ["CHECKED", "RULES", "CacheRule", "Trigger", "cache_rule"]

CHECKED = "2026-10-08"
"""The last day on which a row of this table was compared with its source."""

Trigger: TypeAlias = Literal["breakpoint", "both", "automatic"]


@dataclass(frozen=True, slots=True)
class CacheRule:
    """What one provider's cache does for some of its models.

    Attributes:
        provider: As in `ResolveInput.provider`.
        models: Which models: a pattern of `fnmatch`, matched with the last part of a model's name in lower case.
        trigger: breakpoint: only what is marked is kept. both: what is marked, and one more at the end of the newest
            message unless that is switched off. automatic: everything, and nothing can be marked.
        minimum_tokens: A shorter prefix is not kept, and nobody says so.
        step_tokens: A prefix is kept in whole steps of so many tokens, from the first on; 1 for exactly what it is.
        breakpoints: Most that one request may write by being told, 0 where it cannot be told.
        matched_breakpoints: Of the latest ones, so many are looked up.
        look_back_blocks: So many content blocks are tried, from a breakpoint backwards and itself the first; 1 for an
            exact match at the breakpoint alone; None for any length.
        lifetimes_s: What can be asked for, in seconds by the provider's name for it; the first is what it does unasked.
            Empty where entries live until something else needs their place.
        always_computed_tokens: At the end of a prompt, these are computed even if all of it is kept.
        sharing_key: The field of a request that keeps its prefixes together, or from others; empty for none.
        source: Where it is written.
        checked: When that was read, ISO date.
        unverified: Attributes whose values no documentation confirmed.
    """

    provider: str
    models: str
    trigger: Trigger
    minimum_tokens: int
    source: str
    step_tokens: int = 1
    breakpoints: int = 0
    matched_breakpoints: int = 0
    look_back_blocks: int | None = None
    lifetimes_s: Mapping[str, int] = field(default_factory=dict)
    always_computed_tokens: int = 0
    sharing_key: str = ""
    checked: str = CHECKED
    unverified: tuple[str, ...] = ()

    @property
    def can_be_told(self) -> bool:
        """Whether a request may say where its prefix ends."""
        return self.breakpoints > 0

    def lifetime(self, at_least_s: int) -> str:
        """The provider's name for the shortest lifetime of at least so many seconds; its longest if none is.

        Empty where nothing can be asked for.
        """
        longest_last = sorted(self.lifetimes_s, key=lambda name: self.lifetimes_s[name])
        enough = [name for name in longest_last if self.lifetimes_s[name] >= at_least_s]
        return next(iter(enough), longest_last[-1] if longest_last else "")


_CLAUDE = "https://platform.claude.com/docs/en/build-with-claude/prompt-caching"
_OPENAI = "https://developers.openai.com/api/docs/guides/prompt-caching"
_CLAUDE_LIFETIMES = MappingProxyType({"5m": 300, "1h": 3600})
# Before GPT-5.6 an organisation's settings say whether a prefix lives for minutes or for a day, and no request can ask
# for a least lifetime; what is sure are five minutes.
_GPT_BEFORE_LIFETIMES = MappingProxyType({"5m": 300})
# The names of `prompt_cache_breakpoint.ttl` in the types of openai 3.57; the guide speaks of the first alone.
_GPT_LIFETIMES = MappingProxyType({"30m": 1800, "12h": 43200})


def _claude(models: str, minimum_tokens: int, *unverified: str) -> CacheRule:
    return CacheRule(
        provider="anthropic",
        models=models,
        trigger="breakpoint",
        minimum_tokens=minimum_tokens,
        breakpoints=4,
        matched_breakpoints=4,
        look_back_blocks=20,
        lifetimes_s=_CLAUDE_LIFETIMES,
        source=_CLAUDE,
        unverified=unverified,
    )


def _gpt(models: str, *unverified: str) -> CacheRule:
    return CacheRule(
        provider="openai",
        models=models,
        trigger="both",
        minimum_tokens=1024,
        breakpoints=4,
        matched_breakpoints=80,
        look_back_blocks=1,
        lifetimes_s=_GPT_LIFETIMES,
        sharing_key="prompt_cache_key",
        source=_OPENAI,
        unverified=unverified,
    )


RULES: tuple[CacheRule, ...] = (
    # Fable, Mythos, Opus, Sonnet and Haiku of the fifth generation begin at 512, Sonnet 5 alone at 1024.
    _claude("claude-fable-5", 512),
    _claude("claude-fable-5-1*", 512),
    _claude("claude-fable-5*", 512, "minimum_tokens"),
    _claude("claude-mythos-5", 512),
    _claude("claude-mythos-5-1*", 512),
    _claude("claude-mythos-5*", 512, "minimum_tokens"),
    _claude("claude-mythos-preview*", 2048),
    _claude("claude-opus-5*", 512),
    _claude("claude-sonnet-5-5*", 512),
    _claude("claude-sonnet-5*", 1024),
    _claude("claude-haiku-5-5*", 512),
    _claude("claude-opus-4-8*", 1024),
    _claude("claude-opus-4-7*", 2048),
    _claude("claude-opus-4-6*", 4096),
    _claude("claude-opus-4-5*", 4096),
    _claude("claude-opus-4-1*", 1024),
    _claude("claude-opus-4", 1024),
    _claude("claude-opus-4-20*", 1024),
    _claude("claude-sonnet-4*", 1024),
    _claude("claude-haiku-4-5*", 4096),
    _claude("claude-3-5-haiku*", 2048),
    # The largest minimum there is: a mark that is not needed costs nothing, one that is trusted in vain does.
    _claude("*", 4096, "minimum_tokens"),
    _gpt("gpt-5.[6-9]*", "lifetimes_s"),
    _gpt("gpt-[6-9]*", "lifetimes_s"),
    CacheRule(
        provider="openai",
        models="*",
        trigger="automatic",
        minimum_tokens=1024,
        step_tokens=128,
        lifetimes_s=_GPT_BEFORE_LIFETIMES,
        sharing_key="prompt_cache_key",
        source=_OPENAI,
        # The guide says 1024 to 2048, depending on the model, and not on which.
        unverified=("minimum_tokens",),
    ),
    CacheRule(
        provider="vllm",
        models="*",
        trigger="automatic",
        minimum_tokens=16,
        # `--block-size`, which a server may be started with differently; 16 is what CUDA gets unasked.
        step_tokens=16,
        # The last token is computed even if all of the prompt is kept, and so the block that it lies in.
        always_computed_tokens=1,
        sharing_key="cache_salt",
        source="https://docs.vllm.ai/en/latest/design/prefix_caching/",
    ),
    CacheRule(
        provider="sglang",
        models="*",
        trigger="automatic",
        minimum_tokens=1,
        # `--page-size`, 1 unasked; some attention kernels want 16, 32 or 64.
        step_tokens=1,
        always_computed_tokens=1,
        sharing_key="cache_salt",
        source="https://github.com/sgl-project/sglang/blob/main/docs/advanced_features/server_arguments.md",
        unverified=("always_computed_tokens",),
    ),
    CacheRule(
        provider="llama-cpp",
        models="*",
        trigger="automatic",
        minimum_tokens=1,
        step_tokens=1,
        always_computed_tokens=1,
        source="https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md",
    ),
)


def cache_rule(provider: str, model: str) -> CacheRule | None:
    """The rule for a model: of those whose pattern fits, the one that says most; None for a provider without one.

    >>> cache_rule("anthropic", "claude-opus-4-7").minimum_tokens
    2048
    """
    name = model.rpartition("/")[2].lower()
    fitting = [each for each in RULES if each.provider == provider and fnmatchcase(name, each.models)]
    return max(fitting, key=lambda each: _said(each.models), default=None)


def _said(pattern: str) -> tuple[int, bool]:
    """How many characters a pattern fixes, and whether it fixes all of them."""
    return len(pattern.replace("*", "")), "*" not in pattern
