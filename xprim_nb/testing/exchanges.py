"""What a server was asked, and what it sent: one record for each request."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BufferedReader
from typing import Literal, TypeAlias

__all__ = ["ExchangeLog", "Head", "Kind", "Match", "RecordedRequest", "check_match", "matches", "read_head"]

Kind: TypeAlias = Literal["index", "manifest", "chunk", "other"]

# Far above what any client sends; a head beyond it is an accident in a test.
_MAX_HEAD_BYTES = 256 << 10
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class Head:
    """A request as it came in.

    Attributes:
        method: `GET`.
        target: As it was sent: a path with its query, an absolute URI (to a proxy), or `host:port` (CONNECT).
        version: `HTTP/1.1`.
        headers: Names in lower case; of a repeated header the last.
    """

    method: str
    target: str
    version: str
    headers: Mapping[str, str]


def read_head(reader: BufferedReader) -> Head | None:
    """The next request's head, its body read and dropped; None when the client has closed or sends no HTTP.

    Args:
        reader: Of the connection, at the beginning of a request.
    """
    lines: list[bytes] = []
    size = 0
    while True:
        line = reader.readline(_MAX_HEAD_BYTES)
        size += len(line)
        if not line.endswith(b"\n") or size > _MAX_HEAD_BYTES:
            return None
        if line in (b"\r\n", b"\n"):
            if lines:
                break
            continue  # RFC 9112 §2.2: empty lines before a request are ignored
        lines.append(line)
    words = lines[0].decode("latin-1").split()
    if len(words) != 3 or not words[2].startswith("HTTP/"):
        return None
    headers = {}
    for line in lines[1:]:
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    length = headers.get("content-length", "0")
    if length.isdigit():
        reader.read(int(length))
    return Head(words[0], words[1], words[2], headers)


@dataclass(slots=True)
class RecordedRequest:
    """One request and how it was answered. The last four fields change until `done`.

    Attributes:
        number: 1 for the server's first request.
        connection: 1 for the server's first connection; equal numbers shared one.
        client_port: The client's port of that connection.
        method: `GET` or `HEAD`, mostly.
        target: The path and query as sent.
        path: The path below the registry's base, `/data/…`.
        kind: What lies there.
        headers: Names in lower case.
        asked_range: First and last byte asked for, last None when open; None without a Range header.
        time_s: When it came, `time.monotonic()`.
        faults: The faults it met.
        status: Of the answer; 0 while there is none.
        bytes_sent: Bytes of the body that the kernel took, without framing.
        done: True when the server has nothing more to do with it.
    """

    number: int
    connection: int
    client_port: int
    method: str
    target: str
    path: str
    kind: Kind
    headers: Mapping[str, str]
    asked_range: tuple[int, int | None] | None = None
    time_s: float = field(default_factory=time.monotonic)
    faults: tuple[object, ...] = ()
    status: int = 0
    bytes_sent: int = 0
    done: bool = False


Match: TypeAlias = str | Callable[[RecordedRequest], bool]


def matches(on: Match, request: RecordedRequest) -> bool:
    """True when a request is meant by `on`.

    Args:
        on: `"any"`; a kind (`"index"`, `"manifest"`, `"chunk"`, `"object"` for the last two, `"other"`);
            a path below the base (`"/models.json"`); a digest; or a predicate.
        request: The request.

    Raises:
        ValueError: `on` is a word that can never match: a typo would make a fault that never happens.
    """
    if not isinstance(on, str):
        return on(request)
    if on == "any":
        return True
    if on in ("index", "manifest", "chunk", "other"):
        return request.kind == on
    if on == "object":
        return request.kind in ("manifest", "chunk")
    if on.startswith("/"):
        return request.path == on
    if _DIGEST.match(on):
        return request.path == f"/data/{on}"
    raise ValueError(f"{on!r} is neither a kind, nor a path that begins with '/', nor a digest.")


def check_match(on: Match) -> None:
    """Refuse what can never match, also while there is no request to try it on.

    Raises:
        ValueError: See `matches`.
    """
    if isinstance(on, str):
        matches(on, RecordedRequest(0, 0, 0, "GET", "/", "/", "other", {}))


class ExchangeLog:
    """Every request of one server, in order of arrival. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._requests: list[RecordedRequest] = []
        self._in_flight = 0
        self.peak_in_flight = 0

    def open(self, head: Head, path: str, kind: Kind, connection: tuple[int, int]) -> RecordedRequest:
        """Begin the record of a request that has come; `connection` is its number and the client's port."""
        with self._changed:
            request = RecordedRequest(
                number=len(self._requests) + 1,
                connection=connection[0],
                client_port=connection[1],
                method=head.method,
                target=head.target,
                path=path,
                kind=kind,
                headers=head.headers,
            )
            self._requests.append(request)
            self._in_flight += 1
            self.peak_in_flight = max(self.peak_in_flight, self._in_flight)
            self._changed.notify_all()
        return request

    def end(self, request: RecordedRequest) -> None:
        """The server is done with a request."""
        with self._changed:
            request.done = True
            self._in_flight -= 1
            self._changed.notify_all()

    def those(self, on: Match = "any") -> list[RecordedRequest]:
        """The requests meant by `on`, in order of arrival."""
        check_match(on)
        with self._changed:
            requests = list(self._requests)
        return [request for request in requests if matches(on, request)]

    def wait(self, enough: Callable[[], bool], timeout_s: float) -> bool:
        """Return True when `enough()` is, False when it is not after `timeout_s` seconds."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not enough():
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    return enough()
        return True

    def clear(self) -> None:
        """Forget every request; those under way are still answered."""
        with self._changed:
            self._requests.clear()
            self.peak_in_flight = self._in_flight
