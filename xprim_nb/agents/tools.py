"""One tool call in, one document out: what a function-calling model asks for by name.

Source: spec 2 §For agents.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xprim_nb.agents.dispatch import dispatch, perform, perform_on_engine, tool_of
from xprim_nb.agents.engine import EngineKeeper
from xprim_nb.agents.schemas import DISPATCHER, ENGINE_TOOLS, TOOLS, Tool
from xprim_nb.errors import ConfigError, XprimError
from xprim_nb.manager import Manager

__all__ = ["call_tool"]


async def call_tool(
    manager: Manager,
    name: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    allow_changes: bool = True,
    keeper: EngineKeeper | None = None,
) -> dict[str, Any]:
    """What the tool answers: its result, or `{"error": …}`; plain JSON that validates against its output schema.

    Args:
        manager: Open.
        name: As `tool_schemas` names it.
        arguments: As its input schema says.
        allow_changes: False refuses whatever would change the cache, or load a model.
        keeper: Has the engine of the tools that run models; without, each call of one opens its own and closes it.
    """
    if name == DISPATCHER:
        return await dispatch(manager, arguments or {}, allow_changes=allow_changes)
    tool = tool_of(name)
    try:
        if tool is None:
            names = ", ".join([DISPATCHER, *(each.name for each in (*TOOLS, *ENGINE_TOOLS))])
            raise ConfigError(
                f"There is no tool {name[:100]!r}.", subject=name[:100], hint=f"There are {names}."
            )
        if tool in ENGINE_TOOLS:
            return await _on_engine(manager, keeper, tool, arguments or {}, allow_changes=allow_changes)
        return (await perform(manager, tool, arguments or {}, allow_changes=allow_changes)).result
    except XprimError as error:
        return {"error": error.to_dict()}


async def _on_engine(
    manager: Manager,
    keeper: EngineKeeper | None,
    tool: Tool,
    arguments: Mapping[str, Any],
    *,
    allow_changes: bool,
) -> dict[str, Any]:
    if keeper is not None:
        return await perform_on_engine(keeper, tool, arguments, allow_changes=allow_changes)
    async with EngineKeeper(manager) as own:
        return await perform_on_engine(own, tool, arguments, allow_changes=allow_changes)
