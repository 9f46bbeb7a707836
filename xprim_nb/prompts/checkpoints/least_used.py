"""A dictionary of bounded weight."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Generic, TypeVar

__all__ = ["LeastUsed"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


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
