"""What a saver remembers between calls: bytes and values by their digest, and what the last checkpoints are made of.

All of it only ever saves work. Bytes that a digest names never change, and whoever relies on a remembered checkpoint
has it compared with the stored one in its own transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from .copying import Models
from .encoding import Blob, Image, Parts, Ref
from .langgraph_parts import SerializerProtocol
from .least_used import LeastUsed

__all__ = ["Kept", "Place", "Remembered"]

# What Python adds to a blob in memory: the tuple, two strings' heads, the digest, the dictionary's entry.
_BLOB_OVERHEAD_BYTES = 300
_KEPT_OVERHEAD_BYTES = 1000
# Images share their items' bytes with one another and with the blobs, so that they weigh much less than it seems.
_IMAGES_SHARE = 2
_MODELS_SHARE = 2
_KEPT_SHARE = 16


class Place(NamedTuple):
    """Where a checkpoint is."""

    thread: str
    namespace: str
    id: str


@dataclass(frozen=True, slots=True)
class Kept:
    """What a stored checkpoint is made of.

    Args:
        packed: Its column of channels, which tells whether it is still the same.
        refs: The same, read.
        versions: Its channel versions.
    """

    packed: bytes
    refs: Mapping[str, Ref]
    versions: Mapping[str, Any]


class Remembered:
    """The memory of one saver.

    Args:
        most_bytes: How many stored bytes; what is made of them takes half as much again.
    """

    def __init__(self, most_bytes: int) -> None:
        self.blobs: LeastUsed[bytes, Blob] = LeastUsed(
            most_bytes, lambda blob: len(blob.raw) + _BLOB_OVERHEAD_BYTES
        )
        self.images: LeastUsed[bytes, Image] = LeastUsed(
            most_bytes // _IMAGES_SHARE, lambda image: image.size_bytes
        )
        self.kept: LeastUsed[Place, Kept] = LeastUsed(
            most_bytes // _KEPT_SHARE, lambda kept: len(kept.packed) + _KEPT_OVERHEAD_BYTES
        )

        self._models_bytes = most_bytes // _MODELS_SHARE
        self._models: tuple[SerializerProtocol | None, Models] = (None, Models(0))

    def models(self, serde: SerializerProtocol) -> Models:
        """What this serialiser has decoded. Nothing of another one's: that may be allowed what this one is not."""
        used, models = self._models
        if used is not serde:
            models = Models(self._models_bytes)
            self._models = (serde, models)
        return models

    def keep(self, parts: Parts) -> None:
        """Remember what was made or found."""
        self.blobs.keep(parts.blobs)
        self.images.keep(parts.images)
