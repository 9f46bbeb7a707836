"""A threaded TCP server that leaves nothing behind: the ground under the faulty registry and proxy."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable
from io import BufferedReader
from typing import cast

__all__ = ["Connection", "ConnectionServer"]

_READ_BYTES = 64 << 10
# A connection thread waits for nothing but its peer and the server's end; one that outlives both is a bug.
_JOIN_S = 5.0
# How long a client may take to fetch what lies in the send buffer before a reset throws the rest away.
_DRAIN_S = 2.0


class Connection:
    """One accepted connection, in the hands of one thread."""

    def __init__(self, sock: socket.socket, number: int, client_port: int) -> None:
        self.sock = sock
        self.number = number
        self.client_port = client_port
        # Unbuffered and binary would be another type; with these arguments it is always this one.
        self.reader = cast("BufferedReader", sock.makefile("rb", _READ_BYTES))
        self.encrypted = isinstance(sock, ssl.SSLSocket)

    def wait_until_client_leaves(self) -> None:
        """Send nothing and return when the client has closed, or the server is closing."""
        with contextlib.suppress(OSError, ValueError):
            while self.reader.read(1):
                pass

    def finish(self) -> None:
        """Close as a well-behaved server does: all bytes delivered, TLS told that this is the end."""
        if isinstance(self.sock, ssl.SSLSocket):
            with contextlib.suppress(OSError, ValueError):
                self.sock.settimeout(0.5)  # the goodbye is sent at once; the peer's answer is a courtesy
                self.sock.unwrap()
        self.close()

    def reset(self) -> None:
        """Break the connection: the client has what was sent and then a "connection reset by peer"."""
        self._drain()
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Close the socket, without a goodbye in TLS."""
        with contextlib.suppress(OSError, ValueError):
            self.reader.close()
        self.sock.close()

    def shut_down(self) -> None:
        """Wake the thread that reads or writes here; it then closes. May be called from another thread."""
        with contextlib.suppress(OSError):
            # Not SSLSocket.shutdown: that would pull the TLS state from under the thread that uses it.
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def _drain(self) -> None:
        # A reset discards what the kernel has not delivered yet, and a fault at byte n must be at byte n.
        if not sys.platform.startswith("linux"):
            return
        import fcntl  # noqa: PLC0415  # exists on Unix only
        import termios  # noqa: PLC0415

        deadline, waiting = time.monotonic() + _DRAIN_S, bytearray(4)
        with contextlib.suppress(OSError):
            while time.monotonic() < deadline:
                fcntl.ioctl(self.sock.fileno(), termios.TIOCOUTQ, waiting)
                if struct.unpack("i", waiting)[0] == 0:
                    return
                time.sleep(0.001)


class ConnectionServer:
    """Accepts on a free port of 127.0.0.1 and gives every connection a thread.

    Args:
        handle: Serves one connection; the connection is closed when it returns.
        tls: A server-side context, when connections are to be encrypted.
    """

    def __init__(self, handle: Callable[[Connection], None], *, tls: ssl.SSLContext | None = None) -> None:
        self._handle = handle
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._wake_receive, self._wake_send = socket.socketpair()
        self._lock = threading.Lock()
        self._live: dict[int, tuple[Connection, threading.Thread]] = {}
        self.closing = threading.Event()
        self.port: int = self._listener.getsockname()[1]
        self.accepted = 0
        self.failed_handshakes = 0
        self._acceptor = threading.Thread(target=self._accept, name=f"accept-{self.port}", daemon=True)
        self._acceptor.start()

    def close(self) -> None:
        """Stop accepting, break what is open, wait for every thread. Idempotent.

        Raises:
            RuntimeError: A connection thread did not end; the server has a bug.
        """
        if self.closing.is_set():
            return
        self.closing.set()
        self._wake_send.send(b"x")
        self._acceptor.join(_JOIN_S)
        for each in (self._listener, self._wake_send, self._wake_receive):
            each.close()
        self.drop_connections()
        for _, thread in self._snapshot():
            thread.join(_JOIN_S)
        if self._snapshot():
            raise RuntimeError(f"{len(self._snapshot())} connection threads did not end.")

    def drop_connections(self) -> None:
        """Break every open connection; new ones are still accepted."""
        for connection, _ in self._snapshot():
            connection.shut_down()

    @property
    def open_connections(self) -> int:
        """Connections that have not ended yet."""
        return len(self._snapshot())

    def _snapshot(self) -> list[tuple[Connection, threading.Thread]]:
        with self._lock:
            return list(self._live.values())

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._wake_receive, selectors.EVENT_READ)
            while not self.closing.is_set():
                selector.select()
                if self.closing.is_set():
                    return
                try:
                    sock, address = self._listener.accept()
                except OSError:  # the client left between select and accept
                    continue
                self._begin(sock, address[1])

    def _begin(self, sock: socket.socket, client_port: int) -> None:
        with contextlib.suppress(OSError):  # macOS refuses it when the client has left already
            # Without it the body waits for the acknowledgement of the head: 40 ms for every answer.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.accepted += 1
        if self._tls is not None:
            try:
                sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            except OSError:  # the client has left, or sent plain HTTP before the handshake
                with self._lock:
                    self.failed_handshakes += 1
                sock.close()
                return
        connection = Connection(sock, self.accepted, client_port)
        thread = threading.Thread(
            target=self._run,
            args=(connection,),
            name=f"connection-{self.port}-{connection.number}",
            daemon=True,
        )
        with self._lock:
            self._live[connection.number] = (connection, thread)
        thread.start()

    def _run(self, connection: Connection) -> None:
        try:
            if isinstance(connection.sock, ssl.SSLSocket):
                try:
                    connection.sock.do_handshake()
                except (OSError, ValueError):
                    with self._lock:
                        self.failed_handshakes += 1
                    return
            self._handle(connection)
        finally:
            connection.close()
            with self._lock:
                del self._live[connection.number]
