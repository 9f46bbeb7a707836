"""Prompts that several tests of this room ask."""

from __future__ import annotations

from typing import Any

from xprim_nb.prompts.values import ResolveInput

__all__ = ["CASES", "SCHEMA", "asked", "case"]

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"reason": {"type": "string"}, "answer": {"type": "integer"}},
    "required": ["reason", "answer"],
    "additionalProperties": False,
}

_BLOCKS: list[dict[str, Any]] = [
    {"type": "requirements", "content": "Add what is missing."},
    {"type": "file_map", "files": {"src/b.py": "b = 2\n", "src/a.py": "a = 1\n"}},
    {"type": "style_guide", "content": "Say it briefly.", "name": "house"},
]
_TOOLS: list[dict[str, Any]] = [
    {
        "name": "read",
        "description": "Reads a file.",
        "parameters": {"type": "object", "properties": {"path": {}}},
    },
    {"name": "stop"},
]
_TALK: list[dict[str, Any]] = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "What is a?"},
    {"role": "assistant", "content": "1"},
    {"role": "tool", "content": "a = 1"},
]

CASES: dict[str, dict[str, Any]] = {
    "plain": {"prompt": "Hello, wörld 😀"},
    "whole": {
        **{"prompt": "And b?", "blocks": _BLOCKS, "context": {"z": 1.0, "a": [True, None]}, "tools": _TOOLS},
        **{
            "response_schema": SCHEMA,
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 7,
            "seed": 3,
            "max_tokens": 99,
        },
        **{"stop": ["END", " "], "cache_key": "team-a", "prefix_ttl": "1h"},
    },
    "talk": {"prompt": "Thanks.", "blocks": _BLOCKS[:1], "messages": _TALK},
}
"""What each renderer's golden file holds, by name."""

MODELS = {
    "openai": ("gpt-5.6", "gpt-4o"),
    "anthropic": ("claude-opus-5",),
    "vllm": ("tiny",),
    "sglang": ("tiny",),
    "llama-cpp": ("tiny",),
    "local": ("tiny",),
}
"""For each provider, models that are sent to in different ways."""


def case(name: str, provider: str, model: str) -> ResolveInput:
    """One of `CASES`, for somebody."""
    return ResolveInput.model_validate({**CASES[name], "provider": provider, "model": model})


def asked(provider: str = "anthropic", model: str = "claude-opus-5", **changes: Any) -> ResolveInput:
    """A short turn, and whatever a test wants besides."""
    return ResolveInput.model_validate({"prompt": "Go.", "provider": provider, "model": model, **changes})
