"""OpenTelemetry gets a call under its own names, with the times at which it happened."""

from __future__ import annotations

from decimal import Decimal

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv.attributes import error_attributes

from tests.prompts.telemetry.helpers import digest, record
from xprim_nb.prompts.answers import Usage
from xprim_nb.prompts.telemetry import Outcome
from xprim_nb.prompts.telemetry.otel import NAMES, attributes, export


@pytest.fixture
def collected() -> tuple[TracerProvider, InMemorySpanExporter]:
    """Who makes spans, and what became of them."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


def test_names_are_those_of_the_conventions() -> None:
    """Each is what the conventions' own package has under the same constant."""
    for constant, name in NAMES.items():
        source = error_attributes if constant == "ERROR_TYPE" else gen_ai_attributes
        assert getattr(source, constant) == name
    assert gen_ai_attributes.GenAiOperationNameValues.CHAT.value == "chat"
    known = {each.value for each in gen_ai_attributes.GenAiProviderNameValues}
    assert {"openai", "anthropic"} <= known


def test_a_call_is_a_span(collected: tuple[TracerProvider, InMemorySpanExporter]) -> None:
    """Tokens include the cached ones; what the conventions have no word for has a room of its own."""
    call = record(
        2,
        usage=Usage(1000, 50, 800, 100, 20),
        latency_s=1.5,
        first_token_s=0.25,
        finish="refusal",
        scaffold_type="module",
        billed=Decimal("0.0125"),
        in_response=Outcome(False, "content"),
    )
    provider, spans = collected
    assert export(call, provider=provider)
    (span,) = spans.get_finished_spans()
    assert span.attributes is not None
    assert dict(span.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5.6",
        "gen_ai.response.finish_reasons": ("content_filter",),
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 50,
        "gen_ai.usage.cache_read.input_tokens": 800,
        "gen_ai.usage.cache_creation.input_tokens": 120,
        "xprim.prompt.request_hash": digest("2"),
        "xprim.prompt.scaffold_type": "module",
        "xprim.prompt.response_hit": False,
        "xprim.prompt.response_reason": "content",
        "xprim.prompt.billed_usd": "0.0125",
    }
    assert (span.name, span.kind) == ("chat gpt-5.6", trace.SpanKind.CLIENT)
    assert (span.start_time, span.end_time) == (172_800 * 10**9, 172_801_500_000_000)


def test_a_failed_call_is_an_error_there_too(collected: tuple[TracerProvider, InMemorySpanExporter]) -> None:
    """Its span has the error's type, and no usage that nobody reported."""
    failed = record(finish="error", error="GenerationFailedError")
    assert attributes(failed)["error.type"] == "GenerationFailedError"
    assert not any(name.startswith("gen_ai.usage") for name in attributes(failed))
    provider, spans = collected
    export(failed, provider=provider)
    assert spans.get_finished_spans()[0].status.status_code is trace.StatusCode.ERROR


def test_what_was_no_call_has_no_span(collected: tuple[TracerProvider, InMemorySpanExporter]) -> None:
    """An answer from the cache asked nobody."""
    provider, spans = collected
    assert not export(record(is_sent=False), provider=provider)
    assert spans.get_finished_spans() == ()
