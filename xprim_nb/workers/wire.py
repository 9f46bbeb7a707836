"""Frames between a kernel and its worker: `u32 total | u32 header | header (JSON) | raw bytes`, little-endian.

`total` counts what follows it, `header` the bytes of the JSON object; the rest is raw. No pickle: the other end may be
another Python, and runs a model's code. Nothing that a length says is believed before it is compared with its bound.

Both ends run this file: the kernel imports it, `child` loads it by its path. So it needs the standard library alone,
and stays readable for interpreters older than the kernel's: they must be able to say how old they are.

    op            to    what
    hello         ◀     protocol, python, platform, pid, executable
    preload       ▶     modules to import while waiting
    load          ▶     engine, spec, slots            ◀ progress …, then done | error
    generate      ▶     request, credits               ◀ chunk …, then done | error
    credit        ▶     id, count: so many more chunks may be sent
    cancel        ▶     id
    park, wake    ▶                                    ◀ done | error
    stats, ping   ▶                                    ◀ stats, pong: at once, also while the engine works
    shutdown      ▶     end what is being answered, unload, exit
    lora.stage, lora.commit, lora.rollback, snapshot   reserved

Source: spec 4 §Workers; research/residency §5.2 (3).
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Mapping
from typing import Any

__all__ = [
    "CREDITS",
    "MAX_FRAME_BYTES",
    "MAX_HEADER_BYTES",
    "PREAMBLE",
    "PROTOCOL",
    "CutError",
    "FrameError",
    "pack",
    "skip_to_preamble",
    "unpack",
]

PROTOCOL = 1
# What a worker writes before its first frame. A `.pth` file or a wrapper of the interpreter may print before the
# worker has its pipes to itself; whatever comes before this is a line of the log and not a frame.
PREAMBLE = b"\0xprim-worker\0"
# The longest prompt anybody has sent is a few megabytes; a length above this is damage and not a prompt.
MAX_HEADER_BYTES = 16 << 20
MAX_FRAME_BYTES = 64 << 20
# Chunks on the way and not yet read: hides the pipe's latency, and bounds what a slow reader makes the kernel hold.
CREDITS = 32
# What may come before the preamble; `yes` instead of an interpreter is noticed after so much.
_MAX_NOISE_BYTES = 1 << 16
# Two lengths. Little-endian, because every machine that runs models is.
_LENGTHS = struct.Struct("<II")
# Made once: `json.dumps` makes one for each call that wants anything but its defaults.
_ENCODER = json.JSONEncoder(separators=(",", ":"), default=os.fspath)


class FrameError(Exception):
    """What was read is no frame, or what should be sent is too large for one."""


class CutError(FrameError):
    """The stream ended inside a frame, or before the first: the other end died, which says more than this."""


def pack(header: Mapping[str, Any], raw: bytes = b"") -> bytes:
    """The bytes of one frame.

    Args:
        header: What JSON can hold, and paths; `op` names the frame.
        raw: Bytes that belong to it.

    Raises:
        FrameError: It is larger than the other end would believe.
        TypeError: The header holds what JSON cannot.
    """
    head = _ENCODER.encode(header).encode("ascii")
    total = 4 + len(head) + len(raw)
    if len(head) > MAX_HEADER_BYTES or total > MAX_FRAME_BYTES:
        raise FrameError(
            f"A message of {total:,} bytes is larger than a worker takes ({MAX_HEADER_BYTES:,})."
        )
    return _LENGTHS.pack(total, len(head)) + head + raw


def unpack(read: Callable[[int], bytes]) -> tuple[dict[str, Any], bytes] | None:
    """The next frame's header and raw bytes; None where the stream ends between two frames.

    Args:
        read: As of a buffered binary file: exactly so many bytes, fewer only where the stream ends.

    Raises:
        FrameError: A length is out of its bounds, or the header is no JSON object with an `op`.
        CutError: The stream ends inside.
    """
    lengths = read(_LENGTHS.size)
    if not lengths:
        return None
    if len(lengths) < _LENGTHS.size:
        raise CutError("The stream ends inside a frame.")
    total, size = _LENGTHS.unpack(lengths)
    if not 4 <= total <= MAX_FRAME_BYTES or size > min(total - 4, MAX_HEADER_BYTES):
        raise FrameError(f"No frame has the lengths {total:,} and {size:,}; it begins with {lengths!r}.")
    body = read(total - 4)
    if len(body) < total - 4:
        raise CutError("The stream ends inside a frame.")
    try:
        header = json.loads(body[:size])
    except (ValueError, RecursionError) as error:
        raise FrameError(f"A frame's header is no JSON: {error!r:.200}.") from error
    if not isinstance(header, dict) or not isinstance(header.get("op"), str):
        raise FrameError(f"A frame's header is no object with an op: {header!r:.200}.")
    return header, body[size:]


def skip_to_preamble(read: Callable[[int], bytes]) -> bytes:
    """What came before the preamble, which is taken too.

    Raises:
        FrameError: Too much came, and no preamble was in it; the text shows the beginning.
        CutError: The stream ended before.
    """
    seen = bytearray()
    while not seen.endswith(PREAMBLE):
        byte = read(1)
        if not byte:
            raise CutError(f"It said only {bytes(seen[-80:])!r}.")
        if len(seen) > _MAX_NOISE_BYTES:
            raise FrameError(f"No worker speaks here; what came begins with {bytes(seen[:80])!r}.")
        seen += byte
    return bytes(seen[: -len(PREAMBLE)])
