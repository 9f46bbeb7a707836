"""A chunk sink that keeps its bytes in memory and notices when it is treated badly."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable

__all__ = ["MemorySink"]


class MemorySink:
    """Takes the bytes of one chunk.

    Args:
        digest: The chunk's name.
        size_bytes: How long it is.
        on_write: Called with `received` after each block, in the writer's thread.

    Attributes:
        data: What was taken.
        writes: How often `write` was called, over all starts.
        restarts: How often `restart` was called.
        late: Set by a write or restart after `close`.

    >>> sink = MemorySink.for_bytes(b"abc")
    >>> sink.write(memoryview(b"ab")); sink.received, sink.complete
    (2, False)
    """

    def __init__(
        self, digest: str, size_bytes: int, *, on_write: Callable[[int], None] | None = None
    ) -> None:
        self._digest, self._size_bytes, self._on_write = digest, size_bytes, on_write
        self._writing = threading.Lock()
        self.data = bytearray()
        self.writes = self.restarts = 0
        self.late = threading.Event()
        self._closed = False

    @classmethod
    def for_bytes(
        cls, data: bytes, *, received: int = 0, on_write: Callable[[int], None] | None = None
    ) -> MemorySink:
        """A sink for these bytes, the first `received` of which it has already."""
        sink = cls(hashlib.sha256(data).hexdigest(), len(data), on_write=on_write)
        sink.data += data[:received]
        return sink

    @property
    def digest(self) -> str:
        """The chunk's name."""
        return self._digest

    @property
    def size_bytes(self) -> int:
        """How long the chunk is."""
        return self._size_bytes

    @property
    def received(self) -> int:
        """Bytes taken so far."""
        return len(self.data)

    @property
    def complete(self) -> bool:
        """True when every byte is here and right."""
        return len(self.data) == self._size_bytes and hashlib.sha256(self.data).hexdigest() == self._digest

    def write(self, block: memoryview) -> None:
        """Take the next bytes.

        Raises:
            AssertionError: Two writers at once, a byte too many, or a write after `close`: the source broke its
                promise.
        """
        assert self._writing.acquire(blocking=False), "two writers at once"
        try:
            self._refuse_if_closed()
            assert isinstance(block, memoryview), f"a {type(block).__name__}, not a memoryview"
            assert len(self.data) + block.nbytes <= self._size_bytes, "a byte too many"
            self.data += block
            self.writes += 1
            if self._on_write is not None:
                self._on_write(len(self.data))
        finally:
            self._writing.release()

    def restart(self) -> None:
        """Forget what was taken."""
        self._refuse_if_closed()
        self.data.clear()
        self.restarts += 1

    def close(self) -> None:
        """The source has returned: nothing may be written any more."""
        self._closed = True

    def _refuse_if_closed(self) -> None:
        if self._closed:
            self.late.set()
            raise AssertionError("a write after the source had returned")
