"""A registry over HTTP/1.1 that answers right, until it is told how to answer wrongly.

    with FaultyRegistry(root) as server:
        server.inject(Status(503), on="index", times=2)          # the first two
        server.inject(Corrupt(100), on="chunk", skip=4)          # the fifth
        server.inject(Truncate(5000), Drip(1e6), on=digest, times=None)   # always, both at once
        …
        assert server.count("chunk") == 7

Source: STYLE rule 12 (real servers, no sleep as synchronisation).
"""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple
from urllib.parse import unquote

from xprim_nb.testing.answers import Answer, plain_answer, question_of, right_answer
from xprim_nb.testing.connections import Connection, ConnectionServer
from xprim_nb.testing.exchanges import (
    ExchangeLog,
    Head,
    Match,
    RecordedRequest,
    check_match,
    matches,
    read_head,
)
from xprim_nb.testing.faults import ChangesAnswer, ChangesQuestion, Fault
from xprim_nb.testing.gates import Hold
from xprim_nb.testing.library import Library
from xprim_nb.testing.sending import Pace, Sender

__all__ = ["FaultyRegistry", "Rule"]


class Rule:
    """Faults and the requests they are for. Begun by `FaultyRegistry.inject`.

    Attributes:
        faults: Applied to one answer together, in order.
        hits: Requests that met them so far.
    """

    def __init__(self, faults: tuple[Fault, ...], on: Match, times: int | None, skip: int) -> None:
        self.faults, self.hits = faults, 0
        self._on, self._times, self._skip = on, times, skip

    @property
    def used_up(self) -> bool:
        """True when no further request will meet the faults."""
        return self._times is not None and self.hits >= self._times

    def takes(self, request: RecordedRequest) -> bool:
        """True when this request meets the faults. Called once for each request, under the server's lock."""
        if self.used_up or not matches(self._on, request):
            return False
        if self._skip:
            self._skip -= 1
            return False
        self.hits += 1
        return True


class _Settings(NamedTuple):
    library: Library
    prefix: str
    required: tuple[str, str] | None
    pace: Pace | None


class FaultyRegistry:
    """Serves a registry on 127.0.0.1 from construction until `close`. Thread-safe.

    Keep-alive, HEAD, Range (206, 416), validators (ETag, Last-Modified, 304) and If-Range are served as
    RFC 9110 says. A request meets the first rule injected for it that is not used up, and no other.

    Args:
        content: A registry directory, or `{"models.json": …, "data/<sha256>": …}`; read for every request.
        prefix: Path of the base URL, `/models/v1`; requests outside it are answered with 404.
        require_header: Name and value without which every request is answered with 401.
        tls: Server-side context (from `trustme`, say); the URL is then `https`.
        bandwidth_bytes_s: Bytes a second for all connections together; as fast as possible when None.
    """

    def __init__(
        self,
        content: Path | Mapping[str, bytes],
        *,
        prefix: str = "",
        require_header: tuple[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        bandwidth_bytes_s: float | None = None,
    ) -> None:
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._holds: list[Hold] = []
        self._log = ExchangeLog()
        self._server = ConnectionServer(self._serve, tls=tls)
        pace = None if bandwidth_bytes_s is None else Pace(bandwidth_bytes_s, self._server.closing)
        self._settings = _Settings(Library(content), prefix.rstrip("/"), require_header, pace)
        self.port = self._server.port
        self.origin = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.port}"
        self.url = self.origin + self._settings.prefix

    # --- what a test tells it ---------------------------------------------------------------------

    def inject(self, *faults: Fault, on: Match = "any", times: int | None = 1, skip: int = 0) -> Rule:
        """From now on, spoil the answers to matching requests.

        Args:
            faults: Applied together to one answer, in order.
            on: Which requests; see `exchanges.matches`.
            times: How many of them; all when None.
            skip: How many of them pass first: `skip=k - 1` is the k-th. Requests that an earlier rule takes
                are not counted.

        Raises:
            ValueError: `on` is a word that can never match.
        """
        check_match(on)
        rule = Rule(faults, on, times, skip)
        with self._lock:
            self._rules.append(rule)
        return rule

    def hold(self, on: Match = "any", *, after_bytes: int | None = None, times: int | None = None) -> Hold:
        """From now on, keep matching requests waiting: before the answer, or after so many bytes of it."""
        check_match(on)
        hold = Hold(on, after_bytes, times)
        with self._lock:
            self._holds.append(hold)
        return hold

    def heal(self) -> None:
        """Forget every fault and release every hold."""
        with self._lock:
            holds, self._holds, self._rules = self._holds, [], []
        for hold in holds:
            hold.release()

    def forget_requests(self) -> None:
        """Begin the record anew."""
        self._log.clear()

    def drop_connections(self) -> None:
        """Break every open connection; new ones are accepted."""
        self._server.drop_connections()

    def close(self) -> None:
        """Release the holds, break the connections, stop listening. Idempotent."""
        self.heal()
        self._server.close()

    # --- what it tells a test ---------------------------------------------------------------------

    @property
    def requests(self) -> list[RecordedRequest]:
        """Every request so far, in order of arrival."""
        return self._log.those()

    def those(self, on: Match) -> list[RecordedRequest]:
        """The requests meant by `on`, in order of arrival."""
        return self._log.those(on)

    def count(self, on: Match = "any") -> int:
        """How many requests are meant by `on`."""
        return len(self._log.those(on))

    def bytes_sent(self, on: Match = "any") -> int:
        """Bytes of bodies sent to requests meant by `on`; the client may not have read the last of them."""
        return sum(request.bytes_sent for request in self._log.those(on))

    def wait_for(self, count: int, on: Match = "any", *, done: bool = False, timeout_s: float = 10.0) -> None:
        """Return when `count` matching requests have come (`done`: have been dealt with). Blocks the thread.

        Raises:
            TimeoutError: They have not after `timeout_s` seconds.
        """
        if not self._log.wait(
            lambda: sum(request.done or not done for request in self._log.those(on)) >= count, timeout_s
        ):
            raise TimeoutError(f"{self.count(on)} of {count} requests ({on}) came in {timeout_s} s.")

    @property
    def connections(self) -> int:
        """Connections accepted so far."""
        return self._server.accepted

    @property
    def open_connections(self) -> int:
        """Connections that have not ended yet."""
        return self._server.open_connections

    @property
    def failed_handshakes(self) -> int:
        """Connections that ended in the TLS handshake: the client did not trust us, or spoke plain HTTP."""
        return self._server.failed_handshakes

    @property
    def peak_in_flight(self) -> int:
        """The most requests that were under way at once."""
        return self._log.peak_in_flight

    def __enter__(self) -> FaultyRegistry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- in the connections' threads --------------------------------------------------------------

    def _serve(self, connection: Connection) -> None:
        with contextlib.suppress(OSError):  # the client has left: what it got is in the record
            while (head := read_head(connection.reader)) is not None:
                if not self._serve_one(connection, head):
                    return

    def _serve_one(self, connection: Connection, head: Head) -> bool:
        path = self._path(head.target)
        kind = self._settings.library.kind(path)
        request = self._log.open(head, path, kind, (connection.number, connection.client_port))
        try:
            faults, holds = self._lots(request)
            answer = self._answer(request, head, faults)
            paces = [] if self._settings.pace is None else [self._settings.pace]
            if answer.bytes_s is not None:
                paces.append(Pace(answer.bytes_s, self._server.closing))
            try:
                return Sender(connection, request, answer, holds, paces, self._server.closing).send()
            finally:
                answer.close()
        finally:
            self._log.end(request)

    def _path(self, target: str) -> str:
        path = unquote(target.partition("?")[0])
        prefix = self._settings.prefix
        return path[len(prefix) :] if path.startswith(f"{prefix}/") else f"/outside{path}"

    def _lots(self, request: RecordedRequest) -> tuple[tuple[Fault, ...], list[Hold]]:
        required = self._settings.required
        if required is not None and request.headers.get(required[0].lower()) != required[1]:
            return (), []
        with self._lock:
            rule = next((rule for rule in self._rules if rule.takes(request)), None)
            holds = [hold for hold in self._holds if hold.takes(request)]
        request.faults = () if rule is None else rule.faults
        return request.faults, holds

    def _answer(self, request: RecordedRequest, head: Head, faults: tuple[Fault, ...]) -> Answer:
        required = self._settings.required
        if required is not None and head.headers.get(required[0].lower()) != required[1]:
            return plain_answer(request.path, 401, {"WWW-Authenticate": 'Bearer realm="registry"'})
        if head.method not in ("GET", "HEAD"):
            return plain_answer(request.path, 405, {"Allow": "GET, HEAD"})
        question = question_of(request.path, head.headers)
        first, last = question.range or (None, None)
        request.asked_range = None if first is None else (first, last)
        for fault in faults:
            if isinstance(fault, ChangesQuestion):
                fault.change_question(question)
        answer = right_answer(question, self._settings.library)
        try:
            for fault in faults:
                if isinstance(fault, ChangesAnswer):
                    fault.change_answer(answer)
        except BaseException:
            answer.close()
            raise
        return answer
