"""`openai`, the official SDK against the real `transformers serve`, and a server that speaks OpenAI's protocol."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator, Iterator

import pytest

from xprim_nb.errors import (
    ConfigError,
    GenerationFailedError,
    KeyRefusedError,
    MissingExtraError,
    ProviderError,
)
from xprim_nb.testing.backend_contract import BackendContract, read
from xprim_nb.workers.backends.openai import OpenAIBackend, create
from xprim_nb.workers.contract import Backend, BackendContext
from xprim_nb.workers.values import GenerateRequest, LoadOptions, Message, Sampling

from .openai_peer import OpenAIPeer
from .remote_troubles import NoLibrary, RemoteTroubles

_MODEL = "gpt-4o-mini"


@pytest.fixture(scope="module")
def running() -> Iterator[OpenAIPeer]:
    """A server with two models."""
    with OpenAIPeer(_MODEL, "o9") as peer:
        yield peer


@pytest.fixture
def peer(running: OpenAIPeer) -> OpenAIPeer:
    """The same, as at its beginning."""
    running.clear()
    return running


@pytest.fixture
def available() -> str:
    """A model that it serves."""
    return _MODEL


@pytest.fixture
async def openai(peer: OpenAIPeer) -> AsyncIterator[OpenAIBackend]:
    """The backend for it."""
    backend = create(BackendContext(NoLibrary(), {"openai": f"{peer.url}/v1"}, {"openai": "sk-test"}))
    yield backend
    await backend.aclose()


class TestOpenAI(BackendContract):
    """What every backend promises."""

    @pytest.fixture
    async def backend(self, openai: OpenAIBackend) -> Backend:
        """As everywhere here."""
        return openai

    @pytest.fixture
    def available(self) -> str:
        """A model that it serves."""
        return _MODEL


class TestOpenAIWithTransformersServe(BackendContract):
    """What every backend promises, against the real `transformers serve`."""

    @pytest.fixture
    async def backend(self, transformers_serve: tuple[str, str]) -> AsyncIterator[Backend]:
        """The backend for it."""
        backend = create(BackendContext(NoLibrary(), {"openai": f"{transformers_serve[0]}/v1"}))
        yield backend
        await backend.aclose()

    @pytest.fixture
    def available(self, transformers_serve: tuple[str, str]) -> str:
        """The model's path there."""
        return transformers_serve[1]


class TestOpenAITroubles(RemoteTroubles):
    """What can go wrong with a server."""

    name, prompt_path, list_path = "openai", "/v1/chat/completions", "/v1/models"

    def make(self, context: BackendContext) -> Backend:
        """The backend."""
        return create(context)

    def url(self, base: str) -> str:
        """OpenAI's base URLs end with the version."""
        return f"{base}/v1"


async def test_no_limit_is_the_models_own(peer: OpenAIPeer, openai: OpenAIBackend) -> None:
    """Without a number none is sent."""
    runner = await openai.load(_MODEL, LoadOptions(), lambda *_: None)
    await read(runner.generate(GenerateRequest("Once", sampling=Sampling(None))))
    assert "max_completion_tokens" not in peer.of("/v1/chat/completions")[0].body
    await runner.close()


async def test_a_request_becomes_a_chat(peer: OpenAIPeer, openai: OpenAIBackend) -> None:
    """Messages, sampling and settings are the API's fields; a prompt is what the user says."""
    options = LoadOptions(settings={"reasoning_effort": "low"})
    runner = await openai.load(_MODEL, options, lambda *_: None)
    said = (Message("system", "Be brief."), Message("user", "Hello."))
    sampling = Sampling(3, temperature=0.5, top_p=0.9, seed=7, stop=("zz",))
    answer = await read(runner.generate(GenerateRequest(messages=said, sampling=sampling)))
    assert (answer.ended.prompt_tokens, answer.ended.tokens) == (9, 3)
    asked = peer.of("/v1/chat/completions")[0]
    assert asked.headers["authorization"] == "Bearer sk-test"
    assert asked.body == {
        "model": _MODEL,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello."}],
        "max_completion_tokens": 3,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
        "stop": ["zz"],
        "stream": True,
        "stream_options": {"include_usage": True},
        "reasoning_effort": "low",
    }
    await read(runner.generate(GenerateRequest("Once", sampling=Sampling(3))))
    assert peer.of("/v1/chat/completions")[1].body["messages"] == [{"role": "user", "content": "Once"}]
    await runner.close()


async def test_what_a_model_refuses_is_left_out_from_then_on(
    peer: OpenAIPeer, openai: OpenAIBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """A reasoning model that takes no temperature answers without; the log says so, once."""
    said = "Unsupported value: 'temperature' does not support 0 with this model."
    error = {
        "message": said,
        "type": "invalid_request_error",
        "param": "temperature",
        "code": "unsupported_value",
    }
    peer.troubles.refuse("/v1/chat/completions", 400, {"error": error}, times=1)
    runner = await openai.load("o9", LoadOptions(), lambda *_: None)
    with caplog.at_level(logging.WARNING, "xprim_nb.workers"):
        for _ in range(2):
            await read(runner.generate(GenerateRequest("Once", sampling=Sampling(3))))
    assert ["temperature" in each.body for each in peer.of("/v1/chat/completions")] == [True, False, False]
    assert [each.getMessage() for each in caplog.records] == [
        "o9 takes no temperature, and answers as it does without."
    ]
    await runner.close()


async def test_what_cannot_be_left_out_is_an_error(peer: OpenAIPeer, openai: OpenAIBackend) -> None:
    """A refusal of anything else is told, and nothing is sent again."""
    error = {
        "message": "Invalid 'messages'.",
        "type": "invalid_request_error",
        "param": "messages",
        "code": None,
    }
    peer.troubles.refuse("/v1/chat/completions", 400, {"error": error})
    runner = await openai.load(_MODEL, LoadOptions(), lambda *_: None)
    with pytest.raises(ProviderError, match="Invalid 'messages'"):
        await read(runner.generate(GenerateRequest("Once")))
    assert len(peer.of("/v1/chat/completions")) == 1
    await runner.close()


async def test_more_stop_texts_than_the_api_takes_are_kept(peer: OpenAIPeer, openai: OpenAIBackend) -> None:
    """The API takes four; the fifth ends the answer all the same, and the server is left."""
    runner = await openai.load(_MODEL, LoadOptions(), lambda *_: None)
    whole = (await read(runner.generate(GenerateRequest("Once", sampling=Sampling(40))))).text
    stops = ("q1", "q2", "q3", "q4", whole[20:24])
    peer.troubles.is_endless = True
    answer = await read(runner.generate(GenerateRequest("Once", sampling=Sampling(40, stop=stops))))
    assert answer.text == whole[: whole.index(stops[-1])]
    assert answer.ended.reason == "stop"
    assert len(peer.of("/v1/chat/completions")[-1].body["stop"]) == 4
    await peer.until(lambda its: its.under_way == 0)
    await runner.close()


async def test_the_api_has_no_top_k(openai: OpenAIBackend) -> None:
    """A sampling that the API does not have is refused, not left out."""
    runner = await openai.load(_MODEL, LoadOptions(), lambda *_: None)
    with pytest.raises(GenerationFailedError, match="top_k"):
        await read(runner.generate(GenerateRequest("Once", sampling=Sampling(top_k=5))))
    await runner.close()


async def test_without_a_key_nothing_is_sent() -> None:
    """The official server wants a key: without one it is not even asked."""
    backend = create(BackendContext(NoLibrary()))
    with pytest.raises(KeyRefusedError, match="wants a key"):
        await backend.check_model_availability([_MODEL])
    assert await backend.get_recommended_models() == []
    await backend.aclose()


async def test_a_server_of_ones_own_needs_no_key(peer: OpenAIPeer) -> None:
    """Another address is asked without a key too."""
    backend = create(BackendContext(NoLibrary(), {"openai": f"{peer.url}/v1"}))
    assert await backend.check_model_availability([_MODEL]) == []
    await backend.aclose()


def test_credentials_do_not_belong_in_the_address() -> None:
    """The SDK would not send them: they are refused, unseen."""
    context = BackendContext(NoLibrary(), {"openai": "https://ann:pw-secret@example.org/v1"})
    with pytest.raises(ConfigError) as caught:
        create(context)
    assert "pw-secret" not in str(caught.value.to_dict())


async def test_without_the_sdk_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing SDK is a MissingExtraError when the backend is asked, not when it is made."""
    monkeypatch.setitem(sys.modules, "openai", None)
    backend = create(BackendContext(NoLibrary(), keys={"openai": "sk-test"}))
    with pytest.raises(MissingExtraError) as caught:
        await backend.check_model_availability([_MODEL])
    assert caught.value.hint == 'pip install "xprim-nb[openai]"'
    assert await backend.get_recommended_models() == []
    await backend.aclose()
