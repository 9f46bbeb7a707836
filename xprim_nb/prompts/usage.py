"""A provider's usage object in our one convention: `input_tokens` is the whole prompt, and its parts add up to it.

Four conventions are in use, and reading one as another counts cached tokens twice or not at all:

    chat       `prompt_tokens` is the whole prompt; `prompt_tokens_details` says what of it was read and written.
               OpenAI's chat, vLLM, SGLang, llama.cpp's OpenAI door, and gateways that speak it for others.
    responses  the same under other names: `input_tokens`, `input_tokens_details`.
    anthropic  `input_tokens` is what was neither read nor written; the prompt is the sum of three numbers.
    llama.cpp  `timings.prompt_n` is what was computed, `timings.cache_n` what was reused; without timings
               `tokens_evaluated` is the whole prompt.

The shape decides before the name: a gateway that answers for Anthropic in OpenAI's shape counts as OpenAI does, even
where it hands Anthropic's own fields on. Numbers that cannot be are cut to what can: nothing is negative, no part is
larger than the whole.

Source: spec 6 §Resolve; research/prompts §5 (usage fields), §3 (9: tokens counted twice); the SDKs' own types.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xprim_nb.prompts.answers import Usage
from xprim_nb.prompts.values import Ttl

__all__ = ["NOT_REPORTED", "usage_from"]

NOT_REPORTED = Usage(reported=False)
"""What is known when the provider told nothing."""


def usage_from(provider: str, raw: object, *, ttl: Ttl = "5m") -> Usage:
    """Tokens of one answer, whoever counted them.

    >>> usage_from("anthropic", {"input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": 5}).input_tokens
    100
    >>> usage_from("openai", {"prompt_tokens": 100, "completion_tokens": 5}).fresh_tokens
    100

    Args:
        provider: Who answered; decides where the shape does not.
        raw: The usage object as a mapping or a model of an SDK; of llama.cpp the whole answer. None where there is
            none.
        ttl: For how long writes were asked to be kept, where the provider does not say it.
    """
    told = _mapping(raw)
    nested = _mapping(told.get("usage"))
    if nested:
        told = {**told, **nested}
    if "prompt_tokens" in told:
        return _whole(told, "prompt_tokens", "completion_tokens", "prompt_tokens_details", ttl)
    theirs = not {"cache_read_input_tokens", "cache_creation_input_tokens"}.isdisjoint(told)
    if "input_tokens" in told and not theirs and (provider != "anthropic" or "input_tokens_details" in told):
        return _whole(told, "input_tokens", "output_tokens", "input_tokens_details", ttl)
    if "input_tokens" in told or theirs:
        return _anthropic(told, ttl)
    if "timings" in told or "tokens_evaluated" in told:
        return _llama_cpp(told)
    return NOT_REPORTED


def _whole(told: Mapping[str, Any], prompt: str, answer: str, details: str, ttl: Ttl) -> Usage:
    """The convention in which the prompt's count includes its cached part."""
    parts = _mapping(told.get(details))
    read = _count(parts, "cached_tokens")
    if not read and "cached_tokens" not in parts:
        # SGLang tells it beside the usage, and llama.cpp's OpenAI door in its timings.
        read = _count(told, "cached_tokens") or _count(_mapping(told.get("timings")), "cache_n")
    return _parts(
        _count(told, prompt), _count(told, answer), read, _count(parts, "cache_write_tokens"), 0, ttl
    )


def _anthropic(told: Mapping[str, Any], ttl: Ttl) -> Usage:
    """The convention in which the prompt is the sum of what was read, written and neither."""
    read, written = _count(told, "cache_read_input_tokens"), _count(told, "cache_creation_input_tokens")
    split = _mapping(told.get("cache_creation"))
    minutes, hour = _count(split, "ephemeral_5m_input_tokens"), _count(split, "ephemeral_1h_input_tokens")
    written = max(written, minutes + hour)
    unsplit = written - minutes - hour
    whole = _count(told, "input_tokens") + read + written
    if ttl == "1h" and not split:
        hour, unsplit = unsplit, 0
    return _parts(whole, _count(told, "output_tokens"), read, minutes + unsplit, hour, "5m")


def _llama_cpp(told: Mapping[str, Any]) -> Usage:
    """llama.cpp's own answer: the newer `timings` first, because `tokens_cached` also counts the answer in some builds."""
    timings = _mapping(told.get("timings"))
    computed, reused = _count(timings, "prompt_n"), _count(timings, "cache_n")
    whole = _count(told, "tokens_evaluated") or computed + reused
    if "cache_n" not in timings:
        cached = _count(told, "tokens_cached")
        reused = whole - computed if computed else (cached if cached <= whole else 0)
    return _parts(
        whole, _count(told, "tokens_predicted") or _count(timings, "predicted_n"), reused, 0, 0, "5m"
    )


def _parts(whole: int, answer: int, read: int, written: int, written_1h: int, ttl: Ttl) -> Usage:
    """The convention of ours, with each part cut to what is left of the whole."""
    read = min(max(0, read), whole)
    hour = min(written_1h, whole - read)
    rest = min(written, whole - read - hour)
    if ttl == "1h":
        hour, rest = hour + rest, 0
    return Usage(whole, answer, read, rest, hour, reported=True)


def _mapping(value: object) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    dump = getattr(value, "model_dump", None)
    dumped = dump() if callable(dump) else None
    return dumped if isinstance(dumped, Mapping) else {}


def _count(told: Mapping[str, Any], name: str) -> int:
    value = told.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
