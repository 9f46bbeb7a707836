"""A forward proxy (plain HTTP with absolute URIs, and CONNECT) that records what went through it.

    with FaultyProxy(routes={"registry.example:80": ("127.0.0.1", server.port)}) as proxy:
        …  # http://registry.example/ exists for whoever uses the proxy, and for nobody else

Source: RFC 9110 §9.3.6 (CONNECT), RFC 9112 §3.2.2 (absolute form).
"""

from __future__ import annotations

import base64
import contextlib
import selectors
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urlsplit

from xprim_nb.testing.answers import reason_of
from xprim_nb.testing.connections import Connection, ConnectionServer
from xprim_nb.testing.exchanges import Head, read_head

__all__ = ["FaultyProxy", "ProxiedRequest"]

_BLOCK_BYTES = 256 << 10
_CONNECT_TIMEOUT_S = 5.0
# Meant for this hop only (RFC 9110 §7.6.1).
_HOP_HEADERS = {"connection", "keep-alive", "proxy-authorization", "proxy-connection", "te", "upgrade"}


@dataclass(slots=True)
class ProxiedRequest:
    """One request to the proxy. `bytes_back` grows until the exchange is over.

    Attributes:
        method: `CONNECT`, or the method to be forwarded.
        target: As sent: `host:port`, or an absolute URI.
        authority: `host:port` it was meant for.
        headers: Names in lower case, the proxy's own included.
        status: What the proxy itself answered; 200 when it let the request through.
        bytes_back: Bytes relayed to the client.
    """

    method: str
    target: str
    authority: str
    headers: Mapping[str, str]
    status: int = 200
    bytes_back: int = 0


class FaultyProxy:
    """A proxy on 127.0.0.1 from construction until `close`. Thread-safe.

    Args:
        auth: User and password that it asks for (Basic); everybody may use it when None.
        routes: Where an authority (`host:port`) really lies; others are connected to as they are named.
        refuse: Answer everything with this status (403, 502 …).
    """

    def __init__(
        self,
        *,
        auth: tuple[str, str] | None = None,
        routes: Mapping[str, tuple[str, int]] | None = None,
        refuse: int | None = None,
    ) -> None:
        self._token = None if auth is None else base64.b64encode(":".join(auth).encode()).decode()
        self._routes, self.refuse = dict(routes or {}), refuse
        self._lock = threading.Lock()
        self._requests: list[ProxiedRequest] = []
        self._server = ConnectionServer(self._serve)
        self.url = f"http://127.0.0.1:{self._server.port}"

    @property
    def requests(self) -> list[ProxiedRequest]:
        """Every request so far, refused ones too, in order of arrival."""
        with self._lock:
            return list(self._requests)

    @property
    def open_connections(self) -> int:
        """Clients' connections that have not ended yet."""
        return self._server.open_connections

    def close(self) -> None:
        """Break the connections, stop listening. Idempotent."""
        self._server.close()

    def __enter__(self) -> FaultyProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _serve(self, connection: Connection) -> None:
        with contextlib.suppress(OSError):
            while (head := read_head(connection.reader)) is not None:
                request = self._record(head)
                if request.status != 200:
                    _answer(connection, request.status)
                    continue
                try:
                    upstream = self._connect(request.authority)
                except OSError:
                    request.status = 502
                    _answer(connection, 502)
                    continue
                with upstream:
                    self._pass_on(connection, head, request, upstream)
                return

    def _record(self, head: Head) -> ProxiedRequest:
        uri = urlsplit(head.target)
        default = f"{uri.hostname}:{uri.port or 80}"
        authority = head.target if head.method == "CONNECT" else default
        request = ProxiedRequest(head.method, head.target, authority, head.headers)
        if self._token is not None and head.headers.get("proxy-authorization") != f"Basic {self._token}":
            request.status = 407
        elif self.refuse is not None:
            request.status = self.refuse
        elif head.method != "CONNECT" and uri.scheme != "http":
            request.status = 400
        with self._lock:
            self._requests.append(request)
        return request

    def _connect(self, authority: str) -> socket.socket:
        host, _, port = authority.rpartition(":")
        address = self._routes.get(authority, (host.strip("[]"), int(port)))
        upstream = socket.create_connection(address, _CONNECT_TIMEOUT_S)
        upstream.settimeout(None)
        return upstream

    def _pass_on(
        self, connection: Connection, head: Head, request: ProxiedRequest, upstream: socket.socket
    ) -> None:
        if head.method == "CONNECT":
            connection.sock.sendall(b"HTTP/1.1 200 Connection Established\r\n\r\n")
        else:
            uri = urlsplit(head.target)
            kept = {name: value for name, value in head.headers.items() if name not in _HOP_HEADERS}
            lines = [f"{head.method} {uri.path or '/'}{'?' + uri.query if uri.query else ''} HTTP/1.1"]
            lines += [f"{name}: {value}" for name, value in {**kept, "connection": "close"}.items()]
            upstream.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        _relay(connection.sock, upstream, request)


def _answer(connection: Connection, status: int) -> None:
    lines = [f"HTTP/1.1 {status} {reason_of(status)}", "Content-Length: 0"]
    if status == 407:
        lines.append('Proxy-Authenticate: Basic realm="proxy"')
    connection.sock.sendall("\r\n".join([*lines, "", ""]).encode())


def _relay(client: socket.socket, upstream: socket.socket, request: ProxiedRequest) -> None:
    # The client waits for our answer before it speaks again, so that nothing of it lies in the reader's buffer.
    with selectors.DefaultSelector() as selector:
        selector.register(client, selectors.EVENT_READ, upstream)
        selector.register(upstream, selectors.EVENT_READ, client)
        while True:
            for key, _ in selector.select():
                source = client if key.data is upstream else upstream
                block = source.recv(_BLOCK_BYTES)
                if not block:
                    return
                key.data.sendall(block)
                if source is upstream:
                    request.bytes_back += len(block)
