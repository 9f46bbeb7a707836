"""Read a chunk's body from its socket into a sink, a block at a time.

Where the system can wait for a whole block in one call, Python is asked once a block: that is what brings a thread to
the speed of a C loop.

Source: research perf (`recv_into` + `MSG_WAITALL`); recv(2), socket(7) `SO_RCVTIMEO`.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import ssl
import struct
import sys
import time
from collections.abc import Iterator

from xprim_nb._hashing import thread_buffer
from xprim_nb._text import format_count
from xprim_nb.registry.sources.answers import shown_url
from xprim_nb.registry.sources.contract import ChunkSink, SourceError
from xprim_nb.registry.sources.stopping import StopToken

__all__ = ["read_body"]

# What is worth a write of its own, and how long a slow line may take for it: what is shown as progress is true. TLS
# hands out 16 KiB at a time: to hash and write each of them costs half as much again as all the rest, and four at a time a
# fifth more than sixteen. The first block is small: that something comes is news.
_WORTH_BYTES, _FIRST_BYTES = 256 << 10, 64 << 10
_READ_S = 0.05
# Linux hands out what came when a wait for a whole block ends early; elsewhere that is not promised.
_WAITS_FOR_ALL = sys.platform.startswith("linux")


def read_body(
    response: http.client.HTTPResponse, sock: socket.socket | None, url: str, sink: ChunkSink, stop: StopToken
) -> None:
    """Feed the sink until it is full.

    `sock` is the connection's, None where the body ends with it: then the response alone has it.

    Raises:
        SourceError: The body ends early; what came is in the sink.
        TimeoutError, OSError, http.client.HTTPException: As the socket says it.
        StoppedError: `stop` was called.
    """
    goes_on = sink.received >= sink.size_bytes or _hand_on(response, sink, stop, first=True)
    plain = None if isinstance(sock, ssl.SSLSocket) else sock
    if _WAITS_FOR_ALL and plain is not None and response.length and not response.chunked:
        with _patient(plain) as stall_s:
            while goes_on and sink.received < sink.size_bytes:
                goes_on = _hand_on_whole(response, plain, stall_s, sink, stop)
    while goes_on and sink.received < sink.size_bytes:
        goes_on = _hand_on(response, sink, stop, first=False)
    if not goes_on:
        raise SourceError(
            f"{shown_url(url)} broke off after {sink.received} of {format_count(sink.size_bytes, 'byte')}.",
            subject=shown_url(url),
        )
    # A body that goes on, or has no end of its own, is left unread: its connection is not used again.
    if response.chunked:
        with contextlib.suppress(OSError, http.client.HTTPException):  # the chunk is whole without its end
            response.read(1)
    elif response.length == 0:
        response.close()


@contextlib.contextmanager
def _patient(sock: socket.socket) -> Iterator[float]:
    """The socket waits for whole blocks, for `_READ_S` at most; the result is the silence it may keep, in seconds."""
    stall_s = sock.gettimeout()
    assert stall_s is not None, "every connection of ours has a limit"
    wait_s = min(_READ_S, stall_s)
    sock.settimeout(None)  # with a timeout Python polls first, and takes what there is
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, int(wait_s * 1e6)))
        yield stall_s
    finally:
        with contextlib.suppress(OSError):  # closed: it is not used again
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 0))
            sock.settimeout(stall_s)


def _hand_on_whole(
    response: http.client.HTTPResponse, sock: socket.socket, stall_s: float, sink: ChunkSink, stop: StopToken
) -> bool:
    """Give the sink a whole block, or what of it comes in time; False at the body's end."""
    assert response.length is not None, "asked before"
    block = thread_buffer()[: min(sink.size_bytes - sink.received, response.length)]
    until = time.monotonic() + stall_s
    while True:
        try:
            got = sock.recv_into(block, len(block), socket.MSG_WAITALL)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise TimeoutError from None
            continue
        if got:
            response.length -= got
            stop.deliver(sink, block[:got])
        return got > 0


def _hand_on(response: http.client.HTTPResponse, sink: ChunkSink, stop: StopToken, *, first: bool) -> bool:
    """Give the sink a block, or what of it comes within `_READ_S`, or before an error; False at the body's end."""
    block = thread_buffer()[: sink.size_bytes - sink.received]
    filled, until = 0, time.monotonic() + _READ_S
    worth = min(len(block), _FIRST_BYTES if first else _WORTH_BYTES)
    try:
        while filled < worth:
            got = _read_once(response, block[filled:], first=first)
            if got == 0:
                return False
            filled, first = filled + got, False
            if time.monotonic() >= until:
                break
        return True
    finally:
        if filled:
            stop.deliver(sink, block[:filled])


def _read_once(response: http.client.HTTPResponse, block: memoryview, *, first: bool) -> int:
    """One read from the socket, straight into the block; 0 at the end of the body.

    `HTTPResponse.readinto` would read on until the block is full, and lose what it has when the line breaks.
    """
    if response.isclosed():
        return 0
    if first or response.chunked:  # what came with the head lies in the response's own buffer
        data = response.read1(min(len(block), io.DEFAULT_BUFFER_SIZE) if first else len(block))
        block[: len(data)] = data
        return len(data)
    if response.length is not None:
        block = block[: response.length]
    got = response.fp.raw.readinto(block) or 0
    if response.length is not None:
        response.length -= got
    return got
