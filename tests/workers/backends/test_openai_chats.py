"""What both backends of OpenAI's protocol promise of a chat: what is asked arrives whole, a refusal is told as one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from xprim_nb.testing.backend_contract import read
from xprim_nb.workers.backends import openai, openai_compatible
from xprim_nb.workers.contract import Backend, BackendContext
from xprim_nb.workers.values import GenerateRequest, LoadOptions, Message

from .openai_peer import OpenAIPeer
from .remote_troubles import NoLibrary

_MODEL = "demo-model"


@pytest.fixture(scope="module", params=["openai", "openai_compatible"])
def running(request: pytest.FixtureRequest) -> Iterator[tuple[str, OpenAIPeer]]:
    """A server of each kind, and the name of the backend for it."""
    with OpenAIPeer(_MODEL, is_vllm=request.param == "openai_compatible") as peer:
        yield request.param, peer


@pytest.fixture
def peer(running: tuple[str, OpenAIPeer]) -> OpenAIPeer:
    """The server, as at its beginning."""
    running[1].clear()
    return running[1]


@pytest.fixture
async def backend(running: tuple[str, OpenAIPeer]) -> AsyncIterator[Backend]:
    """The backend for it; OpenAI's base URLs end with the version."""
    name, peer = running
    made: Backend
    if name == "openai":
        made = openai.create(BackendContext(NoLibrary(), {"openai": f"{peer.url}/v1"}, {"openai": "sk-test"}))
    else:
        made = openai_compatible.create_named(BackendContext(NoLibrary(), {"lab": peer.url}), "lab")
    yield made
    await made.aclose()


async def test_a_request_that_was_laid_out_elsewhere_arrives_as_it_is(
    peer: OpenAIPeer, backend: Backend
) -> None:
    """Fields that nobody here knows go along; tool calls and what was cached come back."""
    runner = await backend.load(_MODEL, LoadOptions(), lambda *_: None)
    body: dict[str, object] = {
        "messages": [{"role": "user", "content": "Hello."}],
        "tools": [{"type": "function", "function": {"name": "read", "parameters": {"type": "object"}}}],
        "max_completion_tokens": 9,
        "prompt_cache_key": "k",
        "a_field_of_tomorrow": {"x": 1},
    }
    answer = await read(runner.generate(GenerateRequest(body=body)))
    streamed = {"model": _MODEL, "stream": True, "stream_options": {"include_usage": True}}
    assert peer.of("/v1/chat/completions")[0].body == {**body, **streamed}
    assert answer.ended.reason == "tool_calls"
    assert answer.ended.tool_calls == ({"id": "call_1", "name": "read", "arguments": '{"path": "a.py"}'},)
    assert answer.ended.usage["prompt_tokens_details"] == {"cached_tokens": 1408}
    await runner.close()


async def test_a_refusal_is_told_as_one(peer: OpenAIPeer, backend: Backend) -> None:
    """What the model says instead of an answer is its text, and the end says what it is."""
    said = GenerateRequest(messages=(Message("user", "REFUSE this"),))
    runner = await backend.load(_MODEL, LoadOptions(), lambda *_: None)
    answer = await read(runner.generate(said))
    assert (answer.text, answer.ended.reason) == ("I will not.", "refusal")
    assert len(peer.of("/v1/chat/completions")) == 1
    await runner.close()
