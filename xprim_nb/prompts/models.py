"""What this room wants to know of the models that requests name, from whoever knows them.

Source: spec 6 §Identity; DESIGN §The rooms (this room imports neither registry, cache nor workers).
"""

from __future__ import annotations

from typing import Protocol

from xprim_nb.errors import PromptError
from xprim_nb.prompts.counting import CountTokens
from xprim_nb.prompts.values import ResolveInput

__all__ = ["ModelChangedError", "Models"]


class ModelChangedError(PromptError):
    """The model is another one than it was when the request got its identity; the same call sees the new one."""

    default_hint = "Ask again."


class Models(Protocol):
    """Who knows the models that requests name."""

    async def pinned(self, asked: ResolveInput, *, install: bool) -> ResolveInput:
        """The request with whatever says which weights, or which server, will answer: in `endpoint`, as a rule.

        Args:
            asked: What is asked.
            install: Whether the model may be installed, where nothing else tells what it is.
        """
        ...

    async def counter(self, asked: ResolveInput) -> CountTokens | None:
        """The model's own count of tokens, of a request that is pinned; None where it is not to be had."""
        ...
