"""The Chat Completions body, as OpenAI and the servers that speak its protocol take it.

Source: openai 3.57 (`types/chat/completion_create_params.py`); the servers' own manuals, named in their modules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xprim_nb.prompts.ordering import Part
from xprim_nb.prompts.render.contract import Slot, compact_json, spoken
from xprim_nb.prompts.values import ResolveInput

__all__ = ["Chat", "chat_tools", "json_format", "later_system", "local_chat", "local_settings", "roles_note"]


class Chat:
    """Messages as they are put together, and where each part lies in them."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.slots: list[Slot] = []

    def say(self, part: Part, role: str, text: str) -> None:
        """Add a message."""
        self.slots.append(Slot(part, text, ("messages", len(self.messages), "content")))
        self.messages.append({"role": role, "content": text})


def chat_tools(asked: ResolveInput) -> list[dict[str, Any]]:
    """The tools, in the order in which they were given."""
    return [
        {
            "type": "function",
            "function": {
                "name": each.name,
                **({"description": each.description} if each.description else {}),
                "parameters": dict(each.parameters),
            },
        }
        for each in asked.tools
    ]


def json_format(schema: Mapping[str, Any], *, strict: bool | None = None) -> dict[str, Any]:
    """The form of an answer.

    Args:
        schema: JSON schema.
        strict: Whether the provider holds the model to it; None where it has no such word.
    """
    named: dict[str, Any] = {"name": "answer", "schema": dict(schema)}
    return {
        "type": "json_schema",
        "json_schema": named if strict is None else {**named, "strict": strict},
    }


def local_chat(asked: ResolveInput, parts: Sequence[Part]) -> tuple[dict[str, Any], list[Slot]]:
    """Model, messages and tools for a server that puts them through a chat template.

    All blocks, and the system messages that a conversation begins with, are one system message of one text: not every
    template takes a list. Tools come first, as the templates
    of current models have them; a schema guides the sampling and is in no prompt.
    """
    chat, tools = Chat(), chat_tools(asked)
    chat.slots += [Slot(part, compact_json(tools), ("tools",)) for part in parts if part.kind == "tools"]
    opening = [part for part in parts if part.kind == "block"]
    talk = [part for part in parts if part.kind in {"message", "turn"}]
    while talk and talk[0].role == "system":
        opening.append(talk.pop(0))
    # A block ends its line itself.
    texts = [part.text if part.kind == "block" else f"{part.text}\n" for part in opening]
    if opening:
        chat.messages.append({"role": "system", "content": "".join(texts)})
    chat.slots += [
        Slot(part, text, ("messages", 0, "content")) for part, text in zip(opening, texts, strict=True)
    ]
    for part in talk:
        chat.say(part, *spoken(part))
    body: dict[str, Any] = {"model": asked.model, "messages": chat.messages}
    return ({**body, "tools": tools} if tools else body), chat.slots


def local_settings(asked: ResolveInput) -> dict[str, Any]:
    """Sampling as vLLM, SGLang and llama.cpp take it."""
    settings: dict[str, Any] = {
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        # Unasked, a server takes what the model's `generation_config.json` says; -1 is no limit for all three.
        "top_k": asked.top_k or -1,
    }
    if asked.seed is not None:
        settings["seed"] = asked.seed
    if asked.max_tokens is not None:
        settings["max_tokens"] = asked.max_tokens
    if asked.stop:
        settings["stop"] = list(asked.stop)
    if asked.response_schema is not None:
        settings["response_format"] = json_format(asked.response_schema)
    return settings


def later_system(asked: ResolveInput) -> bool:
    """Whether a system message stands after somebody else's."""
    roles = [each.role for each in asked.messages]
    while roles and roles[0] == "system":
        roles.pop(0)
    return "system" in roles


def roles_note(asked: ResolveInput) -> list[str]:
    """What is said of messages whose role is sent as another."""
    said = []
    if any(each.role == "tool" for each in asked.messages):
        said.append("Messages of the role tool are sent as the user's, between tags.")
    if later_system(asked):
        said.append("A system message after the first turn is sent as the user's, between tags.")
    return said
