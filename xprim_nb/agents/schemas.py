"""JSON Schema of the tools: a dispatcher and the seed's six, then those about models that run, in three dialects.

Source: spec 2 §For agents; seeds/000 §Tools; spec 4 §Faces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel

from xprim_nb.agents import engine_shapes, shapes
from xprim_nb.errors import ConfigError

__all__ = [
    "DISPATCHER",
    "ENGINE_TOOLS",
    "TOOLS",
    "Dialect",
    "Tool",
    "input_schema",
    "output_schema",
    "tool_schemas",
]

Dialect: TypeAlias = Literal["plain", "openai", "anthropic"]

DISPATCHER = "manage_cache"


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool.

    Attributes:
        name: The seed's, where it has one.
        operation: Which one it is.
        description: What it does, for the model that chooses.
        payload: What it takes.
        result: What it gives.
        changes: It may change what is on disk, or in memory.
    """

    name: str
    operation: str
    description: str
    payload: type[BaseModel]
    result: type[BaseModel]
    changes: bool


TOOLS: tuple[Tool, ...] = (
    Tool(
        "initialize_model_cache",
        "initialize",
        "Make a model's information bundle (card, documentation, examples, papers) from URLs, or, without URLs, derive "
        "it offline from the installed model. What could be fetched is kept; calling again goes on from there.",
        shapes.InitializePayload,
        shapes.InitializeResult,
        changes=True,
    ),
    Tool(
        "validate_cache_integrity",
        "validate",
        "Check whether a model or its information bundle is right, fresh, complete, and has what it depends on. Works "
        "offline and changes nothing.",
        shapes.ValidatePayload,
        shapes.Report,
        changes=False,
    ),
    Tool(
        "refresh_model_cache",
        "refresh",
        "Bring a model or its information bundle up to date. Files that somebody changed are kept; the old version stays "
        "as a backup.",
        shapes.RefreshPayload,
        shapes.RefreshResult,
        changes=True,
    ),
    Tool(
        "cleanup_cache_storage",
        "cleanup",
        "Free disk space by a policy. The default policy removes leftovers and superseded backups, and no model. Never "
        "takes what is pinned, in use, depended on, or changed by somebody. With dry_run it only says what would go.",
        shapes.CleanupPayload,
        shapes.CleanupResult,
        changes=True,
    ),
    Tool(
        "get_cache_status",
        "status",
        "How many models are installed, how large and how healthy they are, and what to do next. Fast; works offline and "
        "changes nothing.",
        shapes.StatusPayload,
        shapes.StatusResult,
        changes=False,
    ),
    Tool(
        "repair_corrupted_cache",
        "repair",
        "Mend a damaged model or information bundle: only what is wrong is obtained, from the nearest source. Files that "
        "somebody changed are left alone.",
        shapes.RepairPayload,
        shapes.RepairResult,
        changes=True,
    ),
)

ENGINE_TOOLS: tuple[Tool, ...] = (
    Tool(
        "ai_ps",
        "ai_ps",
        "List the models that are loaded now, of all notebooks and programs of this user: where, how large, how long idle. "
        "Changes nothing.",
        engine_shapes.PsPayload,
        engine_shapes.PsResult,
        changes=False,
    ),
    Tool(
        "ai_plan",
        "ai_plan",
        "Say what loading a model would do: which others would leave, how much that frees, how long it takes, or why it "
        "does not fit. Changes nothing.",
        engine_shapes.PlanPayload,
        engine_shapes.PlanResult,
        changes=False,
    ),
    Tool(
        "generate",
        "generate",
        "Have a model on this machine, or a server's, continue a prompt or answer messages. It is installed and loaded "
        "first where it is not; idle models may leave for it.",
        engine_shapes.GeneratePayload,
        engine_shapes.GenerateResult,
        changes=True,
    ),
)

_DISPATCHER_TEXT = (
    "Manage the local model cache: initialize, validate, refresh, cleanup, status or repair. The payload is what the "
    "tool of that name takes. Answers {result, validation_report?}, or {error} with a hint about what to do."
)


def tool_schemas(dialect: Dialect = "plain") -> list[dict[str, Any]]:
    """A description of every tool, the dispatcher first; plain JSON.

    Args:
        dialect: `plain` (`name`, `description`, `input_schema`, `output_schema`, `changes`), `openai`
            (`{"type": "function", "function": {…, "parameters"}}`) or `anthropic` (`name`, `description`,
            `input_schema`).

    Raises:
        ConfigError: There is no such dialect.
    """
    described = [
        (DISPATCHER, _DISPATCHER_TEXT, input_schema(None), output_schema(None), True),
        *(
            (each.name, each.description, input_schema(each), output_schema(each), each.changes)
            for each in (*TOOLS, *ENGINE_TOOLS)
        ),
    ]
    found = []
    for name, text, takes, gives, changes in described:
        match dialect:
            case "plain":
                tool = {
                    "name": name, "description": text, "input_schema": takes, "output_schema": gives,
                    "changes": changes,
                }  # fmt: skip
            case "openai":
                tool = {
                    "type": "function",
                    "function": {"name": name, "description": text, "parameters": takes},
                }
            case "anthropic":
                tool = {"name": name, "description": text, "input_schema": takes}
            case _:
                raise ConfigError(
                    f"{dialect!r} is no dialect of tool descriptions.",
                    subject="dialect",
                    hint="Use plain, openai or anthropic.",
                )
        found.append(tool)
    return found


def input_schema(tool: Tool | None) -> dict[str, Any]:
    """What a tool takes; the dispatcher when None."""
    if tool is not None:
        return _inlined(tool.payload.model_json_schema(mode="validation"))
    payloads = [{"title": each.operation, **_inlined(each.payload.model_json_schema())} for each in TOOLS]
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["type"],
        "properties": {
            "type": {"enum": [each.operation for each in TOOLS], "description": "Which operation."},
            "payload": {"description": "What the operation takes.", "anyOf": [*payloads, {"type": "null"}]},
        },
    }


def output_schema(tool: Tool | None) -> dict[str, Any]:
    """What a tool gives, its errors included; the dispatcher when None."""
    error = _closed(_inlined(shapes.ErrorDocument.model_json_schema(mode="serialization")))
    if tool is not None:
        result = _closed(_inlined(tool.result.model_json_schema(mode="serialization")))
        return {"type": "object", "anyOf": [result, error]}
    results = [_closed(_inlined(each.result.model_json_schema(mode="serialization"))) for each in TOOLS]
    report = _closed(_inlined(shapes.Report.model_json_schema(mode="serialization")))
    answer = {
        "type": "object",
        "additionalProperties": False,
        "required": ["result"],
        "properties": {"result": {"anyOf": results}, "validation_report": report},
    }
    return {"type": "object", "anyOf": [answer, error]}


def _inlined(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema without `$defs`: not everybody who calls functions follows references. Ours are no cycles."""
    defs = schema.get("$defs", {})

    def walk(node: Any) -> Any:  # noqa: ANN401  # JSON
        if isinstance(node, Mapping):
            target = node.get("$ref")
            if isinstance(target, str):
                rest = {key: value for key, value in node.items() if key != "$ref"}
                return walk({**defs[target.rpartition("/")[2]], **rest})
            return {key: walk(value) for key, value in node.items() if key != "$defs"}
        return [walk(each) for each in node] if isinstance(node, list) else node

    found: dict[str, Any] = walk(schema)
    return found


def _closed(schema: Any) -> Any:  # noqa: ANN401  # JSON
    """The schema of what we give: no key more, and every key there but for those that may be null, which are left out."""
    if isinstance(schema, Mapping):
        closed = {key: _closed(value) for key, value in schema.items()}
        properties = closed.get("properties")
        if closed.get("type") == "object" and isinstance(properties, Mapping):
            closed["additionalProperties"] = False
            closed["required"] = [name for name, value in properties.items() if not _may_be_null(value)]
        return closed
    return [_closed(each) for each in schema] if isinstance(schema, list) else schema


def _may_be_null(schema: Mapping[str, Any]) -> bool:
    return any(each.get("type") == "null" for each in schema.get("anyOf", ()))
