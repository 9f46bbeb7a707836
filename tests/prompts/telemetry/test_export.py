"""Calls are told to OpenTelemetry when somebody wants that: as they end, long after, and without a word or a secret."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.prompts.caches.helpers import Answerer
from tests.prompts.telemetry.collector import Collector
from tests.prompts.telemetry.helpers import record
from xprim_nb.errors import ConfigError, GenerationFailedError, MissingExtraError, NetworkError
from xprim_nb.prompts.answers import Answer, Usage
from xprim_nb.prompts.desk import Prompts
from xprim_nb.prompts.telemetry.export import send

_SECRET = "ghp_0123456789abcdefghijklmnopqrstuvwxyzAB"
_ASKED: dict[str, Any] = {
    "provider": "openai",
    "model": "gpt-5.6",
    "max_tokens": 40,
    "blocks": [{"type": "requirements", "content": f"Be kind, and push with {_SECRET}."}],
    "messages": [{"role": "user", "content": "Hello."}],
}
_OTLP = "opentelemetry.exporter.otlp.proto.http.trace_exporter"


@pytest.fixture
def collected() -> tuple[TracerProvider, InMemorySpanExporter]:
    """Who makes spans, and what became of them."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


@pytest.fixture
def collector() -> Any:
    """One that takes what it is told."""
    pytest.importorskip(_OTLP, reason="the extra `otel` is not installed")
    with Collector() as collector:
        yield collector


@pytest.fixture
async def prompts(tmp_path: Path) -> AsyncIterator[Prompts]:
    """Prompts whose answers repeat a secret."""
    said = Answer(f"Pushed with {_SECRET}.", usage=Usage(1000, 50, 800), latency_s=1.0)
    async with Prompts(tmp_path / "prompts", generate=Answerer(lambda call: said)) as prompts:
        yield prompts


async def test_nothing_is_told_until_somebody_says_where_to(
    prompts: Prompts, collected: tuple[TracerProvider, InMemorySpanExporter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that has configured a provider hears of no call, then of each that is sent, then of none again."""
    provider, spans = collected
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    await prompts.ask("One?", **_ASKED)
    assert spans.get_finished_spans() == ()
    await prompts.export_to()
    await prompts.ask("Two?", **_ASKED)
    await prompts.ask("Two?", **_ASKED)  # from the cache: no call
    (span,) = spans.get_finished_spans()
    assert (span.name, span.kind) == ("chat gpt-5.6", trace.SpanKind.CLIENT)
    await prompts.stop_export()
    await prompts.ask("Three?", **_ASKED)
    assert len(spans.get_finished_spans()) == 1


async def test_a_call_belongs_to_the_span_that_it_was_made_in(
    prompts: Prompts, collected: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    """A user's own span is the parent, with the call's settings, usage and price below it."""
    provider, spans = collected
    await prompts.export_to(provider)
    with provider.get_tracer("mine").start_as_current_span("agent"):
        await prompts.ask("Why?", **_ASKED, scaffold_type="daily", checkpoint="c1")
    call, agent = spans.get_finished_spans()
    assert call.parent is not None
    assert agent.context is not None
    assert call.parent.span_id == agent.context.span_id
    told = dict(call.attributes or {})
    assert told["gen_ai.request.max_tokens"] == 40
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.cache_read.input_tokens"]) == (1000, 800)
    assert (told["xprim.prompt.scaffold_type"], told["xprim.prompt.checkpoint"]) == ("daily", "c1")


async def test_no_word_is_told_unless_it_is_asked_for_and_never_a_secret(
    prompts: Prompts, collected: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    """With `content` both sides are the conventions' JSON; a secret is in neither, nor in a name."""
    provider, spans = collected
    await prompts.export_to(provider)
    await prompts.ask("Why?", **_ASKED, checkpoint=f"c {_SECRET}")
    await prompts.export_to(provider, content=True)
    await prompts.ask("Whence?", **_ASKED)
    silent, talking = (span.to_json() for span in spans.get_finished_spans())
    for word in ("Why?", "push", "Hello", "Pushed", _SECRET):
        assert word not in silent
    assert _SECRET not in talking
    told = dict(spans.get_finished_spans()[1].attributes or {})
    (instructions,) = json.loads(str(told["gen_ai.system_instructions"]))
    assert instructions["content"].startswith("Be kind, and push with [redacted:github:")
    assert json.loads(str(told["gen_ai.input.messages"])) == [
        {"role": "user", "parts": [{"type": "text", "content": "Hello."}]},
        {"role": "user", "parts": [{"type": "text", "content": "Whence?"}]},
    ]
    (said,) = json.loads(str(told["gen_ai.output.messages"]))
    assert (said["role"], said["finish_reason"]) == ("assistant", "stop")
    assert said["parts"][0]["content"].startswith("Pushed with [redacted:github:")


async def test_a_call_that_failed_is_told_with_its_question(
    tmp_path: Path, collected: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    """It has the error's type and no answer."""

    def fails(call: int) -> Answer:
        raise GenerationFailedError("the model tripped", subject="m")

    provider, spans = collected
    async with Prompts(tmp_path / "prompts", generate=Answerer(fails)) as prompts:
        await prompts.export_to(provider, content=True)
        with pytest.raises(GenerationFailedError):
            await prompts.ask("Why?", **_ASKED)
    (span,) = spans.get_finished_spans()
    told = dict(span.attributes or {})
    assert told["error.type"] == "GenerationFailedError"
    assert "gen_ai.input.messages" in told
    assert "gen_ai.output.messages" not in told


async def test_a_real_collector_hears_each_call(tmp_path: Path, collector: Collector) -> None:
    """Its bare address is enough; what waits is sent before the prompts close."""
    async with Prompts(tmp_path / "prompts", generate=Answerer()) as prompts:
        await prompts.export_to(collector.url)
        await prompts.ask("Why?", **_ASKED)
    (span,) = collector.spans()
    assert set(collector.paths) == {"/v1/traces"}
    assert (span["name"], span["service"]) == ("chat gpt-5.6", "xprim-nb")
    assert span["attributes"]["gen_ai.provider.name"] == "openai"
    assert span["end_ns"] >= span["start_ns"] > 1.7e18
    assert b"Why?" not in collector.bodies[0]


async def test_what_is_recorded_is_told_later_and_never_twice(tmp_path: Path, collector: Collector) -> None:
    """Days after, and to the same collector again: the spans are the same, at the times at which it happened."""
    async with Prompts(tmp_path / "prompts", generate=Answerer()) as prompts:
        await prompts.ask("One?", **_ASKED, checkpoint="c1")
        await prompts.ask("Two?", **_ASKED)
        await prompts.ask("Two?", **_ASKED)
        assert await prompts.send_recorded(collector.url) == 2
        assert await prompts.send_recorded(f"{collector.url}/v1/traces") == 2
        assert await prompts.send_recorded(collector.url, checkpoint="c1") == 1
        assert await prompts.send_recorded(collector.url, since_s=time.time() + 60) == 0
    one, two, again_one, again_two, only = collector.spans()
    assert (one, two) == (again_one, again_two)
    assert only == one
    assert one["trace"] != two["trace"]


def test_who_refuses_is_named(collector: Collector) -> None:
    """A collector that takes nothing is a NetworkError, and one that is not there too; no password is in it."""
    with Collector(status=400) as refusing:
        with pytest.raises(NetworkError, match="took 0 of 1 calls") as caught:
            send([record()], refusing.url.replace("http://", "http://ann:pw-secret@"))
        assert "pw-secret" not in str(caught.value.to_dict())
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(NetworkError):
            send([record()], f"http://127.0.0.1:{closed.getsockname()[1]}")
    assert collector.bodies == []


async def test_a_collector_that_is_gone_holds_nobody_up(tmp_path: Path, collector: Collector) -> None:
    """Asking goes on at once, and the prompts close within seconds."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        async with Prompts(tmp_path / "prompts", generate=Answerer()) as prompts:
            await prompts.export_to(f"http://127.0.0.1:{closed.getsockname()[1]}")
            began = time.perf_counter()  # what tells is imported by now
            assert (await prompts.ask("Why?", **_ASKED)).answer.text == "answer 1"
            assert time.perf_counter() - began < 4
    assert time.perf_counter() - began < 20


@pytest.mark.parametrize("where", ["localhost:4318", "ftp://lab", "http://"])
async def test_what_is_no_address_is_refused(prompts: Prompts, collector: Collector, where: str) -> None:
    """A collector's URL begins with http; the error says how it is written."""
    with pytest.raises(ConfigError, match="no address") as caught:
        await prompts.export_to(where)
    assert "http://localhost:4318" in caught.value.hint


async def test_who_configured_nothing_is_told(prompts: Prompts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a provider each call would go nowhere: that is an error, and what was told before goes on."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    with pytest.raises(ConfigError, match="configured nobody"):
        await prompts.export_to()


async def test_without_the_packages_the_extra_is_named(
    prompts: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways of telling end with the command that installs what they need; asking needs none of it."""
    monkeypatch.setitem(sys.modules, _OTLP, None)
    for work in (lambda: prompts.export_to("http://localhost:4318"), prompts.send_recorded):
        with pytest.raises(MissingExtraError, match="Sending calls to a collector") as caught:
            await asyncio.wait_for(work(), 10)
        assert caught.value.hint == 'pip install "xprim-nb[otel]"'
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(MissingExtraError, match="Telling calls to OpenTelemetry"):
        await prompts.export_to()
    assert (await prompts.ask("Why?", **_ASKED)).source == "generated"
