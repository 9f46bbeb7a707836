"""Sends an answer: head, gates, pace, framing, and the end it was given."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from xprim_nb.testing.answers import Answer, reason_of
from xprim_nb.testing.connections import Connection
from xprim_nb.testing.exchanges import RecordedRequest
from xprim_nb.testing.gates import Hold
from xprim_nb.testing.library import FileSlice

__all__ = ["Pace", "Sender"]

_BLOCK_BYTES = 1 << 20
# A paced body is sent in so many pieces a second: fine enough to look steady, coarse enough to cost nothing.
_PIECES_S = 50
_ZEROS = bytes(256 << 10)


class Pace:
    """Lets at most so many bytes a second pass, over all threads that share it.

    Args:
        bytes_s: Bytes a second, above 0.
        closing: Ends every wait.
    """

    def __init__(self, bytes_s: float, closing: threading.Event) -> None:
        self.piece_bytes = max(1, min(_BLOCK_BYTES, int(bytes_s / _PIECES_S)))
        self._bytes_s, self._closing = bytes_s, closing
        self._lock, self._free_at = threading.Lock(), time.monotonic()

    def wait_for(self, count: int) -> None:
        """Return when `count` more bytes may have been sent."""
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + count / self._bytes_s
            wait = self._free_at - time.monotonic()
        self._closing.wait(wait)


@dataclass(frozen=True, slots=True)
class Sender:
    """Sends one answer on one connection.

    Attributes:
        connection: Where to.
        request: The record; its status and bytes are kept up to date.
        answer: What to send.
        holds: Gates on the way.
        paces: Limits on its speed.
        closing: Set when the server closes.
    """

    connection: Connection
    request: RecordedRequest
    answer: Answer
    holds: Sequence[Hold]
    paces: Sequence[Pace]
    closing: threading.Event

    def send(self) -> bool:
        """Send it; True when the connection can serve another request.

        Raises:
            OSError: The client has left.
        """
        answer, cut = self.answer, self.answer.cut
        if answer.delay_s:
            self.closing.wait(answer.delay_s)
        self._pass_gates(None)
        if cut is not None and cut.after_bytes is None:
            return self._end()
        self.request.status = answer.status
        if answer.first_bytes is not None:
            self.connection.sock.sendall(answer.first_bytes)
            return False
        self.connection.sock.sendall(self._head())
        if self._has_body():
            self._send_body()
        if cut is not None:
            return self._end()
        if self._has_body() and answer.framing == "chunked":
            self.connection.sock.sendall(b"0\r\n\r\n")
        if self._must_close():
            self.connection.finish()
            return False
        return True

    def _has_body(self) -> bool:
        return self.request.method != "HEAD" and self.answer.status not in (204, 304)

    def _must_close(self) -> bool:
        answer = self.answer
        kept = self.request.headers.get("connection", "").lower() != "close"
        return not kept or answer.framing == "close" or answer.declared_bytes is not None

    def _head(self) -> bytes:
        answer = self.answer
        lines = [f"HTTP/1.1 {answer.status} {reason_of(answer.status)}"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        if answer.status not in (204, 304):
            if answer.framing == "length":
                length = len(answer.body) if answer.declared_bytes is None else answer.declared_bytes
                lines.append(f"Content-Length: {length}")
            elif answer.framing == "chunked":
                lines.append("Transfer-Encoding: chunked")
        if answer.framing == "close" or self.request.headers.get("connection", "").lower() == "close":
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")

    def _send_body(self) -> None:
        length, cut = len(self.answer.body), self.answer.cut
        most = None if cut is None else cut.after_bytes
        stop = length if most is None else min(most, length)
        position = 0
        # A gate beyond the end stands at the end: one that nobody reaches would keep the test waiting.
        gates = sorted(min(hold.after_bytes, stop) for hold in self.holds if hold.after_bytes is not None)
        for gate in gates:
            self._send_range(position, gate)
            position = gate
            self._pass_gates(gate, last=gate == stop)
        self._send_range(position, stop)
        if most is None or most > length:
            self._send_filler(None if most is None else most - length)

    def _send_filler(self, most: int | None) -> None:
        left = self.answer.filler_bytes
        if most is not None:
            left = most if left is None else min(most, left)
        while (left is None or left > 0) and not self.closing.is_set():
            block = memoryview(_ZEROS)[:left]
            self._send_block(block)
            left = None if left is None else left - len(block)

    def _send_range(self, start: int, stop: int) -> None:
        body, size = self.answer.body, min((pace.piece_bytes for pace in self.paces), default=_BLOCK_BYTES)
        plain = not self.paces and not self.connection.encrypted and self.answer.framing != "chunked"
        if isinstance(body, FileSlice) and plain and hasattr(os, "sendfile"):
            self._send_file(body, start, stop)
            return
        source = body if isinstance(body, FileSlice) else memoryview(body)
        for begin in range(start, stop, size):
            if self.closing.is_set():
                return
            end = min(begin + size, stop)
            self._send_block(source.read(begin, end) if isinstance(source, FileSlice) else source[begin:end])

    def _send_block(self, block: bytes | memoryview) -> None:
        for pace in self.paces:
            pace.wait_for(len(block))
        sock, chunked = self.connection.sock, self.answer.framing == "chunked"
        if chunked:
            sock.sendall(f"{len(block):x}\r\n".encode())
        view = memoryview(block)
        while view:
            sent = sock.send(view)
            self.request.bytes_sent += sent
            view = view[sent:]
        if chunked:
            sock.sendall(b"\r\n")

    def _send_file(self, body: FileSlice, start: int, stop: int) -> None:
        target = self.connection.sock.fileno()
        while start < stop:
            sent = os.sendfile(target, body.fd, body.start + start, stop - start)
            if sent == 0:
                return  # the file was shortened while it was sent
            self.request.bytes_sent += sent
            start += sent

    def _pass_gates(self, after_bytes: int | None, *, last: bool = False) -> None:
        for hold in self.holds:
            at = hold.after_bytes
            if at == after_bytes or (
                last and at is not None and after_bytes is not None and at > after_bytes
            ):
                hold.pass_through(self.request)

    def _end(self) -> bool:
        match self.answer.cut:
            case None:
                return True
            case cut if cut.how == "stall":
                self.connection.wait_until_client_leaves()
            case cut if cut.how == "reset":
                self.connection.reset()
            case cut if cut.how == "finish":
                self.connection.finish()
        return False
