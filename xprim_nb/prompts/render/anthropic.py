"""Anthropic's Messages API, with at most four cache breakpoints.

    tools, schema, system (a text for each block), messages, turn

Marks stand at the last tool, at texts of the system and at messages, those for an hour before those for five minutes.
A `cache_control` of the caller's among the `parameters` is Anthropic's automatic one, and takes one of the four.

Source: https://platform.claude.com/docs/en/build-with-claude/prompt-caching; anthropic 2.14
(`types/message_create_params.py`, which has no temperature, top_p or top_k any more); research/prompts §5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xprim_nb.prompts.breakpoints import place_breakpoints
from xprim_nb.prompts.ordering import Part
from xprim_nb.prompts.render.chat import roles_note
from xprim_nb.prompts.render.contract import Slot, compact_json, finished, merged, spoken
from xprim_nb.prompts.rendered import Rendered
from xprim_nb.prompts.rules import cache_rule
from xprim_nb.prompts.values import ResolveInput

__all__ = ["MAX_TOKENS", "AnthropicRenderer"]

# The API wants a number; every model it has takes this one.
MAX_TOKENS = 4096
"""Most tokens of an answer where nobody said how many."""


class AnthropicRenderer:
    """The Messages API."""

    id = "anthropic/1"

    def render(
        self, asked: ResolveInput, parts: Sequence[Part], *, counts: Sequence[int] | None = None
    ) -> Rendered:
        """See `Renderer.render`."""
        body: dict[str, Any] = {"model": asked.model, "max_tokens": asked.max_tokens or MAX_TOKENS}
        slots = _fill(asked, parts, body)
        marked = _mark(asked, slots, body, counts)
        stops = [stop for stop in asked.stop if stop.strip()]
        if stops:
            body["stop_sequences"] = stops
        sent = merged(body, asked, ("system", "max_tokens"))
        config = sent.get("output_config")
        if asked.response_schema is not None and isinstance(config, Mapping):
            # The caller's effort and the form of the answer share a field.
            sent["output_config"] = {**config, **body["output_config"]}
        return finished(self.id, asked, sent, slots, marked)

    def notes(self, asked: ResolveInput) -> tuple[str, ...]:
        """See `Renderer.notes`."""
        said = [
            f"{name}={getattr(asked, name)} is not sent: Anthropic takes none, its models sample as they are made to."
            for name, is_asked in (
                ("temperature", "temperature" in asked.model_fields_set),
                ("top_p", asked.top_p != 1.0),
                ("top_k", asked.top_k),
                ("seed", asked.seed is not None),
            )
            if is_asked
        ]
        if asked.loras:
            said.append("LoRA layers are not sent: Anthropic takes none.")
        if asked.max_tokens is None:
            said.append(f"max_tokens={MAX_TOKENS} is sent: Anthropic wants a number, and none was given.")
        if any(not stop.strip() for stop in asked.stop):
            said.append("Stop texts of blanks alone are not sent: Anthropic refuses them.")
        if asked.cache_key:
            said.append("cache_key is not sent: Anthropic routes by what is sent alone.")
        return (*said, *roles_note(asked))


def _fill(asked: ResolveInput, parts: Sequence[Part], body: dict[str, Any]) -> list[Slot]:
    """Put the parts into the body, in the order in which the cache sees them."""
    slots: list[Slot] = []
    system: list[dict[str, Any]] = []
    messages: list[dict[str, Any]] = []
    for part in parts:
        is_talk = part.kind in {"message", "turn"}
        if part.kind == "tools":
            body["tools"] = [
                {
                    "name": each.name,
                    **({"description": each.description} if each.description else {}),
                    "input_schema": dict(each.parameters),
                }
                for each in asked.tools
            ]
            slots.append(Slot(part, compact_json(body["tools"]), ("tools", len(asked.tools) - 1)))
        elif part.kind == "schema":
            schema = dict(asked.response_schema or {})
            body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
            slots.append(Slot(part, part.text, ("output_config", "format")))
        elif not is_talk or (part.role == "system" and not messages):
            slots.append(Slot(part, part.text, ("system", len(system))))
            system.append({"type": "text", "text": part.text})
        else:
            role, text = spoken(part)
            slots.append(Slot(part, text, ("messages", len(messages), "content", 0)))
            messages.append({"role": role, "content": [{"type": "text", "text": text}]})
    if system:
        body["system"] = system
    body["messages"] = messages
    return slots


def _mark(
    asked: ResolveInput, slots: Sequence[Slot], body: dict[str, Any], counts: Sequence[int] | None
) -> list[int]:
    """Put the marks into the body; the places that got one."""
    rule = cache_rule(asked.provider, asked.model)
    if rule is None:
        return []
    places = place_breakpoints(
        [slot.part for slot in slots],
        rule,
        # A schema has no field for a mark, and neither has an empty text.
        markable=[slot.part.kind != "schema" and bool(slot.text) for slot in slots],
        ttl=asked.prefix_ttl,
        counts=counts,
        most=rule.breakpoints - ("cache_control" in asked.parameters),
    )
    for index, lifetime in places.items():
        place: Any = body
        for step in slots[index].path:
            place = place[step]
        place["cache_control"] = {"type": "ephemeral", **({} if lifetime == "5m" else {"ttl": lifetime})}
    return list(places)
