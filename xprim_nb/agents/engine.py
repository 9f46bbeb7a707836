"""The tools about models that run: what is awake, what loading one would do, and, where it is allowed, text from one.

Source: spec 4 §Faces; spec 2 §For agents.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from xprim_nb.agents import engine_shapes as shapes
from xprim_nb.manager import Manager

if TYPE_CHECKING:
    from xprim_nb.scheduling.engine import Engine

__all__ = ["VERBS", "EngineKeeper", "generate", "plan", "ps"]

_NOTE = "an agent"


class EngineKeeper:
    """An engine over a manager, opened by the first tool that needs one. An async context manager: it owns it.

    Args:
        manager: Open; stays its owner's.
    """

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._opening: asyncio.Task[Engine] | None = None

    async def engine(self) -> Engine:
        """The engine, open. A call that is cancelled meanwhile does not keep the next one from having it.

        Raises:
            StorageError: There is no place for the ledger.
        """
        opening = self._opening
        if opening is None or _has_failed(opening):
            self._opening = opening = asyncio.create_task(self._open())
        return await asyncio.shield(opening)

    async def _open(self) -> Engine:
        # Loaded with the first model that is asked for: who only looks after the cache does not pay for it.
        make = importlib.import_module("xprim_nb.manager.engines").open_engine
        engine: Engine = await make(self._manager, label="xprim mcp").__aenter__()
        return engine

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        opening, self._opening = self._opening, None
        if opening is None:
            return
        await asyncio.wait([opening])
        if not _has_failed(opening):
            await opening.result().__aexit__(kind, error, trace)


def _has_failed(opening: asyncio.Task[Engine]) -> bool:
    return opening.done() and (opening.cancelled() or opening.exception() is not None)


async def ps(engine: Engine, payload: shapes.PsPayload) -> dict[str, Any]:
    """Everything that is awake."""
    models = tuple(
        shapes.AwakeModel(
            model=each.key,
            status=each.status,
            device=each.device,
            size_bytes=each.size_bytes,
            context_tokens=each.context_tokens,
            in_flight=each.in_flight,
            idle_s=each.idle_s,
            pinned=each.pinned,
            kernel_pid=each.kernel_pid,
        )
        for each in await engine.ps()
    )
    return _json(shapes.PsResult(models=models))


async def plan(engine: Engine, payload: shapes.PlanPayload) -> dict[str, Any]:
    """What loading a model would do. Nothing is changed."""
    settings = {} if payload.context_tokens is None else {"context_tokens": payload.context_tokens}
    found = await engine.plan(payload.model, **settings)
    return _json(shapes.PlanResult(plan=str(found)))


async def generate(engine: Engine, payload: shapes.GeneratePayload) -> dict[str, Any]:
    """The answer to a prompt or to messages."""
    options: dict[str, Any] = {} if payload.timeout_s is None else {"timeout": payload.timeout_s}
    messages = payload.messages
    reply = await engine.generate(
        payload.model,
        payload.prompt,
        messages=None if messages is None else [each.model_dump() for each in messages],
        loras=payload.loras,
        max_tokens=payload.max_tokens,
        temperature=payload.temperature,
        seed=payload.seed,
        stop=payload.stop,
        note=_NOTE,
        **options,
    )
    return _json(
        shapes.GenerateResult(
            text=reply.text,
            tokens=reply.tokens,
            finish_reason=reply.finish_reason,
            model=reply.model,
            device=reply.device,
            seed=reply.seed,
            total_s=round(reply.timings.total_s, 6),
            took=reply.stamp,
            degraded=reply.degraded,
            evicted=reply.evicted,
            worker_pid=reply.worker_pid,
        )
    )


VERBS: Mapping[str, Callable[[Engine, Any], Awaitable[dict[str, Any]]]] = {
    "ai_ps": ps,
    "ai_plan": plan,
    "generate": generate,
}


def _json(result: Any) -> dict[str, Any]:  # noqa: ANN401  # one of the shapes
    document: dict[str, Any] = result.model_dump(mode="json", exclude_none=True)
    return document
