"""Requests that were laid out elsewhere, and what comes back of them that is no text: tool calls, refusals, usage.

Source: spec 6 §Resolve (renderers place a provider's cache breakpoints: what they made has to arrive as it is).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from xprim_nb.workers.values import FinishReason

__all__ = ["ToolCalls", "finish_of", "sdk_arguments"]

_FINISHES: Mapping[str, FinishReason] = {
    "length": "length",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
    "content_filter": "refusal",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
}


def finish_of(word: str, *, refused: bool = False) -> FinishReason:
    """How an answer ended, from a provider's word for it.

    >>> finish_of("end_turn"), finish_of("max_tokens"), finish_of("stop", refused=True)
    ('stop', 'length', 'refusal')
    """
    return "refusal" if refused else _FINISHES.get(word, "stop")


def sdk_arguments(create: Callable[..., object], body: Mapping[str, object]) -> dict[str, Any]:
    """A body as the arguments of an SDK's call: fields that it has no argument for go along as they are."""
    known = inspect.signature(create).parameters
    own = {name: value for name, value in body.items() if name in known}
    others = {name: value for name, value in body.items() if name not in known}
    return {**own, "extra_body": others} if others else own


class ToolCalls:
    """Tool calls, put together from the pieces in which they come."""

    def __init__(self) -> None:
        self._calls: dict[int, dict[str, str]] = {}

    def add(self, index: int, *, id_: str = "", name: str = "", arguments: str = "") -> None:
        """Take a piece of the call with this index."""
        call = self._calls.setdefault(index, {"id": "", "name": "", "arguments": ""})
        call["id"] = call["id"] or id_
        call["name"] = call["name"] or name
        call["arguments"] += arguments

    def whole(self) -> tuple[Mapping[str, str], ...]:
        """All of them, in their order."""
        return tuple(self._calls[index] for index in sorted(self._calls))
