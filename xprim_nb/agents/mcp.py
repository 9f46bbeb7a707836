"""The cache as a Model Context Protocol server over stdio, with the official SDK (extra `mcp`).

Every tool is listed. Without `allow_changes` those that change something refuse with a sentence, which names the way to
allow them: an agent can tell its user, where a tool that is not listed would only seem not to exist.

Source: spec 2 §For agents; the Model Context Protocol (tools, annotations, structured content).
"""

from __future__ import annotations

from typing import Any

import orjson
from mcp import types
from mcp.server.lowlevel.server import Server
from mcp.server.stdio import stdio_server

import xprim_nb
from xprim_nb.agents.engine import EngineKeeper
from xprim_nb.agents.schemas import DISPATCHER, ENGINE_TOOLS, TOOLS, tool_schemas
from xprim_nb.agents.stdin import InputLines
from xprim_nb.agents.tools import call_tool
from xprim_nb.manager import Manager

__all__ = ["make_server", "serve"]

_INSTRUCTIONS = (
    "The models that are installed on this machine: whether they are right, how to mend, refresh and clean them up; "
    "which are loaded, and text from them. Begin with get_cache_status. Everything but refreshing, initializing from URLs "
    "and installing works without a network."
)
_READ_ONLY = (
    " This server only reads: what would change something is refused. Restart it with --allow-changes."
)
# What deletes, even if only what nobody needs; the others add, or put right.
_DESTRUCTIVE = frozenset({DISPATCHER, "cleanup_cache_storage"})
_ASKS_OTHERS = frozenset(
    {DISPATCHER, "initialize_model_cache", "refresh_model_cache", "repair_corrupted_cache", "generate"}
)
# A second call makes another text, unless it is told the seed of the first.
_MAKES_NEW = frozenset({"generate"})


def make_server(
    manager: Manager, *, allow_changes: bool = False, keeper: EngineKeeper | None = None
) -> Server[Any]:
    """The server for an open manager; `serve` runs it.

    Args:
        manager: Carries out what is asked. Stays its owner's.
        allow_changes: Let tools change the cache, and load models.
        keeper: Has the engine, which keeps models loaded between two calls; without, each call loads its own.
    """

    async def list_tools(_: object, __: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=_tools(allow_changes=allow_changes))

    async def call(_: object, params: types.CallToolRequestParams) -> types.CallToolResult:
        document = await call_tool(
            manager, params.name, params.arguments, allow_changes=allow_changes, keeper=keeper
        )
        text = orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()
        return types.CallToolResult(
            content=[types.TextContent(type="text", text=text)],
            structured_content=document,
            is_error="error" in document,
        )

    return Server(
        "xprim",
        version=xprim_nb.__version__,
        title="xprim model cache",
        instructions=_INSTRUCTIONS + ("" if allow_changes else _READ_ONLY),
        on_list_tools=list_tools,
        on_call_tool=call,
    )


async def serve(manager: Manager, *, allow_changes: bool = False) -> None:
    """Serve on stdin and stdout until the client closes them; whatever else is printed meanwhile goes to stderr."""
    lines: Any = InputLines()  # as much of a text file as the SDK uses
    async with EngineKeeper(manager) as keeper, stdio_server(stdin=lines) as (incoming, outgoing):
        server = make_server(manager, allow_changes=allow_changes, keeper=keeper)
        await server.run(incoming, outgoing, server.create_initialization_options())


def _tools(*, allow_changes: bool) -> list[types.Tool]:
    found = []
    for each in tool_schemas():
        name = each["name"]
        reads = not allow_changes or not each["changes"]
        found.append(
            types.Tool(
                name=name,
                description=each["description"]
                + ("" if allow_changes or not each["changes"] else _READ_ONLY),
                input_schema=each["input_schema"],
                output_schema=each["output_schema"],
                annotations=types.ToolAnnotations(
                    read_only_hint=reads,
                    destructive_hint=not reads and name in _DESTRUCTIVE,
                    idempotent_hint=name not in _MAKES_NEW,
                    open_world_hint=name in _ASKS_OTHERS,
                ),
            )
        )
    assert len(found) == len(TOOLS) + len(ENGINE_TOOLS) + 1
    return found
