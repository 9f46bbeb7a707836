"""`openai_compatible`, against the real `transformers serve`, and against a server that speaks vLLM's protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from xprim_nb.errors import ConfigError, LoadFailedError, ProviderError, UnsupportedModelError
from xprim_nb.testing.backend_contract import BackendContract, read
from xprim_nb.workers.backends.openai_compatible import (
    OpenAICompatibleBackend,
    base_url,
    create,
    create_named,
)
from xprim_nb.workers.contract import Backend, BackendContext
from xprim_nb.workers.values import GenerateRequest, LoadOptions, LoraChoice, Message, Sampling

from .openai_peer import OpenAIPeer
from .remote_troubles import NoLibrary, RemoteTroubles

_MODEL = "demo-model"


@pytest.fixture(scope="module")
def running() -> Iterator[OpenAIPeer]:
    """A server like vLLM's, in development mode."""
    with OpenAIPeer(_MODEL, "other-model", is_vllm=True) as peer:
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
async def vllm(peer: OpenAIPeer) -> AsyncIterator[OpenAICompatibleBackend]:
    """The backend for it, under a name of one's own."""
    backend = create_named(BackendContext(NoLibrary(), endpoints={"lab": peer.url}), "lab")
    yield backend
    await backend.aclose()


class TestVLLM(BackendContract):
    """What every backend promises, over vLLM's protocol."""

    @pytest.fixture
    async def backend(self, vllm: OpenAICompatibleBackend) -> Backend:
        """As everywhere here."""
        return vllm

    @pytest.fixture
    def available(self) -> str:
        """A model that it serves."""
        return _MODEL


class TestOpenAICompatibleTroubles(RemoteTroubles):
    """What can go wrong with a server."""

    name, prompt_path, list_path = "openai_compatible", "/v1/chat/completions", "/v1/models"

    def make(self, context: BackendContext) -> Backend:
        """The backend."""
        return create(context)


class TestTransformersServe(BackendContract):
    """What every backend promises, against the real `transformers serve`."""

    @pytest.fixture
    async def backend(self, transformers_serve: tuple[str, str]) -> AsyncIterator[Backend]:
        """The backend for it."""
        backend = create(BackendContext(NoLibrary(), endpoints={"openai_compatible": transformers_serve[0]}))
        yield backend
        await backend.aclose()

    @pytest.fixture
    def available(self, transformers_serve: tuple[str, str]) -> str:
        """The model's path there."""
        return transformers_serve[1]

    async def test_fields_that_it_refuses_are_named(self, backend: Backend, available: str) -> None:
        """`top_k` is no field of OpenAI's: the server refuses it in its own words, and answers the next."""
        runner = await backend.load(available, LoadOptions(), lambda *_: None)
        with pytest.raises(ProviderError, match="top_k") as caught:
            await read(runner.generate(GenerateRequest("Once", sampling=Sampling(4, top_k=3))))
        assert caught.value.status == 422
        assert (await read(runner.generate(GenerateRequest("Once", sampling=Sampling(4))))).text
        await runner.close()

    async def test_usage_is_the_servers(self, backend: Backend, available: str) -> None:
        """Tokens of prompt and answer are those that the server counts: one a byte, and one to begin with."""
        runner = await backend.load(available, LoadOptions(), lambda *_: None)
        ended = (await read(runner.generate(GenerateRequest("Once", sampling=Sampling(6))))).ended
        assert (ended.prompt_tokens, ended.tokens) == (4, 6)
        await runner.close()


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1"),
        ("https://api.example.org/openai", "https://api.example.org/openai"),
    ],
)
def test_the_version_is_added_where_there_is_no_path(url: str, base: str) -> None:
    """An address without a path is that of a server; one with a path is taken as it is."""
    assert base_url(url) == base


async def test_without_an_address_it_says_what_to_set() -> None:
    """A backend that nobody gave an address raises ConfigError when it is asked, not before."""
    backend = create(BackendContext(NoLibrary()))
    with pytest.raises(ConfigError, match="openai_compatible") as caught:
        await backend.check_model_availability(["any"])
    assert "XPRIM_OPENAI_COMPATIBLE_URL" in caught.value.hint
    assert await backend.get_recommended_models() == []
    await backend.aclose()


@pytest.mark.parametrize("url", ["lab", "ftp://lab/v1", "http://", "http://lab:no/v1", "http://lab/v1?key=1"])
def test_what_is_no_address_is_refused(url: str) -> None:
    """A URL that cannot be one is a ConfigError when the backend is made."""
    with pytest.raises(ConfigError, match="no address"):
        create_named(BackendContext(NoLibrary(), endpoints={"lab": url}), "lab")


def test_a_broken_key_is_refused_unseen() -> None:
    """A key that no header can hold is a ConfigError that does not quote it."""
    context = BackendContext(NoLibrary(), {"lab": "http://127.0.0.1:1"}, {"lab": "sk-one\nsk-two"})
    with pytest.raises(ConfigError) as caught:
        create_named(context, "lab")
    assert "sk-" not in str(caught.value.to_dict())


async def test_a_key_from_a_file_loses_its_line_break(peer: OpenAIPeer) -> None:
    """The line break at a key's end is not part of it."""
    backend = create_named(BackendContext(NoLibrary(), {"lab": peer.url}, {"lab": "sk-one\n"}), "lab")
    await backend.check_model_availability([_MODEL])
    assert peer.asked[0].headers["authorization"] == "Bearer sk-one"
    await backend.aclose()


async def test_a_password_in_the_address_is_sent_and_not_shown(peer: OpenAIPeer) -> None:
    """Credentials of the URL go as Basic authentication, and stand in no message."""
    url = peer.url.replace("http://", "http://ann:pw-secret@")
    backend = create_named(BackendContext(NoLibrary(), {"lab": url}), "lab")
    peer.troubles.refuse("/v1/models", 500, "no")
    with pytest.raises(ProviderError) as caught:
        await backend.check_model_availability([_MODEL])
    assert peer.asked[0].headers["authorization"].startswith("Basic ")
    assert "pw-secret" not in str(caught.value.to_dict()) + repr(vars(backend)) + repr(
        BackendContext(NoLibrary(), {"lab": url})
    )
    await backend.aclose()


async def test_a_prompt_is_completed_and_messages_are_chatted(
    peer: OpenAIPeer, vllm: OpenAICompatibleBackend
) -> None:
    """A prompt goes to /v1/completions as it is, a conversation to /v1/chat/completions."""
    runner = await vllm.load(_MODEL, LoadOptions(), lambda *_: None)
    assert runner.context_tokens == 768
    sampling = Sampling(3, temperature=0.5, top_p=0.9, top_k=4, seed=7, stop=("zz",))
    await read(runner.generate(GenerateRequest("Once", sampling=sampling)))
    assert peer.of("/v1/completions")[0].body == {
        "model": _MODEL,
        "prompt": "Once",
        "max_tokens": 3,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 4,
        "seed": 7,
        "stop": ["zz"],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    said = (Message("system", "Be brief."), Message("user", "Hello."))
    await read(runner.generate(GenerateRequest(messages=said, sampling=Sampling(3))))
    assert [each["role"] for each in peer.of("/v1/chat/completions")[0].body["messages"]] == [
        "system",
        "user",
    ]
    await runner.close()


async def test_no_limit_is_the_servers_own(peer: OpenAIPeer, vllm: OpenAICompatibleBackend) -> None:
    """Without a number none is sent to a chat; a completion has one, or it would end after sixteen tokens."""
    runner = await vllm.load(_MODEL, LoadOptions(), lambda *_: None)
    said = (Message("user", "Hello."),)
    await read(runner.generate(GenerateRequest(messages=said, sampling=Sampling(None))))
    await read(runner.generate(GenerateRequest("Once", sampling=Sampling(None))))
    assert "max_tokens" not in peer.of("/v1/chat/completions")[0].body
    assert peer.of("/v1/completions")[0].body["max_tokens"] == 256
    await runner.close()


async def test_a_server_without_completions_is_chatted_with() -> None:
    """Where /v1/completions is missing, a prompt becomes what the user says; that is found out once."""
    with OpenAIPeer(_MODEL, completes=False) as peer:
        backend = create_named(BackendContext(NoLibrary(), {"lab": peer.url}), "lab")
        runner = await backend.load(_MODEL, LoadOptions(), lambda *_: None)
        for _ in range(2):
            await read(runner.generate(GenerateRequest("Once", sampling=Sampling(3))))
        chats = peer.of("/v1/chat/completions")
        assert [each.body["messages"] for each in chats] == [[{"role": "user", "content": "Once"}]] * 2
        assert len(peer.of("/v1/completions")) == 1
        assert not backend.capabilities.can_park
        await runner.close()
        await backend.aclose()


async def test_a_server_that_counts_nothing_is_counted(
    peer: OpenAIPeer, vllm: OpenAICompatibleBackend
) -> None:
    """Where `stream_options` is refused the request is made without, and tokens are the pieces that came."""
    runner = await vllm.load(_MODEL, LoadOptions(), lambda *_: None)
    refused = {"error": {"message": "Unrecognized request argument: stream_options"}}
    peer.troubles.refuse("/v1/completions", 400, refused, times=1)
    for _ in range(2):
        answer = await read(runner.generate(GenerateRequest("Once", sampling=Sampling(5))))
        assert (answer.ended.tokens, answer.ended.prompt_tokens) == (5, 0)
    assert ["stream_options" in each.body for each in peer.of("/v1/completions")] == [True, False, False]
    await runner.close()


async def test_fields_of_ones_own_are_sent(peer: OpenAIPeer, vllm: OpenAICompatibleBackend) -> None:
    """`extra_body` adds what a server has beyond the protocol, `chat` never completes; wrong types are refused."""
    settings = {"extra_body": {"min_p": 0.1}, "chat": True}
    runner = await vllm.load(_MODEL, LoadOptions(settings=settings), lambda *_: None)
    await read(runner.generate(GenerateRequest("Once", sampling=Sampling(3))))
    assert peer.of("/v1/chat/completions")[0].body["min_p"] == 0.1
    await runner.close()
    with pytest.raises(LoadFailedError, match="extra_body"):
        await vllm.load(_MODEL, LoadOptions(settings={"extra_body": 3}), lambda *_: None)


async def test_an_adapter_is_loaded_once_and_asked_by_its_name(
    peer: OpenAIPeer, vllm: OpenAICompatibleBackend, tmp_path: Path
) -> None:
    """A LoRA layer that the server does not know is loaded, also when several ask at once, and then asked for."""
    runner = await vllm.load(_MODEL, LoadOptions(), lambda *_: None)
    layer = LoraChoice("demo/lora-json v1", tmp_path, manifest_hash="ab" * 32)
    request = GenerateRequest("Once", sampling=Sampling(3), loras=(layer,))
    answers = await asyncio.gather(*(read(runner.generate(request)) for _ in range(3)))
    name = f"demo/lora-json v1@{'ab' * 6}"
    assert [each.body for each in peer.of("/v1/load_lora_adapter")] == [
        {"lora_name": name, "lora_path": str(tmp_path)}
    ]
    assert {each.body["model"] for each in peer.of("/v1/completions")} == {name}
    assert all(each.ended.lora_s > 0 for each in answers)
    await runner.close()


async def test_an_adapter_that_the_server_began_with_is_used(
    peer: OpenAIPeer, vllm: OpenAICompatibleBackend, tmp_path: Path
) -> None:
    """A layer that the server serves under the same name is not loaded again."""
    peer.adapters["sql"] = "/adapters/sql"
    runner = await vllm.load(_MODEL, LoadOptions(), lambda *_: None)
    layer = LoraChoice("sql", tmp_path, manifest_hash="ab" * 32)
    await read(runner.generate(GenerateRequest("Once", sampling=Sampling(3), loras=(layer,))))
    assert not peer.of("/v1/load_lora_adapter")
    assert peer.of("/v1/completions")[0].body["model"] == "sql"
    await runner.close()


async def test_layers_that_the_server_cannot_have_are_refused(
    peer: OpenAIPeer, vllm: OpenAICompatibleBackend, tmp_path: Path
) -> None:
    """Two layers, a weight, or a server that takes none: each is refused by name."""
    runner = await vllm.load(_MODEL, LoadOptions(), lambda *_: None)
    one, two = LoraChoice("one", tmp_path), LoraChoice("two", tmp_path)
    half = LoraChoice("half", tmp_path, weight=0.5)
    for loras in ((one, two), (half,)):
        with pytest.raises(UnsupportedModelError, match=loras[-1].name):
            await read(runner.generate(GenerateRequest("Once", loras=loras)))
    peer.troubles.refuse("/v1/load_lora_adapter", 404, {"detail": "Not Found"})
    with pytest.raises(UnsupportedModelError, match="one") as caught:
        await read(runner.generate(GenerateRequest("Once", loras=(one,))))
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" in caught.value.hint
    await runner.close()


async def test_a_sleeping_server_is_woken_to_load(peer: OpenAIPeer, vllm: OpenAICompatibleBackend) -> None:
    """Loading wakes it; parking makes it sleep, and waking brings it back."""
    peer.sleeping = True
    runner = await vllm.load(_MODEL, LoadOptions(), lambda *_: None)
    assert not peer.sleeping
    assert vllm.capabilities.can_park
    await runner.park()
    assert peer.sleeping
    await runner.wake()
    assert not peer.sleeping
    await runner.close()


async def test_what_it_serves_is_recommended(peer: OpenAIPeer, vllm: OpenAICompatibleBackend) -> None:
    """The server's models are what is worth trying, adapters with the name of their model."""
    peer.adapters["sql"] = "/adapters/sql"
    recommended = await vllm.get_recommended_models()
    assert [each.name for each in recommended] == [_MODEL, "other-model", "sql"]
    assert _MODEL in recommended[-1].why
