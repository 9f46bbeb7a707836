"""What stays from call to call: the blocks as they are sent, for whom, and with which settings; all but the turn.

Source: seeds/001 (PromptScaffold); spec 6 §Identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pydantic import Field

from xprim_nb._hashing import Digest
from xprim_nb.prompts.identity import block_hash, request_parts, tagged_hash
from xprim_nb.prompts.ordering import ordered_blocks
from xprim_nb.prompts.values import JsonValue, PromptBlock, ResolveInput, Tool, Value

__all__ = ["PromptScaffold"]

# What is new in each call, and so no part of what stays.
_OF_A_CALL = frozenset({"prompt", "context", "messages", "sample_index"})


class PromptScaffold(Value):
    """A prompt without its turn.

    Attributes:
        blocks: In the order in which they are sent.
        declared: For each of them, its place in the order that carries the meaning.
        provider: Whom it is for.
        model: As the provider calls it.
        temperature: 0 to 2.
        seed: None where the provider chooses.
        tools: What the model may call.
        settings: Whatever else changes the answer, by field of `ResolveInput`; those at their defaults are left out.
        scaffold_type: What kind of prompt it is; telemetry groups by it.
        hash: Of everything above but `scaffold_type`; also its id, for what is equal is the same scaffold.
    """

    blocks: tuple[PromptBlock, ...]
    declared: tuple[int, ...]
    provider: str
    model: str
    temperature: float
    seed: int | None = None
    tools: tuple[Tool, ...] = ()
    settings: Mapping[str, JsonValue] = Field(default_factory=dict)
    scaffold_type: str = ""
    hash: str = Field(pattern=r"^[0-9a-f]{64}$")

    @classmethod
    def of(cls, asked: ResolveInput) -> Self:
        """The scaffold that a request is made on."""
        ordered = ordered_blocks(asked.blocks)
        named = {"blocks", "provider", "model", "temperature", "seed", "tools", *_OF_A_CALL}
        defaults = ResolveInput.model_fields
        parts = request_parts(asked)
        settings = {
            name: value
            for name, value in asked.model_dump(mode="json", include=set(parts) - named).items()
            if value != defaults[name].get_default(call_default_factory=True, validated_data={})
        }
        return cls(
            blocks=tuple(block for _, block in ordered),
            declared=tuple(place for place, _ in ordered),
            provider=asked.provider,
            model=asked.model,
            temperature=asked.temperature,
            seed=asked.seed,
            tools=asked.tools,
            settings=settings,
            scaffold_type=asked.scaffold_type,
            hash=_hash(parts, [block_hash(block) for _, block in ordered]),
        )


def _hash(parts: Mapping[str, JsonValue], sent: list[Digest]) -> Digest:
    """The request's identity without what is new in each call, and with the order in which blocks are sent."""
    kept = {name: value for name, value in parts.items() if name not in _OF_A_CALL}
    return tagged_hash("xprim/scaffold/v1", {**kept, "sent": sent})
