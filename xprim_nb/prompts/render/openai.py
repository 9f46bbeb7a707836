"""OpenAI's Chat Completions, with explicit cache breakpoints from GPT-5.6 on.

    tools, schema, system (a text for each block), messages, turn

In a conversation OpenAI's own breakpoint at the newest message stays, and up to three of ours are written; without
history it would write a turn that nobody reads again, and is switched off. An assistant's message takes no mark.

Source: https://developers.openai.com/api/docs/guides/prompt-caching; openai 3.57 (`PromptCacheOptions`,
`PromptCacheBreakpoint`); research/prompts §5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from xprim_nb.prompts.breakpoints import WANTED_S, place_breakpoints
from xprim_nb.prompts.ordering import Part
from xprim_nb.prompts.render.chat import chat_tools, json_format
from xprim_nb.prompts.render.contract import Slot, compact_json, finished, merged
from xprim_nb.prompts.rendered import Rendered
from xprim_nb.prompts.rules import cache_rule
from xprim_nb.prompts.values import ResolveInput

__all__ = ["OpenAIRenderer"]

# They choose these themselves and refuse a request that says otherwise, unless it asks for no reasoning.
_REASONING = ("o[1-9]*", "gpt-5*", "gpt-[6-9]*")
# The API takes no more.
_MOST_STOPS = 4


class OpenAIRenderer:
    """Chat Completions."""

    id = "openai/1"

    def render(
        self, asked: ResolveInput, parts: Sequence[Part], *, counts: Sequence[int] | None = None
    ) -> Rendered:
        """See `Renderer.render`."""
        slots, messages = _messages(asked, parts)
        body: dict[str, Any] = {"model": asked.model}
        if asked.tools:
            body["tools"] = chat_tools(asked)
        if asked.response_schema is not None:
            body["response_format"] = json_format(
                asked.response_schema, strict=is_strict(asked.response_schema)
            )
        body["messages"] = messages
        marked = _mark(asked, slots, messages, body, counts)
        body |= _settings(asked)
        if asked.cache_key:
            body["prompt_cache_key"] = asked.cache_key
        reserved = ("response_format", "functions")
        return finished(self.id, asked, merged(body, asked, reserved), slots, marked, apart=asked.cache_key)

    def notes(self, asked: ResolveInput) -> tuple[str, ...]:
        """See `Renderer.notes`."""
        said = []
        if asked.top_k:
            said.append(f"top_k={asked.top_k} is not sent: OpenAI knows no such setting.")
        if asked.loras:
            said.append("LoRA layers are not sent: OpenAI takes none.")
        if _reasons(asked):
            said += [
                f"{name}={getattr(asked, name)} is not sent: {asked.model} chooses it itself while it reasons."
                for name in ("temperature", "top_p")
                if name in asked.model_fields_set
            ]
            if asked.stop:
                said.append(f"The stop texts are not sent: {asked.model} takes none while it reasons.")
        elif len(asked.stop) > _MOST_STOPS:
            said.append(
                f"Of {len(asked.stop)} stop texts the first {_MOST_STOPS} are sent: OpenAI takes no more."
            )
        if asked.response_schema is not None and not is_strict(asked.response_schema):
            said.append(
                "The schema guides and does not bind: OpenAI holds a model to one whose objects name all their fields "
                "as required and forbid others."
            )
        if any(each.role == "tool" for each in asked.messages):
            said.append("Messages of the role tool are sent as the user's, between tags.")
        rule = cache_rule(asked.provider, asked.model)
        if rule is not None and asked.prefix_ttl != "5m":
            name = rule.lifetime(WANTED_S[asked.prefix_ttl])
            said.append(
                f"The prefix is asked to be kept for {name}, OpenAI's shortest lifetime of {asked.prefix_ttl} or more."
                if rule.can_be_told
                else f"prefix_ttl={asked.prefix_ttl} is not sent: {asked.model} cannot be told how long to keep a prefix."
            )
        return tuple(said)


def is_strict(schema: object) -> bool:
    """Whether all objects of a schema require all their fields and forbid others, as OpenAI's strict mode wants it.

    >>> is_strict({"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": False})
    True
    """
    if isinstance(schema, list | tuple):
        return all(is_strict(each) for each in schema)
    if not isinstance(schema, Mapping):
        return True
    if schema.get("type") == "object" or "properties" in schema:
        fields = schema.get("properties", {})
        if schema.get("additionalProperties") is not False or set(schema.get("required", ())) != set(fields):
            return False
    return all(is_strict(each) for each in schema.values())


def _reasons(asked: ResolveInput) -> bool:
    name = asked.model.rpartition("/")[2].lower()
    return (
        any(fnmatchcase(name, each) for each in _REASONING)
        and "-chat" not in name
        and asked.parameters.get("reasoning_effort") != "none"
    )


def _messages(asked: ResolveInput, parts: Sequence[Part]) -> tuple[list[Slot], list[dict[str, Any]]]:
    slots: list[Slot] = []
    blocks = [part for part in parts if part.kind == "block"]
    messages: list[dict[str, Any]] = []
    if blocks:
        messages.append({"role": "system", "content": [_text(part.text) for part in blocks]})
    for part in parts:
        if part.kind == "tools":
            slots.append(Slot(part, compact_json(chat_tools(asked)), ("tools",)))
        elif part.kind == "schema":
            slots.append(Slot(part, part.text, ("response_format", "json_schema", "schema")))
    slots += [Slot(part, part.text, ("messages", 0, "content", place)) for place, part in enumerate(blocks)]
    for part in parts:
        if part.kind not in {"message", "turn"}:
            continue
        role, text = (
            ("user", f"<tool_result>\n{part.text}\n</tool_result>")
            if part.role == "tool"
            else (
                part.role,
                part.text,
            )
        )
        slots.append(Slot(part, text, ("messages", len(messages), "content", 0)))
        messages.append({"role": role, "content": [_text(text)]})
    return slots, messages


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _mark(
    asked: ResolveInput,
    slots: Sequence[Slot],
    messages: Sequence[Mapping[str, Any]],
    body: dict[str, Any],
    counts: Sequence[int] | None,
) -> list[int]:
    """Put the marks into the messages; the places that got one."""
    rule = cache_rule(asked.provider, asked.model)
    if rule is None or not rule.can_be_told:
        return []
    talks = any(slot.part.kind == "message" for slot in slots)
    markable = [
        slot.path[0] == "messages"
        and slot.part.role != "assistant"
        # In a conversation OpenAI marks the newest message itself.
        and not (talks and slot.part.kind == "turn")
        for slot in slots
    ]
    places = place_breakpoints(
        [slot.part for slot in slots],
        rule,
        markable=markable,
        ttl=asked.prefix_ttl,
        counts=counts,
        most=rule.breakpoints - talks,
    )
    unasked = next(iter(rule.lifetimes_s), "")
    for index, lifetime in places.items():
        _, message, _, place = slots[index].path
        mark = {"mode": "explicit", **({} if lifetime == unasked else {"ttl": lifetime})}
        messages[int(message)]["content"][place]["prompt_cache_breakpoint"] = mark
    if places and not talks:
        body["prompt_cache_options"] = {"mode": "explicit"}
    return list(places)


def _settings(asked: ResolveInput) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if not _reasons(asked):
        settings = {"temperature": asked.temperature, "top_p": asked.top_p}
        if asked.stop:
            settings["stop"] = list(asked.stop[:_MOST_STOPS])
    if asked.seed is not None:
        settings["seed"] = asked.seed
    if asked.max_tokens is not None:
        settings["max_completion_tokens"] = asked.max_tokens
    return settings
