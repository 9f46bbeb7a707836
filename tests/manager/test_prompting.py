"""The bridge from prompts to the engine: what reaches a server, what comes back, and what an answer is kept under."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.workers.backends.openai_peer import OpenAIPeer
from xprim_nb import Config, Manager, demo
from xprim_nb.config.capabilities import AICapabilities
from xprim_nb.errors import ConfigError, NotInstalledError
from xprim_nb.manager.engines import open_engine
from xprim_nb.manager.prompting import EngineAnswers, open_prompts
from xprim_nb.prompts.desk import Prompts
from xprim_nb.scheduling.engine import Engine

_DEMO = "demo/tiny-llama v2"
_SERVED = "served-model"
_TURN = "Once upon a time"
_SHORT: dict[str, Any] = {"provider": "local", "stop": ["e"], "max_tokens": 60}


@pytest.fixture(scope="module")
def peer() -> Iterator[OpenAIPeer]:
    """A server that speaks OpenAI's protocol."""
    with OpenAIPeer(_SERVED) as peer:
        yield peer


@pytest.fixture
def url(peer: OpenAIPeer) -> str:
    """Its address."""
    peer.clear()
    return f"{peer.url}/v1"


@asynccontextmanager
async def _desk(
    base: Path, registry: Path | None = None, **endpoints: str
) -> AsyncIterator[tuple[Prompts, Engine, Manager]]:
    where = None if registry is None else str(registry)
    config = Config(registry_url=where, data_dir=base, ai=AICapabilities(endpoints=endpoints))
    async with Manager(config) as manager, open_engine(manager) as engine:

        async def opened() -> Engine:
            return engine

        async with open_prompts(manager, EngineAnswers(manager, opened)) as prompts:
            yield prompts, engine, manager


Desk = Callable[..., AbstractAsyncContextManager[tuple[Prompts, Engine, Manager]]]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A function from endpoints to prompts, their engine and their manager."""
    return lambda **endpoints: _desk(tmp_path / "models", **endpoints)


async def test_a_server_gets_what_was_rendered(peer: OpenAIPeer, url: str, desk: Desk) -> None:
    """The body arrives as it was rendered, the usage comes back as the server told it, and the next time nobody is asked."""
    async with desk(vllm=url) as (prompts, _, _):
        how: dict[str, Any] = {"provider": "vllm", "model": _SERVED, "stop": ["o"], "max_tokens": 50}
        how |= {"blocks": [{"type": "style_guide", "content": "Be brief."}], "parameters": {"min_p": 0.1}}
        resolved = await prompts.resolve("Hello.", **how)
        answered = await prompts.ask("Hello.", **how)
        (asked,) = peer.of("/v1/chat/completions")
        streamed = {"stream": True, "stream_options": {"include_usage": True}}
        assert asked.body == {**json.loads(json.dumps(dict(resolved.rendered.body))), **streamed}
        assert answered.answer.usage.reported
        assert answered.answer.usage.input_tokens == 9
        assert answered.asked.endpoint == url
        assert (await prompts.ask("Hello.", **how)).hit
        assert len(peer.of("/v1/chat/completions")) == 1


async def test_a_refusal_is_asked_again(peer: OpenAIPeer, url: str, desk: Desk) -> None:
    """What a model refuses is told as a refusal and kept nowhere; tool calls are kept."""
    async with desk(vllm=url) as (prompts, _, _):
        how: dict[str, Any] = {"provider": "vllm", "model": _SERVED, "max_tokens": 50}
        for _ in range(2):
            refused = await prompts.ask("REFUSE this", **how)
            assert (refused.answer.finish, refused.source) == ("refusal", "generated")
            assert "refusal" in refused.not_kept
        called = await prompts.ask("Read a.py", tools=[{"name": "read"}], **how)
        assert called.answer.finish == "tool_calls"
        assert called.answer.tool_calls[0]["name"] == "read"
        assert called.answer.usage.cache_read_tokens == 1408
        again = await prompts.ask("Read a.py", tools=[{"name": "read"}], **how)
        assert (again.source, again.answer.tool_calls) == ("cache", called.answer.tool_calls)


async def test_an_endpoint_is_one_of_the_settings(url: str, desk: Desk) -> None:
    """A request may name a server by its address, but only one that the settings know, whose key they hold."""
    async with desk(lab=url) as (prompts, _, _):
        how: dict[str, Any] = {"provider": "vllm", "model": _SERVED, "stop": ["o"], "max_tokens": 50}
        assert (await prompts.ask("Hello.", endpoint=url, **how)).source == "generated"
        with pytest.raises(ConfigError, match="no endpoint of the settings"):
            await prompts.ask("Hello.", endpoint="http://127.0.0.1:9/v1", **how)


async def test_an_updated_model_does_not_answer_with_the_words_of_the_one_before(tmp_path: Path) -> None:
    """Under the same name other weights have other answers: the cache has none, and what was awake is loaded anew."""
    registry = shutil.copytree(demo.registry_path(), tmp_path / "registry")
    async with _desk(tmp_path / "models", registry=registry) as (prompts, engine, manager):
        first = await prompts.ask(_TURN, model=_DEMO, **_SHORT)
        installed = await manager.get_installed(_DEMO)
        assert first.asked.endpoint == f"manifest:{installed.manifest_hash}"
        assert (await prompts.ask(_TURN, model=_DEMO, **_SHORT)).hit
        pid = (await engine.ps())[0].worker_pid
        _publish_v1_as_v2(registry)
        updated = (await manager.pull(_DEMO)).model.manifest_hash
        assert updated != installed.manifest_hash
        again = await prompts.ask(_TURN, model=_DEMO, **_SHORT)
        assert again.source == "generated"
        assert again.reason is not None
        assert again.reason.field == "endpoint"
        assert again.asked.endpoint == f"manifest:{updated}"
        assert (await engine.ps())[0].worker_pid != pid


def _publish_v1_as_v2(registry: Path) -> None:
    file = registry / "models.json"
    index = json.loads(file.read_text())
    versions = index["demo"]["tiny-llama"]
    versions["v2"] = versions["v1"]
    file.write_text(json.dumps(index))


async def test_a_directory_of_ones_own_is_known_by_its_files(desk: Desk, tmp_path: Path) -> None:
    """A model that no registry knows is another one when a file of it was written anew."""
    async with desk() as (prompts, _, manager):
        pulled = await manager.pull(_DEMO)
        own = shutil.copytree(pulled.path, tmp_path / "own")
        first = await prompts.resolve(_TURN, model=str(own), **_SHORT)
        assert first.asked.endpoint.startswith("directory:")
        (own / "README.md").write_text("Another card.")
        second = await prompts.resolve(_TURN, model=str(own), **_SHORT)
        assert second.request_hash != first.request_hash


async def test_names_of_a_model_are_one(desk: Desk) -> None:
    """However a model is named, its answers lie in one place; a LoRA layer makes it another one."""
    async with desk() as (prompts, _, manager):
        await manager.pull(_DEMO)
        await manager.pull("demo/lora-json v1")
        one = await prompts.resolve(_TURN, model=_DEMO, **_SHORT)
        assert (
            await prompts.resolve(_TURN, model="demo/tiny-llama", **_SHORT)
        ).request_hash == one.request_hash
        layered = await prompts.resolve(_TURN, model=_DEMO, loras=[["demo/lora-json v1", 1.0]], **_SHORT)
        assert layered.request_hash != one.request_hash
        assert " lora:manifest:" in layered.asked.endpoint


async def test_nothing_is_installed_where_it_may_not_be(desk: Desk) -> None:
    """Looking installs nothing, and asking with `install=False` says that the model is not here."""
    async with desk() as (prompts, engine, manager):
        resolved = await prompts.resolve(_TURN, model=_DEMO, **_SHORT)
        assert resolved.asked.endpoint == ""
        answers = EngineAnswers(manager, engine.__aenter__)
        who = answers.answering(install=False)
        with pytest.raises(NotInstalledError):
            await prompts.ask(_TURN, model=_DEMO, generate=who, models=who, **_SHORT)
        assert await manager.list_installed() == []


async def test_without_max_tokens_an_answer_ends_by_itself_and_is_kept(desk: Desk) -> None:
    """It is longer than the engine's own limit, at which it was cut and kept by nobody."""
    async with desk() as (prompts, engine, _):
        how: dict[str, Any] = {"provider": "local", "model": _DEMO, "parameters": {"chat": False}}
        first = await prompts.ask('{"name": ', **how)
        assert (first.answer.finish, first.not_kept) == ("stop", "")
        assert first.answer.usage.output_tokens > 256
        assert (await prompts.ask('{"name": ', **how)).answer.text == first.answer.text
        assert (await engine.generate(_DEMO, '{"name": ')).finish_reason == "length"


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"max_tokens": 5}, "It ended with 'length': max_tokens=5 was reached; give more."),
        ({}, "its context of 1,024 tokens was full; the model has no longer one"),
        ({"parameters": {"context_tokens": 40}}, "its context of 40 tokens was full; context_tokens is the"),
    ],
)
async def test_what_cut_an_answer_is_told(desk: Desk, limits: dict[str, Any], said: str) -> None:
    """Why it is not kept names the limit, and what to do about it."""
    async with desk() as (prompts, _, _):
        cut = await prompts.ask(_TURN, provider="local", model=_DEMO, **limits)
        assert (cut.answer.finish, cut.source) == ("length", "generated")
        assert said in cut.not_kept


async def test_a_model_loaded_with_other_settings_has_other_answers(desk: Desk, tmp_path: Path) -> None:
    """By hand or by a request before: who names no settings is answered with those, and it is kept under them."""
    async with desk() as (prompts, engine, _):
        plain = await prompts.ask(_TURN, model=_DEMO, **_SHORT)
        await engine.load(_DEMO, threads=1)
        other = await prompts.ask(_TURN, model=_DEMO, **_SHORT)
        assert (other.source, other.asked.endpoint) == (
            "generated",
            f'{plain.asked.endpoint} loaded:{{"threads":1}}',
        )
        assert other.reason is not None
        assert other.reason.field == "endpoint"
        assert "threads" in other.reason.now
        assert (await prompts.ask(_TURN, model=_DEMO, **_SHORT)).hit
        assert (await prompts.ask(_TURN, model="demo/tiny-llama", **_SHORT)).hit
        resolved = await prompts.resolve(_TURN, model=_DEMO, **_SHORT)
        assert resolved.request_hash == other.request
        named = await prompts.resolve(_TURN, model=_DEMO, parameters={"threads": 2}, **_SHORT)
        assert "loaded:" not in named.asked.endpoint
        await engine.load(_DEMO, threads=2, context_tokens=200)
        changed = await prompts.resolve(_TURN, model=_DEMO, **_SHORT)
        assert changed.asked.endpoint.endswith(' loaded:{"threads":2}')
    async with desk() as (prompts, _, _):
        again = await prompts.ask(_TURN, model=_DEMO, **_SHORT)
        assert (again.source, again.request) == ("cache", plain.request)


async def test_settings_that_change_while_it_is_asked_are_seen(desk: Desk) -> None:
    """Loaded with others between the look-up and the answer, it is asked again, and kept under what answered."""
    async with desk() as (prompts, engine, manager):
        await engine.load(_DEMO)
        answers, loads = EngineAnswers(manager, lambda: _itself(engine), lambda: engine), list[bool]()
        who = answers.answering()
        spoken = who.__call__

        async def meanwhile(asked: Any, rendered: Any, on_text: Any = None, /) -> Any:
            if not loads:
                loads.append(True)
                await engine.load(_DEMO, threads=1)
            return await spoken(asked, rendered, on_text)

        done = await prompts.ask(_TURN, model=_DEMO, generate=meanwhile, models=who, **_SHORT)
        assert done.asked.endpoint.endswith(' loaded:{"threads":1}')
        assert (await prompts.ask(_TURN, model=_DEMO, generate=meanwhile, models=who, **_SHORT)).hit


async def _itself(engine: Engine) -> Engine:
    return engine
