"""A call in the words of OpenTelemetry's GenAI conventions: the one place that knows them.

None of these names is stable yet: whoever follows a new version of the conventions changes this module alone.

Source: opentelemetry-semantic-conventions 0.66b2 (`_incubating.attributes.gen_ai_attributes`, copied on 2026-11-28, and
compared with what is installed by a test); research/prompts §5.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from xprim_nb.errors import MissingExtraError
from xprim_nb.prompts.answers import Answer
from xprim_nb.prompts.telemetry.records import CACHES, Record
from xprim_nb.prompts.values import PromptBlock, ResolveInput

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

__all__ = ["NAMES", "Value", "attributes", "content", "export", "parameters"]

Value: TypeAlias = str | int | float | bool | tuple[str, ...]
"""What an attribute may be."""

# What an attribute is called, by the name that the conventions' own package gives it.
NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "GEN_AI_OPERATION_NAME": "gen_ai.operation.name",
        "GEN_AI_PROVIDER_NAME": "gen_ai.provider.name",
        "GEN_AI_REQUEST_MODEL": "gen_ai.request.model",
        "GEN_AI_REQUEST_MAX_TOKENS": "gen_ai.request.max_tokens",
        "GEN_AI_REQUEST_SEED": "gen_ai.request.seed",
        "GEN_AI_REQUEST_TEMPERATURE": "gen_ai.request.temperature",
        "GEN_AI_REQUEST_TOP_K": "gen_ai.request.top_k",
        "GEN_AI_REQUEST_TOP_P": "gen_ai.request.top_p",
        "GEN_AI_SYSTEM_INSTRUCTIONS": "gen_ai.system_instructions",
        "GEN_AI_INPUT_MESSAGES": "gen_ai.input.messages",
        "GEN_AI_OUTPUT_MESSAGES": "gen_ai.output.messages",
        "GEN_AI_RESPONSE_FINISH_REASONS": "gen_ai.response.finish_reasons",
        "GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK": "gen_ai.response.time_to_first_chunk",
        "GEN_AI_USAGE_INPUT_TOKENS": "gen_ai.usage.input_tokens",
        "GEN_AI_USAGE_OUTPUT_TOKENS": "gen_ai.usage.output_tokens",
        "GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS": "gen_ai.usage.cache_read.input_tokens",
        "GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS": "gen_ai.usage.cache_creation.input_tokens",
        "ERROR_TYPE": "error.type",
    }
)
_CHAT: Final = "chat"
# The conventions list these words for how an answer ended; two of theirs are others.
_FINISHES: Final[Mapping[str, str]] = {"refusal": "content_filter", "tool_calls": "tool_call"}
# What the conventions have no word for, in a room of our own.
_OURS: Final = "xprim.prompt"


def attributes(record: Record) -> dict[str, Value]:
    """The attributes of a call's span. `input_tokens` includes what was read and written, as the conventions have it."""
    told: dict[str, Value] = {
        NAMES["GEN_AI_OPERATION_NAME"]: _CHAT,
        NAMES["GEN_AI_PROVIDER_NAME"]: record.provider,
        NAMES["GEN_AI_REQUEST_MODEL"]: record.model,
        f"{_OURS}.request_hash": record.request,
    }
    if record.finish and not record.error:
        told[NAMES["GEN_AI_RESPONSE_FINISH_REASONS"]] = (_FINISHES.get(record.finish, record.finish),)
    if record.error or record.finish in ("error", "cancelled"):
        told[NAMES["ERROR_TYPE"]] = record.error or record.finish
    if record.first_token_s:
        told[NAMES["GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK"]] = record.first_token_s
    usage = record.usage
    if usage is not None:
        written = usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
        told |= {
            NAMES["GEN_AI_USAGE_INPUT_TOKENS"]: usage.input_tokens,
            NAMES["GEN_AI_USAGE_OUTPUT_TOKENS"]: usage.output_tokens,
            NAMES["GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS"]: usage.cache_read_tokens,
            NAMES["GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS"]: written,
        }
    for name in ("scaffold", "scaffold_type", "checkpoint"):
        if getattr(record, name):
            told[f"{_OURS}.{name}"] = getattr(record, name)
    for cache in CACHES:
        hit, reason = record.outcome(cache)
        if hit is not None:
            told |= {f"{_OURS}.{cache}_hit": hit, f"{_OURS}.{cache}_reason": reason}
    for name in ("billed", "estimated"):
        if getattr(record, name) is not None:
            told[f"{_OURS}.{name}_usd"] = str(getattr(record, name))
    return told


def parameters(asked: ResolveInput) -> dict[str, Value]:
    """The settings of a call; what nobody set is left out, and so is whatever holds words: texts that end an answer."""
    told = {
        "GEN_AI_REQUEST_MAX_TOKENS": asked.max_tokens,
        "GEN_AI_REQUEST_SEED": asked.seed,
        "GEN_AI_REQUEST_TEMPERATURE": asked.temperature,
        "GEN_AI_REQUEST_TOP_K": asked.top_k or None,
        "GEN_AI_REQUEST_TOP_P": asked.top_p,
    }
    return {NAMES[name]: value for name, value in told.items() if value is not None}


def content(asked: ResolveInput, answer: Answer | None) -> dict[str, Value]:
    """What was said, each side as the JSON of the conventions; it goes nowhere unless somebody asked for that.

    Args:
        asked: What was asked, without secrets.
        answer: The same of the answer; None where there is none.
    """
    blocks = [_text(text) for block in asked.blocks for text in _texts(block)]
    if asked.context is not None:
        blocks.append(_text(_json(asked.context)))
    said = [{"role": each.role, "parts": [_text(each.content)]} for each in asked.messages]
    said.append({"role": "user", "parts": [_text(asked.prompt)]})
    told: dict[str, Value] = {NAMES["GEN_AI_INPUT_MESSAGES"]: _json(said)}
    if blocks:
        told[NAMES["GEN_AI_SYSTEM_INSTRUCTIONS"]] = _json(blocks)
    if answer is not None:
        parts = [_text(answer.text)] if answer.text else []
        parts += [
            {"type": "tool_call", **{name: call.get(name) for name in ("id", "name", "arguments")}}
            for call in answer.tool_calls
        ]
        finish = _FINISHES.get(answer.finish, answer.finish)
        ended = {"role": "assistant", "parts": parts, "finish_reason": finish}
        told[NAMES["GEN_AI_OUTPUT_MESSAGES"]] = _json([ended])
    return told


def export(
    record: Record, *, provider: TracerProvider | None = None, more: Mapping[str, Value] | None = None
) -> bool:
    """Hand a call to whoever collects spans, with the times at which it happened; below the span that is open here.

    Args:
        record: The call.
        provider: Who makes spans; whatever this process has configured when None.
        more: Attributes besides `attributes`.

    Returns:
        False for what was no call of a provider: the conventions have no span for it.

    Raises:
        MissingExtraError: `opentelemetry` is not installed.
    """
    try:
        from opentelemetry import trace  # noqa: PLC0415  # an optional package
    except ImportError as error:
        raise MissingExtraError.for_extra("otel", "Telling calls to OpenTelemetry") from error
    if not record.is_sent:
        return False
    start_ns = int(record.at_s * 1e9)
    span = trace.get_tracer("xprim_nb.prompts", tracer_provider=provider).start_span(
        f"{_CHAT} {record.model}",
        kind=trace.SpanKind.CLIENT,
        attributes={**attributes(record), **(more or {})},
        start_time=start_ns,
    )
    if record.error or record.finish in ("error", "cancelled"):
        span.set_status(trace.StatusCode.ERROR)
    span.end(start_ns + int(record.latency_s * 1e9))
    return True


def _texts(block: PromptBlock) -> Iterator[str]:
    if block.files is None:
        yield block.content
        return
    for path, text in sorted(block.files.items()):
        yield f"{path}\n{text}"


def _text(said: str) -> dict[str, Any]:
    return {"type": "text", "content": said}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
