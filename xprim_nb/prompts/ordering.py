"""What is sent, in the order in which it is sent: the seldom changed first, for a provider keeps prefixes alone.

    tools, schema, style guide, requirements, file map, context, messages, turn

Among blocks that change equally often the declared order stands, and of all of them it is kept as what was meant: it is
what a request is identified by, and each part carries its place in it.

Source: spec 6 §Resolve; research/prompts §6 (5: order by volatility).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from xprim_nb._hashing import Digest
from xprim_nb.prompts.identity import (
    block_hash,
    canonical,
    message_hash,
    schema_hash,
    tools_hash,
)
from xprim_nb.prompts.rendered import SegmentKind
from xprim_nb.prompts.values import BlockType, JsonValue, Message, PromptBlock, ResolveInput, Role

__all__ = [
    "VOLATILITY",
    "Part",
    "block_text",
    "context_block",
    "ordered_blocks",
    "ordered_parts",
    "volatility_of",
]

VOLATILITY: Mapping[BlockType, int] = MappingProxyType(
    {"style_guide": 10, "requirements": 30, "file_map": 60, "context": 80}
)
"""How often a block of a type changes, in percent of the calls, where it does not say so itself."""

_TOOLS, _SCHEMA, _MESSAGES, _TURN = 0, 5, 90, 100


@dataclass(frozen=True, slots=True)
class Part:
    """A part of what is sent, before a renderer has given it a form.

    Attributes:
        kind: What it is.
        label: What people call it: a block's name or type, a message's role.
        text: What is said; of tools and of a schema, their JSON.
        hash: Of its content.
        volatility: 0 for never, 100 for each time.
        declared: Of a block, its place among the blocks as they were declared; -1 for whatever is none.
        role: Who says it.
    """

    kind: SegmentKind
    label: str
    text: str
    hash: Digest
    volatility: int
    declared: int = -1
    role: Role = "system"


def volatility_of(block: PromptBlock) -> int:
    """How often a block changes: what it says itself, or what its type says."""
    return VOLATILITY[block.type] if block.volatility is None else block.volatility


def ordered_blocks(blocks: Iterable[PromptBlock]) -> tuple[tuple[int, PromptBlock], ...]:
    """Blocks as they are sent, each with its declared place."""
    return tuple(sorted(enumerate(blocks), key=lambda each: volatility_of(each[1])))


def context_block(context: Mapping[str, JsonValue]) -> PromptBlock:
    """The block that the facts of a call make: canonical JSON, so that their order in a dictionary tells nothing."""
    return PromptBlock(type="context", content=canonical(context).decode("utf-8"))


def block_text(block: PromptBlock) -> str:
    """A block as every renderer sends it. Its name is no part of it: equal hashes are equal texts.

    >>> print(block_text(PromptBlock(type="context", content="It is late.")), end="")
    <context>
    It is late.
    </context>
    """
    if block.files is None:
        return f"<{block.type}>\n{block.content}\n</{block.type}>\n"
    files = "".join(
        f"<file path={json.dumps(path, ensure_ascii=False)}>\n{text}\n</file>\n"
        for path, text in sorted(block.files.items(), key=lambda each: each[0].encode("utf-8"))
    )
    return f"<file_map>\n{files}</file_map>\n"


def ordered_parts(asked: ResolveInput) -> tuple[Part, ...]:
    """All of what is asked, in the order in which it is sent."""
    parts: list[Part] = []
    if asked.tools:
        tools = _json([each.model_dump() for each in asked.tools])
        parts.append(Part("tools", "tools", tools, tools_hash(asked.tools), _TOOLS))
    if asked.response_schema is not None:
        schema = asked.response_schema
        parts.append(Part("schema", "response_schema", _json(schema), schema_hash(schema), _SCHEMA))
    blocks = list(asked.blocks)
    if asked.context is not None:
        blocks.append(context_block(asked.context))
    parts += [
        Part(
            "block", each.name or each.type, block_text(each), block_hash(each), volatility_of(each), declared
        )
        for declared, each in ordered_blocks(blocks)
    ]
    parts += [
        Part("message", each.role, each.content, message_hash(each), _MESSAGES, role=each.role)
        for each in asked.messages
    ]
    turn = Message(role="user", content=asked.prompt)
    parts.append(Part("turn", "turn", turn.content, message_hash(turn), _TURN, role="user"))
    return tuple(parts)


def _json(value: JsonValue) -> str:
    """JSON with its keys as they stand: a model writes the fields of an answer in the order of their schema."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
