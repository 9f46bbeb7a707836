"""What can go wrong with prompts, their answers in a cache, and checkpoints."""

from __future__ import annotations

from xprim_nb.errors.base import XprimError

__all__ = [
    "CheckpointNotFoundError",
    "DatabaseUnavailableError",
    "NotCachedError",
    "PromptError",
]


class PromptError(XprimError):
    """A prompt cannot be resolved, rendered or answered as it was asked for."""

    exit_code = 9
    default_hint = "`xprim prompts explain` shows what would be sent, and why."


class NotCachedError(PromptError):
    """Only a cached answer was wanted, and there is none; `reason` says what differs from the nearest one.

    Args:
        message: One sentence.
        subject: The request's hash.
        hint: What would help.
        reason: Why there was no hit.
    """

    default_hint = "With the cache mode `use` it is asked, and the answer kept."

    def __init__(self, message: str, *, subject: str = "", hint: str = "", reason: str = "") -> None:
        super().__init__(message, subject=subject, hint=hint)
        self.reason = reason


class CheckpointNotFoundError(PromptError, LookupError):
    """No checkpoint, thread or branch has this name."""

    default_hint = "`xprim prompts list` shows what there is."


class DatabaseUnavailableError(PromptError, ConnectionError):
    """The database does not answer. What was acknowledged before is kept; what was not may be written again."""

    default_hint = (
        "Check that the server runs and XPRIM_DATABASE_URL; then run again: nothing is written twice."
    )
