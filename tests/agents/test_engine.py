"""The tools about models that run: they answer in their schemas, load nothing unasked, and keep one engine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType, TracebackType
from typing import Any, Self

import pytest

from xprim_nb.agents.engine import EngineKeeper
from xprim_nb.agents.tools import call_tool
from xprim_nb.errors import NoCapacityError
from xprim_nb.manager import Manager

from ..cache.rooms import Room
from ..fake_engine import AWAKE, MODEL, FakeEngine

Fits = Callable[[str, Any], Any]


class _Opened(FakeEngine):
    """Counts who opens and closes it."""

    opened = closed = 0

    async def __aenter__(self) -> Self:
        self.opened += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed += 1


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Opened]:
    """The engine that every manager's would be."""
    engine, module = _Opened(), ModuleType("xprim_nb.manager.engines")
    module.open_engine = lambda manager, label: engine  # type: ignore[attr-defined]  # a module of this test
    monkeypatch.setitem(sys.modules, "xprim_nb.manager.engines", module)
    yield engine
    engine.let_go.set()


async def test_ps_and_plan_only_look(room: Room, engine: _Opened, fits: Fits) -> None:
    """Both answer where nothing may be changed."""
    engine.views = [AWAKE]
    async with room.manager() as manager:
        found = fits("ai_ps", await call_tool(manager, "ai_ps", allow_changes=False))
        assert [(each["model"], each["kernel_pid"]) for each in found["models"]] == [(MODEL, 4000)]
        plan = await call_tool(
            manager, "ai_plan", {"model": "demo/tiny v1", "context_tokens": 99}, allow_changes=False
        )
        assert fits("ai_plan", plan) == {"plan": "Nothing leaves."}
    assert engine.asked("plan") == {"model": "demo/tiny v1", "context_tokens": 99}
    assert (engine.opened, engine.closed) == (2, 2)


async def test_generate(room: Room, engine: _Opened, fits: Fits) -> None:
    """A prompt, or messages, become the engine's call; the answer says how it came about."""
    async with room.manager() as manager:
        answer = await call_tool(
            manager,
            "generate",
            {"model": "demo/tiny v1", "prompt": "Once", "seed": 3, "stop": ["END"], "timeout_s": 5},
        )
        found = fits("generate", answer)
        asked = engine.asked("generate")
        assert (found["text"], found["tokens"], found["worker_pid"]) == ("Once upon a time.", 3, 4242)
        assert (asked["prompt"], asked["seed"], asked["timeout"], asked["note"]) == (
            "Once",
            3,
            5.0,
            "an agent",
        )
        talk = [{"role": "user", "content": "Hello"}]
        await call_tool(manager, "generate", {"model": "demo/tiny v1", "messages": talk})
        assert (engine.asked("generate")["prompt"], engine.asked("generate")["messages"]) == (None, talk)
        assert "timeout" not in engine.asked("generate")


async def test_generate_is_a_change(room: Room, engine: _Opened, fits: Fits) -> None:
    """A server that only reads loads no model, and says how to allow it."""
    async with room.manager() as manager:
        refused = await call_tool(
            manager, "generate", {"model": "demo/tiny v1", "prompt": "Once"}, allow_changes=False
        )
    assert "would load a model" in fits("generate", refused)["error"]["message"]
    assert "--allow-changes" in refused["error"]["hint"]
    assert engine.opened == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"model": "a/b"}, "either a prompt or messages"),
        ({"model": "a/b", "prompt": "x", "messages": []}, "either a prompt or messages"),
        ({"model": "a/b", "prompt": "x", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "x"}, "model"),
        ({"model": "a/b", "prompt": "x", "system": "y"}, "system"),
    ],
)
async def test_arguments_that_do_not_fit(
    room: Room, engine: _Opened, arguments: dict[str, Any], said: str
) -> None:
    """What does not fit is an error that names it; no engine is opened for it."""
    async with room.manager() as manager:
        answer = await call_tool(manager, "generate", arguments)
    assert said in answer["error"]["message"]
    assert engine.opened == 0


async def test_the_engines_errors_are_documents(room: Room, engine: _Opened, fits: Fits) -> None:
    """What keeps a model from running is told with its exit code."""
    engine.fails["generate"] = NoCapacityError("It needs 20.0 GB.", subject=MODEL)
    async with room.manager() as manager:
        answer = await call_tool(manager, "generate", {"model": "a/b", "prompt": "x"})
    assert fits("generate", answer)["error"]["exit_code"] == 8


async def test_a_keeper_opens_one_engine(room: Room, engine: _Opened) -> None:
    """Calls that share a keeper share its engine, which is closed with it; one that was not asked opens none."""
    manager: Manager
    async with room.manager() as manager:
        async with EngineKeeper(manager) as keeper:
            for _ in range(3):
                await call_tool(manager, "ai_ps", keeper=keeper)
            assert (engine.opened, engine.closed) == (1, 0)
        assert (engine.opened, engine.closed) == (1, 1)
        async with EngineKeeper(manager):
            pass
    assert (engine.opened, engine.closed) == (1, 1)
