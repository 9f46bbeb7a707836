"""SHA-256 of bytes and of file ranges, and canonical JSON (RFC 8785).

Source: spec 1 §Wire format; research perf ("hashlib with preadv into 256 KiB to 1 MiB buffers").
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Callable
from typing import Any, NewType

import rfc8785

__all__ = [
    "BLOCK_BYTES",
    "Digest",
    "canonical_json",
    "is_digest",
    "read_range",
    "sha256_hex",
    "thread_buffer",
]

# Measured with four threads on two cores: below this, what Python does for each block costs more than the processor's
# cache saves (128 KiB run at three quarters of the speed of 1 MiB); above it nothing is gained.
BLOCK_BYTES = 1 << 20

Digest = NewType("Digest", str)
"""A SHA-256 in 64 lower-case hexadecimal digits, checked."""

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_local = threading.local()


def is_digest(text: object) -> bool:
    """True for 64 lower-case hexadecimal digits: the only text that may become a file name under `data/`."""
    return isinstance(text, str) and _DIGEST.match(text) is not None


def sha256_hex(data: bytes | bytearray | memoryview) -> Digest:
    """The digest of bytes in memory."""
    return Digest(hashlib.sha256(data).hexdigest())


def canonical_json(value: Any) -> bytes:  # noqa: ANN401  # any JSON value is the point
    """The one spelling of a JSON value in UTF-8 (RFC 8785), the same in every language.

    >>> canonical_json({"b": 1, "a": [True, None]})
    b'{"a":[true,null],"b":1}'
    """
    return rfc8785.dumps(value)


def thread_buffer() -> memoryview:
    """A reusable buffer of `BLOCK_BYTES`, one for each thread; valid until the thread asks again."""
    buffer: memoryview | None = getattr(_local, "buffer", None)
    if buffer is None:
        buffer = _local.buffer = memoryview(bytearray(BLOCK_BYTES))
    return buffer


def read_range(fd: int, offset: int, length: int, take: Callable[[memoryview], None]) -> int:
    """Hand `length` bytes of an open file from `offset` to `take`, block by block.

    The blocks lie in the thread's reused buffer: `take` must be done with each before it returns.

    Returns:
        Bytes read; fewer than `length` when the file ends early.
    """
    buffer, done = thread_buffer(), 0
    while done < length:
        window = buffer[: min(BLOCK_BYTES, length - done)]
        got = _read_at(fd, window, offset + done)
        if got == 0:
            break
        take(window[:got])
        done += got
    return done


if hasattr(os, "preadv"):

    def _read_at(fd: int, window: memoryview, offset: int) -> int:
        return os.preadv(fd, [window], offset)

else:  # Windows and older macOS: each reader has an own descriptor, so seeking is safe

    def _read_at(fd: int, window: memoryview, offset: int) -> int:
        os.lseek(fd, offset, os.SEEK_SET)
        data = os.read(fd, len(window))
        window[: len(data)] = data
        return len(data)
