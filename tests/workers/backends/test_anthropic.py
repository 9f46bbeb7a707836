"""`anthropic`, the official SDK against a server that speaks Anthropic's documented protocol."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator, Iterator

import pytest

from xprim_nb.errors import GenerationFailedError, KeyRefusedError, MissingExtraError, ProviderError
from xprim_nb.testing.backend_contract import BackendContract, read
from xprim_nb.workers.backends.anthropic import AnthropicBackend, create
from xprim_nb.workers.contract import Backend, BackendContext
from xprim_nb.workers.values import Ended, GenerateRequest, LoadOptions, Message, Sampling

from .anthropic_peer import AnthropicPeer
from .remote_troubles import NoLibrary, RemoteTroubles

_MODEL = "claude-sonnet-4"


@pytest.fixture(scope="module")
def running() -> Iterator[AnthropicPeer]:
    """A server with two models."""
    with AnthropicPeer(_MODEL, "claude-opus-9") as peer:
        yield peer


@pytest.fixture
def peer(running: AnthropicPeer) -> AnthropicPeer:
    """The same, as at its beginning."""
    running.clear()
    return running


@pytest.fixture
def available() -> str:
    """A model that it serves."""
    return _MODEL


@pytest.fixture
async def anthropic(peer: AnthropicPeer) -> AsyncIterator[AnthropicBackend]:
    """The backend for it."""
    backend = create(BackendContext(NoLibrary(), {"anthropic": peer.url}, {"anthropic": "sk-ant-test"}))
    yield backend
    await backend.aclose()


class TestAnthropic(BackendContract):
    """What every backend promises."""

    @pytest.fixture
    async def backend(self, anthropic: AnthropicBackend) -> Backend:
        """As everywhere here."""
        return anthropic

    @pytest.fixture
    def available(self) -> str:
        """A model that it serves."""
        return _MODEL


class TestAnthropicTroubles(RemoteTroubles):
    """What can go wrong with a server."""

    name, prompt_path, list_path = "anthropic", "/v1/messages", "/v1/models"

    def make(self, context: BackendContext) -> Backend:
        """The backend."""
        return create(context)

    def quoting(self, message: str) -> object:
        """Anthropic's form."""
        return {"type": "error", "error": {"type": "some_error", "message": message}}


async def test_a_request_becomes_messages(peer: AnthropicPeer, anthropic: AnthropicBackend) -> None:
    """System messages go to `system`, sampling and settings to the API's fields; a prompt is what the user says."""
    options = LoadOptions(settings={"service_tier": "auto"})
    runner = await anthropic.load(_MODEL, options, lambda *_: None)
    said = (
        Message("system", "Be brief."),
        Message("user", "Hello."),
        Message("assistant", "Hi."),
        Message("system", "Be kind."),
        Message("user", "Go on."),
    )
    sampling = Sampling(3, stop=("zz", "\n\t "))
    answer = await read(runner.generate(GenerateRequest(messages=said, sampling=sampling)))
    assert answer.ended.prompt_tokens == 25
    asked = peer.of("/v1/messages")[0]
    assert "sk-ant-test" in asked.headers.get("authorization", "") + asked.headers.get("x-api-key", "")
    assert asked.body == {
        "model": _MODEL,
        "system": "Be brief.\n\nBe kind.",
        "messages": [
            {"role": "user", "content": "Hello."},
            {"role": "assistant", "content": "Hi."},
            {"role": "user", "content": "Go on."},
        ],
        "max_tokens": 3,
        "stop_sequences": ["zz"],
        "stream": True,
        "service_tier": "auto",
    }
    plain = await read(runner.generate(GenerateRequest("Once", sampling=Sampling(3))))
    assert plain.ended == Ended("length", 25, 3, usage={"input_tokens": 25, "output_tokens": 3})
    assert peer.of("/v1/messages")[1].body == {
        "model": _MODEL,
        "messages": [{"role": "user", "content": "Once"}],
        "max_tokens": 3,
        "stream": True,
        "service_tier": "auto",
    }
    await read(runner.generate(GenerateRequest("Once", sampling=Sampling(None))))
    assert peer.of("/v1/messages")[2].body["max_tokens"] == 4096  # the API wants a number
    await runner.close()


async def test_a_stop_text_of_blanks_is_kept_here(peer: AnthropicPeer, anthropic: AnthropicBackend) -> None:
    """The API refuses blanks as stop texts; the answer ends before them all the same."""
    runner = await anthropic.load(_MODEL, LoadOptions(), lambda *_: None)
    peer.troubles.is_endless = True
    answer = await read(runner.generate(GenerateRequest("Once", sampling=Sampling(40, stop=(" ",)))))
    assert answer.text
    assert " " not in answer.text
    assert answer.ended.reason == "stop"
    await peer.until(lambda its: its.under_way == 0)
    await runner.close()


async def test_no_sampling_is_sent(
    peer: AnthropicPeer, anthropic: AnthropicBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """The API refuses all of it: a temperature has no effect and the log says so, `top_p` and `top_k` are refused."""
    runner = await anthropic.load(_MODEL, LoadOptions(), lambda *_: None)
    with caplog.at_level(logging.WARNING, "xprim_nb.workers"):
        await read(runner.generate(GenerateRequest("Once", sampling=Sampling(3, temperature=0.5))))
    assert "takes no temperature" in caplog.text
    assert not {"temperature", "top_p", "top_k", "seed"} & set(peer.of("/v1/messages")[0].body)
    for sampling in (Sampling(3, top_p=0.5), Sampling(3, top_k=5)):
        with pytest.raises(GenerationFailedError, match="takes no top_"):
            await read(runner.generate(GenerateRequest("Once", sampling=sampling)))
    await runner.close()


async def test_a_conversation_needs_a_user(anthropic: AnthropicBackend) -> None:
    """System messages alone are nothing to answer: that is said before anything is sent."""
    runner = await anthropic.load(_MODEL, LoadOptions(), lambda *_: None)
    with pytest.raises(GenerationFailedError, match="user"):
        await read(runner.generate(GenerateRequest(messages=(Message("system", "Be brief."),))))
    await runner.close()


async def test_an_overloaded_server_may_be_asked_again(
    peer: AnthropicPeer, anthropic: AnthropicBackend
) -> None:
    """`overloaded_error` inside a stream means what 529 would have meant."""
    peer.troubles.fails_after = 0
    runner = await anthropic.load(_MODEL, LoadOptions(), lambda *_: None)
    with pytest.raises(ProviderError) as caught:
        await read(runner.generate(GenerateRequest("Once")))
    assert (caught.value.status, caught.value.retryable) == (529, True)
    await runner.close()


async def test_without_a_key_nothing_is_sent() -> None:
    """The official server wants a key: without one it is not even asked."""
    backend = create(BackendContext(NoLibrary()))
    with pytest.raises(KeyRefusedError, match="wants a key"):
        await backend.check_model_availability([_MODEL])
    assert await backend.get_recommended_models() == []
    await backend.aclose()


async def test_a_key_of_the_environment_is_not_the_sdks_to_read(
    peer: AnthropicPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment is read in `Config.from_env` alone: the SDK is told its key and address."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-of-the-environment")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "of-the-environment")
    backend = create(BackendContext(NoLibrary(), {"anthropic": peer.url}))
    await backend.check_model_availability([_MODEL])
    assert not [value for value in peer.asked[0].headers.values() if "of-the-environment" in value]
    await backend.aclose()


async def test_without_the_sdk_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing SDK is a MissingExtraError when the backend is asked, not when it is made."""
    monkeypatch.setitem(sys.modules, "anthropic", None)
    backend = create(BackendContext(NoLibrary(), keys={"anthropic": "sk-ant-test"}))
    with pytest.raises(MissingExtraError) as caught:
        await backend.check_model_availability([_MODEL])
    assert caught.value.hint == 'pip install "xprim-nb[anthropic]"'
    await backend.aclose()


async def test_a_request_that_was_laid_out_elsewhere_arrives_as_it_is(
    peer: AnthropicPeer, anthropic: AnthropicBackend
) -> None:
    """Cache breakpoints and fields the SDK has no argument for; tool calls and the cache's usage come back."""
    runner = await anthropic.load(_MODEL, LoadOptions(), lambda *_: None)
    body: dict[str, object] = {
        "system": [{"type": "text", "text": "Long.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        "messages": [{"role": "user", "content": "Hello."}],
        "tools": [{"name": "read", "description": "", "input_schema": {"type": "object"}}],
        "max_tokens": 9,
        "a_field_of_tomorrow": {"x": 1},
    }
    answer = await read(runner.generate(GenerateRequest(body=body)))
    assert peer.of("/v1/messages")[0].body == {**body, "model": _MODEL, "stream": True}
    assert answer.ended.reason == "tool_calls"
    assert answer.ended.tool_calls == ({"id": "toolu_1", "name": "read", "arguments": '{"path": "a.py"}'},)
    assert answer.ended.usage["cache_read_input_tokens"] == 1200
    assert answer.ended.usage["cache_creation"] == {
        "ephemeral_5m_input_tokens": 100,
        "ephemeral_1h_input_tokens": 200,
    }
    assert answer.ended.usage["output_tokens"] == 17
    await runner.close()
