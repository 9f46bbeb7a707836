"""`ollama`, against a server that replays Ollama's documented exchanges."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from xprim_nb.errors import (
    LoadFailedError,
    ModelNotFoundError,
    NotInstalledError,
    ProviderError,
    UnsupportedModelError,
)
from xprim_nb.testing.backend_contract import BackendContract, read
from xprim_nb.workers.backends.ollama import OllamaBackend, address, create
from xprim_nb.workers.contract import Backend, BackendContext
from xprim_nb.workers.values import (
    Ended,
    GenerateRequest,
    InstallProgress,
    LoadOptions,
    Message,
    Sampling,
)

from .ollama_peer import OllamaPeer
from .remote_troubles import NoLibrary, RemoteTroubles

_MODEL = "llama3:latest"


@pytest.fixture(scope="module")
def running() -> Iterator[OllamaPeer]:
    """An Ollama with two models, and one more to pull."""
    with OllamaPeer(_MODEL, "codellama:13b", library=("qwen3:0.6b",)) as peer:
        yield peer


@pytest.fixture
def peer(running: OllamaPeer) -> OllamaPeer:
    """The same, as at its beginning."""
    running.clear()
    return running


@pytest.fixture
def available() -> str:
    """A model without its tag, as people write it."""
    return "llama3"


@pytest.fixture
async def ollama(peer: OllamaPeer) -> AsyncIterator[OllamaBackend]:
    """The backend for it."""
    backend = create(BackendContext(NoLibrary(), endpoints={"ollama": peer.url}))
    yield backend
    await backend.aclose()


class TestOllama(BackendContract):
    """What every backend promises."""

    @pytest.fixture
    async def backend(self, ollama: OllamaBackend) -> Backend:
        """As everywhere here."""
        return ollama

    @pytest.fixture
    def available(self) -> str:
        """A model without its tag, as people write it."""
        return "llama3"

    @pytest.fixture
    def installable(self) -> str:
        """In the library."""
        return "qwen3:0.6b"


class TestOllamaTroubles(RemoteTroubles):
    """What can go wrong with a server."""

    name, prompt_path, list_path = "ollama", "/api/chat", "/api/tags"

    def make(self, context: BackendContext) -> Backend:
        """The backend."""
        return create(context)

    def quoting(self, message: str) -> object:
        """Ollama's form."""
        return {"error": message}


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("127.0.0.1", "http://127.0.0.1:11434"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080"),
        ("[::]:8080", "http://127.0.0.1:8080"),
        ("[::1]", "http://[::1]:11434"),
        ("gpu.lan:9/ollama/", "http://gpu.lan:9/ollama"),
        ("https://ann:pw@models.example.org", "https://ann:pw@models.example.org"),
        ('"localhost"', "http://localhost:11434"),
    ],
)
def test_addresses_are_read_as_ollama_reads_them(host: str, url: str) -> None:
    """OLLAMA_HOST may hold a host, a port, a URL, or what a server listens on."""
    assert address(host) == url


async def test_a_model_is_loaded_with_its_room_and_unloaded(peer: OllamaPeer, ollama: OllamaBackend) -> None:
    """Loading sends num_ctx, which the first answer finds there; closing sends keep_alive 0."""
    runner = await ollama.load("llama3", LoadOptions(context_tokens=2048), lambda *_: None)
    assert peer.loaded == {_MODEL: 2048}
    assert runner.context_tokens == 2048
    await runner.close()
    assert peer.loaded == {}
    assert peer.of("/api/generate")[-1].body == {"model": _MODEL, "keep_alive": 0}


async def test_no_more_room_than_the_model_has(peer: OllamaPeer, ollama: OllamaBackend) -> None:
    """A longer context than the model was made for is cut to that."""
    runner = await ollama.load("llama3", LoadOptions(context_tokens=100_000), lambda *_: None)
    assert (runner.context_tokens, peer.loaded[_MODEL]) == (8192, 8192)
    await runner.close()


async def test_what_was_loaded_before_stays_loaded(peer: OllamaPeer, ollama: OllamaBackend) -> None:
    """A model that somebody else had loaded is not taken away from them."""
    peer.loaded[_MODEL] = 4096
    runner = await ollama.load("llama3", LoadOptions(), lambda *_: None)
    await runner.close()
    assert _MODEL in peer.loaded


async def test_sampling_and_settings_become_options(peer: OllamaPeer, ollama: OllamaBackend) -> None:
    """A request's sampling and the settings of `load` are Ollama's `options`; keep_alive stands beside them."""
    settings = {"repeat_penalty": 1.1, "keep_alive": "1h"}
    runner = await ollama.load("llama3", LoadOptions(context_tokens=512, settings=settings), lambda *_: None)
    sampling = Sampling(3, temperature=0.5, top_p=0.9, top_k=40, seed=7, stop=("a", "b"))
    await read(runner.generate(GenerateRequest("Once", sampling=sampling)))
    await read(runner.generate(GenerateRequest("Once", sampling=Sampling(None))))
    await runner.close()
    asked, unlimited = (each.body for each in peer.of("/api/generate") if each.body.get("prompt"))
    assert unlimited["options"]["num_predict"] == 512  # as much as there is room for, and no more
    assert asked["raw"] is True
    assert asked["keep_alive"] == "1h"
    assert asked["options"] == {
        "num_ctx": 512,
        "repeat_penalty": 1.1,
        "num_predict": 3,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "seed": 7,
        "stop": ["a", "b"],
    }


async def test_messages_go_to_chat(peer: OllamaPeer, ollama: OllamaBackend) -> None:
    """A conversation keeps its roles, and the model's own template lays it out."""
    runner = await ollama.load("llama3", LoadOptions(), lambda *_: None)
    said = (Message("system", "Be brief."), Message("user", "Hello."))
    answer = await read(runner.generate(GenerateRequest(messages=said, sampling=Sampling(3))))
    await runner.close()
    assert peer.of("/api/chat")[0].body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello."},
    ]
    assert answer.ended == Ended("length", 26, 3, prefill_s=0.130079, decode_s=4.23271)


async def test_a_pull_tells_how_far_all_its_layers_are(peer: OllamaPeer, ollama: OllamaBackend) -> None:
    """Progress adds up the layers that are known, and never goes back in bytes that have come."""
    told: list[InstallProgress] = []
    await ollama.install_model("qwen3:0.6b", told.append)
    assert told[0].text == "pulling manifest"
    assert told[-1] == InstallProgress("qwen3:0.6b", 2142590208 + 4096, 2142590208 + 4096, "success")
    done = [each.done_bytes for each in told]
    assert done == sorted(done)
    assert 1071295104 in done


async def test_a_pull_that_breaks_off_can_be_repeated(peer: OllamaPeer, ollama: OllamaBackend) -> None:
    """A dropped connection is an error, and the next pull completes."""
    peer.troubles.breaks_after = 2
    with pytest.raises(ProviderError):
        await ollama.install_model("qwen3:0.6b", lambda _: None)
    peer.troubles.breaks_after = None
    await ollama.install_model("qwen3:0.6b", lambda _: None)
    assert peer.has("qwen3:0.6b")


async def test_a_pull_ends_with_success_or_not_at_all(peer: OllamaPeer, ollama: OllamaBackend) -> None:
    """A pull whose stream ends before it says `success` has failed; one that reports an error says which."""
    peer.troubles.ends_early = True
    with pytest.raises(ProviderError, match="broke off"):
        await ollama.install_model("qwen3:0.6b", lambda _: None)
    peer.troubles.fails_after = 1
    with pytest.raises(ProviderError, match="out of memory"):
        await ollama.install_model("qwen3:0.6b", lambda _: None)


async def test_its_library_is_named_when_it_has_no_such_model(ollama: OllamaBackend) -> None:
    """Ollama's `file does not exist` is told as a model that nobody has."""
    with pytest.raises(ModelNotFoundError, match="library has no 'nothing-like-it'"):
        await ollama.install_model("nothing-like-it", lambda _: None)


async def test_a_model_that_makes_no_text_is_refused(peer: OllamaPeer, ollama: OllamaBackend) -> None:
    """An embedding model is unsupported, and the message says what it is for."""
    peer.capabilities = ["embedding"]
    with pytest.raises(UnsupportedModelError, match="embedding"):
        await ollama.facts("llama3", LoadOptions())
    with pytest.raises(UnsupportedModelError, match="embedding"):
        await ollama.load("llama3", LoadOptions(), lambda *_: None)


async def test_a_model_that_does_not_fit_fails_to_load(peer: OllamaPeer, ollama: OllamaBackend) -> None:
    """Ollama's reason for not loading is told in its own words."""
    said = "model requires more system memory (20.1 GiB) than is available (9.4 GiB)"
    peer.troubles.refuse("/api/generate", 500, {"error": said})
    with pytest.raises(LoadFailedError, match=r"more system memory \(20.1 GiB\)"):
        await ollama.load("llama3", LoadOptions(), lambda *_: None)


async def test_a_model_that_was_removed_meanwhile(peer: OllamaPeer, ollama: OllamaBackend) -> None:
    """A model that is gone when it is asked is not installed, and others still answer."""
    runner = await ollama.load("llama3", LoadOptions(), lambda *_: None)
    peer.installed.remove(_MODEL)
    with pytest.raises(NotInstalledError, match="llama3"):
        await read(runner.generate(GenerateRequest("Once")))
    await runner.close()


async def test_facts_come_from_the_server(ollama: OllamaBackend) -> None:
    """The longest context is the model's, and the fingerprint the digest that Ollama knows its weights by."""
    facts = await ollama.facts("llama3", LoadOptions())
    assert facts.max_context_tokens == 8192
    assert len(facts.fingerprint) == 64


async def test_recommendations_are_what_is_there_then_small_ones(ollama: OllamaBackend) -> None:
    """Installed models come first, then some of the library, none of them twice."""
    recommended = await ollama.get_recommended_models()
    names = [each.name for each in recommended]
    assert names[:2] == [_MODEL, "codellama:13b"]
    assert len(names) == len(set(names)) > 2
    assert recommended[0].size_bytes == 7365960935


async def test_a_gone_server_does_not_hinder_closing(peer: OllamaPeer, ollama: OllamaBackend) -> None:
    """A runner closes in good order when there is nobody left to unload its model."""
    runner = await ollama.load("llama3", LoadOptions(), lambda *_: None)
    peer.troubles.refuse("/api/generate", 503, {"error": "shutting down"})
    await runner.close()
    assert await runner.ended is None


async def test_the_version_is_told(ollama: OllamaBackend) -> None:
    """`version` is what the server says."""
    assert await ollama.version() == "0.5.1"
