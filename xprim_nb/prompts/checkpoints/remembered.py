"""What a saver remembers between calls: bytes by their digest, and what the last checkpoints are made of.

Both only ever save work. Bytes that a digest names never change, and whoever relies on a remembered checkpoint has it
compared with the stored one in its own transaction.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from .encoding import Blob, Image, Parts, Ref

__all__ = ["Kept", "LeastUsed", "Place", "Remembered"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

# What Python adds to a blob in memory: the tuple, two strings' heads, the digest, the dictionary's entry.
_BLOB_OVERHEAD_BYTES = 300
_KEPT_OVERHEAD_BYTES = 1000
# Images share their items' bytes with one another and with the blobs, so that they weigh much less than it seems.
_IMAGES_SHARE = 2
_KEPT_SHARE = 16


class LeastUsed(Generic[K, V]):
    """A dictionary that forgets what was used longest ago when it weighs too much. Thread-safe."""

    def __init__(self, most_bytes: int, weigh: Callable[[V], int]) -> None:
        self._most_bytes, self._weigh = most_bytes, weigh
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """The value, or None."""
        return self.find([key]).get(key)

    def find(self, keys: Iterable[K]) -> dict[K, V]:
        """Those that are here."""
        entries, found = self._entries, {}
        with self._lock:
            for key in keys:
                entry = entries.get(key)
                if entry is not None:
                    entries.move_to_end(key)
                    found[key] = entry[0]
        return found

    def keep(self, items: Mapping[K, V]) -> None:
        """Add these, and forget others for them."""
        weighed = [(key, value, self._weigh(value)) for key, value in items.items()]
        with self._lock:
            for key, value, weight in weighed:
                _, old = self._entries.pop(key, (None, 0))
                self._entries[key] = value, weight
                self._bytes += weight - old
            while self._bytes > self._most_bytes:
                _, (_, weight) = self._entries.popitem(last=False)
                self._bytes -= weight


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
        most_bytes: How much of it there is.
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

    def keep(self, parts: Parts) -> None:
        """Remember what was made or found."""
        self.blobs.keep(parts.blobs)
        self.images.keep(parts.images)
