"""The half of the room's owner that asks nobody: what its caches hold, and how they forget.

Source: spec 6 §Caches (rotation by age and size).
"""

from __future__ import annotations

from xprim_nb._hashing import Digest
from xprim_nb._threads import settled
from xprim_nb.errors import ConfigError
from xprim_nb.prompts.caches import Caches, CacheStats, Call, Rotation

__all__ = ["MOST_CALLS", "KeptPrompts"]

MOST_CALLS = 10_000
"""Calls that are looked through at most: the record holds 500 of each model."""


class KeptPrompts:
    """The caches' verbs; see `Prompts`, which opens and closes them."""

    caches: Caches

    async def status(self) -> CacheStats:
        """What the caches hold.

        Raises:
            StorageError: The file cannot be read.
        """
        return await settled(self.caches.stats)

    async def calls(self, last: int = MOST_CALLS) -> tuple[Call, ...]:
        """The last calls that were sent, of all models, the earliest first.

        Raises:
            StorageError: The file cannot be read.
        """
        return await settled(lambda: self.caches.calls(last=last))

    async def plan_rotation(self) -> Rotation:
        """What `rotate` would forget now."""
        return await settled(self.caches.plan_rotation)

    async def rotate(self, plan: Rotation | None = None) -> Rotation:
        """Forget what is too old or too much, and tell what.

        Raises:
            StorageError: The file cannot be written.
        """
        return await settled(self.caches.rotate, plan)

    async def erase(self, request: str) -> int:
        """Erase all that is kept of a request; how many rows went.

        Raises:
            ConfigError: It is no hash of a request.
            StorageError: The file cannot be written.
        """
        if len(request) != 64 or set(request) - set("0123456789abcdef"):
            raise ConfigError(
                f"{request!r:.80} is no request's hash.",
                subject="request",
                hint="`xprim prompts resolve … --json` tells it: 64 hexadecimal digits.",
            )
        return await settled(self.caches.erase, Digest(request))

    async def clear(self) -> int:
        """Erase everything that is kept in the caches; how many rows went.

        Raises:
            StorageError: The file cannot be written.
        """
        return await settled(self.caches.clear)
