"""Real HTTP servers that answer as a server's documentation says, with a made-up model behind them.

The model says words that its prompt, and the seed where there is a temperature, choose: the same each time. Troubles are
asked for by the test: a refusal, a connection that breaks, an error in mid-stream, silence.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import itertools
import json
import random
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

__all__ = ["Asked", "Chosen", "Peer", "chosen"]

_WORDS = "red blue one two fish house \u2028 río 雨 small, large. \u0085 never now and\n then".split(" ")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a server was asked."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the model says: its words, and why it ends."""

    words: list[str]
    is_cut: bool


def chosen(prompt: str, seed: int, temperature: float, most: int, stops: list[str]) -> Chosen:
    """Up to `most` words; the last one before the stop text, which is met between words and inside."""
    dice = random.Random(f"{prompt}|{seed if temperature else 'greedy'}")
    words: list[str] = []
    said = ""
    for _ in range(most):
        words.append(f"{' ' if words else ''}{dice.choice(_WORDS)}")
        said += words[-1]
        if any(stop in said for stop in stops):
            return Chosen(words, is_cut=False)
    return Chosen(words, is_cut=True)


@dataclass(slots=True)
class _Refusal:
    path: str
    status: int
    body: object
    headers: Mapping[str, str]
    left: int


@dataclass(slots=True)
class Troubles:
    """What shall go wrong. `breaks_after` and `fails_after` count pieces of an answer."""

    refusals: list[_Refusal] = field(default_factory=list)
    breaks_after: int | None = None
    fails_after: int | None = None
    is_silent: bool = False
    is_endless: bool = False
    ends_early: bool = False

    def refuse(
        self,
        path: str,
        status: int,
        body: object = "",
        headers: Mapping[str, str] | None = None,
        times: int = 1_000_000,
    ) -> None:
        """Answer so when the path ends with `path`."""
        self.refusals.append(_Refusal(path, status, body, headers or {}, times))


class BrokenOffError(Exception):
    """Makes the server drop the connection in the middle of a response."""


class Peer(abc.ABC):
    """A server on a free port, in a thread of its own, while its `with` block lasts.

    It takes a while to end: tests share one, and `clear` it.
    """

    def __init__(self) -> None:
        self.under_way = 0
        self.clear()
        # Named as TCP, or asyncio does not switch Nagle's algorithm off: 40 ms for every answer.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        routes = [
            Route(path, self._guarded(answer), methods=["GET", "POST"])
            for path, answer in {**self.routes(), "/{rest:path}": _nothing}.items()
        ]
        config = uvicorn.Config(
            Starlette(routes=routes),
            log_level="critical",
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)

    def clear(self) -> None:
        """As at the beginning: nothing asked, nothing wrong."""
        self.asked: list[Asked] = []
        self.troubles = Troubles()

    @abc.abstractmethod
    def routes(self) -> dict[str, Callable[[Asked], Response]]:
        """What answers at which path."""

    @abc.abstractmethod
    def error(self, message: str) -> bytes:
        """An error in mid-stream, as this server sends it."""

    def __enter__(self) -> Self:
        self._thread.start()
        self._until(lambda: self._server.started)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(10)
        self._socket.close()
        assert not self._thread.is_alive()

    def of(self, path: str) -> list[Asked]:
        """What was asked at a path, oldest first."""
        return [each for each in self.asked if each.path == path]

    async def until(self, condition: Callable[[Self], bool]) -> None:
        """Return once a condition holds that the server's thread brings about."""
        await asyncio.to_thread(self._until, lambda: condition(self))

    def stream(self, pieces: Iterator[bytes], kind: str, *, end: Iterator[bytes]) -> Response:
        """Pieces of an answer, then its end, with the troubles that were asked for."""

        async def body() -> AsyncIterator[bytes]:
            self.under_way += 1
            try:
                if self.troubles.is_silent:
                    await asyncio.Event().wait()
                kept = itertools.cycle(list(pieces)) if self.troubles.is_endless else pieces
                for number, piece in enumerate(kept):
                    if number == self.troubles.breaks_after:
                        raise BrokenOffError
                    if number == self.troubles.fails_after:
                        yield self.error("CUDA error: out of memory")
                        return
                    yield piece
                    await asyncio.sleep(0)
                if not self.troubles.ends_early:
                    for piece in end:
                        yield piece
            finally:
                self.under_way -= 1

        return StreamingResponse(body(), media_type=kind)

    def _guarded(self, answer: Callable[[Asked], Response]) -> Callable[[Request], Any]:
        async def handle(request: Request) -> Response:
            raw = await request.body()
            asked = Asked(
                request.method, request.url.path, dict(request.headers), json.loads(raw) if raw else {}
            )
            self.asked.append(asked)
            for refusal in self.troubles.refusals:
                if asked.path.endswith(refusal.path) and refusal.left:
                    refusal.left -= 1
                    return _refused(refusal)
            return answer(asked)

        return handle

    def _until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, "the server did not come to that"
            time.sleep(0.002)


def _nothing(_: Asked) -> Response:
    return JSONResponse({"detail": "Not Found"}, 404)


def _refused(refusal: _Refusal) -> Response:
    headers = dict(refusal.headers)
    if isinstance(refusal.body, str):
        return Response(refusal.body, refusal.status, headers)
    return JSONResponse(refusal.body, refusal.status, headers)


@contextlib.contextmanager
def nobody() -> Iterator[str]:
    """An address where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
