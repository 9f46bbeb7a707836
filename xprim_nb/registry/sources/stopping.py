"""Stop blocking transfers from another thread.

Source: STYLE rule 11 (teardown).
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Protocol

__all__ = ["StopToken", "StoppedError"]


class _Sink(Protocol):
    """A `ChunkSink`, as far as a token is concerned."""

    @property
    def received(self) -> int: ...

    def write(self, block: memoryview) -> None: ...

    def restart(self) -> None: ...


class StoppedError(Exception):
    """The transfer was stopped from outside."""


class StopToken:
    """Stops blocking transfers, one after the other, from another thread.

    After `stop` returns, the sink is not written to any more.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None
        self.stopped = False

    def stop(self) -> None:
        """End the transfer now: a read that waits returns at once."""
        with self._lock:
            self.stopped = True
            if self._sock is not None:
                with contextlib.suppress(OSError):
                    # The base class's method: SSLSocket.shutdown would drop the TLS state under the reading thread.
                    socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def watch(self, sock: socket.socket | None) -> None:
        """Name the socket that `stop` shuts down.

        Raises:
            StoppedError: It was stopped already.
        """
        with self._lock:
            self._sock = sock
            if self.stopped:
                raise StoppedError

    def deliver(self, sink: _Sink, block: memoryview) -> None:
        """Write to the sink unless stopped.

        Raises:
            StoppedError: It was stopped.
        """
        with self._lock:
            if self.stopped:
                raise StoppedError
            sink.write(block)

    def restart(self, sink: _Sink) -> None:
        """Let the sink forget what it took unless stopped.

        Raises:
            StoppedError: It was stopped.
        """
        with self._lock:
            if self.stopped:
                raise StoppedError
            if sink.received:
                sink.restart()
