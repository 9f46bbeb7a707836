"""A value of JSON as the caches keep it: one letter for how it is packed, a checksum, and the packed bytes.

    b"z" zstd · b"d" zlib, where zstandard is not installed · b"j" as it is, where packing would not pay

A capital letter says the same of text that only the standard library's JSON can carry: integers beyond 64 bits, halves
of surrogate pairs. Nothing here can run code when it is read, as pickle would.

Source: spec 6 §Caches ("values orjson+zstd, no pickle"); research/prompts §3.11 (CVE-2025-69872).
"""

from __future__ import annotations

import functools
import json
import threading
import zlib
from types import ModuleType
from typing import Any

import orjson

from xprim_nb.errors import MissingExtraError

__all__ = ["DamagedValueError", "pack", "unpack"]

# Below this, a frame's own bytes eat what packing saves.
_WORTH_PACKING_BYTES = 256
# Of zstd: three times as fast as 6 on prompts, for a tenth more bytes.
_LEVEL = 3
_HEAD_BYTES = 5
# The largest frame to a worker, doubled: a larger one was not written here.
_MOST_BYTES = 128 << 20

_local = threading.local()


class DamagedValueError(ValueError):
    """Bytes that were not written here, or have changed since."""


def pack(value: Any) -> bytes:  # noqa: ANN401  # any JSON value is the point
    """The value in bytes.

    Raises:
        TypeError: It holds what JSON cannot.
    """
    try:
        text, capital = orjson.dumps(value), False
    except TypeError:
        text, capital = json.dumps(value, separators=(",", ":")).encode("ascii"), True
    packed, letter = text, b"j"
    if len(text) >= _WORTH_PACKING_BYTES:
        packed, letter = _pack(text)
    letter = letter.upper() if capital else letter
    return letter + _checksum(letter, packed) + packed


def unpack(data: bytes) -> Any:  # noqa: ANN401  # see `pack`
    """The value of its bytes.

    Raises:
        DamagedValueError: They are not what was written.
        MissingExtraError: They were packed by zstandard, which is not installed here.
    """
    letter, packed = data[:1], memoryview(data)[_HEAD_BYTES:]
    if len(data) <= _HEAD_BYTES or _checksum(letter, packed) != data[1:_HEAD_BYTES]:
        raise DamagedValueError("its checksum is another")
    try:
        match letter.lower():
            case b"z":
                text: bytes | memoryview = _unzstd(packed)
            case b"d":
                text = zlib.decompress(packed)
            case b"j":
                text = packed
            case _:
                raise DamagedValueError(f"{letter!r} is no way to pack a value")
        return json.loads(bytes(text)) if letter.isupper() else orjson.loads(text)
    except (ValueError, zlib.error) as error:
        raise DamagedValueError(str(error)) from error


def _checksum(letter: bytes, packed: bytes | memoryview) -> bytes:
    return zlib.crc32(packed, letter[0]).to_bytes(4, "big")


@functools.cache
def _zstandard() -> ModuleType | None:
    try:
        import zstandard  # noqa: PLC0415  # an optional package
    except ImportError:
        return None
    return zstandard


def _pack(text: bytes) -> tuple[bytes, bytes]:
    module = _zstandard()
    if module is None:
        return zlib.compress(text), b"d"
    # One for each thread: they carry state.
    compressor = getattr(_local, "compressor", None)
    if compressor is None:
        compressor = _local.compressor = module.ZstdCompressor(level=_LEVEL)
    return compressor.compress(text), b"z"


def _unzstd(packed: memoryview) -> bytes:
    module = _zstandard()
    if module is None:
        raise MissingExtraError.for_extra("prompts", "Reading a cached answer that was packed by zstandard")
    decompressor = getattr(_local, "decompressor", None)
    if decompressor is None:
        decompressor = _local.decompressor = module.ZstdDecompressor()
    try:
        text: bytes = decompressor.decompress(packed, max_output_size=_MOST_BYTES)
    except module.ZstdError as error:
        raise DamagedValueError(str(error)) from error
    return text
