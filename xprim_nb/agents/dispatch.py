"""One operation in, one document out.

    1. What is no operation, or has a payload that does not fit, is an error document; nothing is done.
    2. Where changes are not allowed, an operation that makes them is one too, and says how to allow them.
    3. What the verbs raise on purpose is an error document with its hint. Anything else is a bug, and is raised.

Source: spec 2 §For agents; seeds/000 §Tools (`manage_cache`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeAlias, TypeVar, overload

from pydantic import BaseModel, ValidationError

from xprim_nb._bridge import Handle
from xprim_nb.agents import engine as engine_verbs
from xprim_nb.agents import verbs
from xprim_nb.agents.engine import EngineKeeper
from xprim_nb.agents.schemas import ENGINE_TOOLS, TOOLS, Tool
from xprim_nb.agents.shapes import CleanupPayload, Operation
from xprim_nb.errors import ConfigError, XprimError
from xprim_nb.manager import Manager
from xprim_nb.toolkit import Toolkit

__all__ = ["dispatch", "manage_cache", "perform", "perform_on_engine", "tool_of"]

_Payload = TypeVar("_Payload", bound=BaseModel)
Document: TypeAlias = dict[str, Any]

_VERBS: Mapping[str, Callable[[Manager, Any], Awaitable[verbs.Answer]]] = {
    "initialize": verbs.initialize,
    "validate": verbs.validate,
    "refresh": verbs.refresh,
    "cleanup": verbs.cleanup,
    "status": verbs.status,
    "repair": verbs.repair,
}


@overload
def manage_cache(owner: Manager, operation: Mapping[str, Any]) -> Coroutine[Any, Any, Document]: ...


@overload
def manage_cache(owner: Toolkit, operation: Mapping[str, Any]) -> Handle[Document]: ...


def manage_cache(
    owner: Manager | Toolkit, operation: Mapping[str, Any]
) -> Coroutine[Any, Any, Document] | Handle[Document]:
    """Carry out one operation: `{"type": "initialize|validate|refresh|cleanup|status|repair", "payload": …}`.

    Args:
        owner: An open manager, whose answer is awaited, or a toolkit, whose answer is a `Handle`.
        operation: Plain JSON.

    Returns:
        `{"result": …}`, with a `validation_report` beside it where there is one, or `{"error": …}`: plain JSON.
    """
    if isinstance(owner, Manager):
        return dispatch(owner, operation)
    return owner.start("manage the cache", dispatch, operation)


async def dispatch(manager: Manager, operation: object, *, allow_changes: bool = True) -> Document:
    """The dispatcher's answer; see `manage_cache`."""
    try:
        parsed = _parsed(Operation, operation, "operation")
        tool = next(each for each in TOOLS if each.operation == parsed.type)
        answer = await perform(manager, tool, parsed.payload or {}, allow_changes=allow_changes)
    except XprimError as error:
        return {"error": error.to_dict()}
    report = answer.report
    return {"result": answer.result, **({} if report is None else {"validation_report": report})}


async def perform(
    manager: Manager, tool: Tool, arguments: object, *, allow_changes: bool = True
) -> verbs.Answer:
    """What one tool answers.

    Raises:
        ConfigError: The arguments do not fit, or changes are not allowed.
        XprimError: As the manager's verbs do.
    """
    payload = _parsed(tool.payload, arguments, f"payload of {tool.operation}")
    harmless = not tool.changes or (isinstance(payload, CleanupPayload) and payload.dry_run)
    if not (harmless or allow_changes):
        raise ConfigError(
            f"This server only reads: {tool.operation} would change the cache, and was not done.",
            subject=tool.name,
            hint="Whoever started it can allow changes: `xprim mcp --allow-changes`.",
        )
    return await _VERBS[tool.operation](manager, payload)


async def perform_on_engine(
    keeper: EngineKeeper, tool: Tool, arguments: object, *, allow_changes: bool = True
) -> Document:
    """What a tool about models that run answers.

    Raises:
        ConfigError: The arguments do not fit, or changes are not allowed.
        XprimError: As the engine's verbs do.
    """
    payload = _parsed(tool.payload, arguments, f"payload of {tool.operation}")
    if tool.changes and not allow_changes:
        raise ConfigError(
            f"This server only reads: {tool.operation} would load a model, and was not done.",
            subject=tool.name,
            hint="Whoever started it can allow changes: `xprim mcp --allow-changes`.",
        )
    return await engine_verbs.VERBS[tool.operation](await keeper.engine(), payload)


def tool_of(name: str) -> Tool | None:
    """The tool of this name; None when there is none."""
    return next((each for each in (*TOOLS, *ENGINE_TOOLS) if each.name == name), None)


def _parsed(kind: type[_Payload], value: object, what: str) -> _Payload:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, each['loc'])) or what}: {each['msg']}"
            for each in error.errors(include_url=False, include_input=False)
        ]
        raise ConfigError(
            f"The {what} does not fit: {'; '.join(faults[:5])}.",
            subject=what,
            hint="`tool_schemas()` tells what each operation takes.",
        ) from error
