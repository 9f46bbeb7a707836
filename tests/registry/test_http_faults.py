"""Each way a server can answer wrongly, and what `HttpSource` makes of it: one try, honestly ended, on both planes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from xprim_nb.errors import HashMismatchError, RegistryError
from xprim_nb.registry.sources import SourceError, SourceStalledError
from xprim_nb.registry.sources.http import HttpSource
from xprim_nb.testing.faults import (
    ChunkedEncoding,
    Corrupt,
    Drip,
    Drop,
    Fault,
    Garbage,
    Gzip,
    IgnoreRange,
    Longer,
    NoLength,
    ShiftedRange,
    Stall,
    Status,
    Truncate,
    WrongLength,
    rate_limited,
)
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import MadeRegistry, make_registry, random_bytes
from xprim_nb.testing.sinks import MemorySink

_REF = "group/model v1"
# Several blocks of either plane, and no multiple of one.
_SIZE = 700_001

OpenHttp = Callable[..., HttpSource]
Until = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture
def made(tmp_path: Path) -> MadeRegistry:
    """A registry with one model of one chunk."""
    return make_registry(tmp_path, {_REF: {"a": random_bytes(1, _SIZE)}}, chunk_size=_SIZE)


@pytest.fixture
def digest(made: MadeRegistry) -> str:
    """The chunk's name."""
    return made.chunks(_REF)[0]


@pytest.fixture
def server(made: MadeRegistry, serve: Callable[..., FaultyRegistry]) -> FaultyRegistry:
    """The registry, served."""
    return serve(made.root)


@pytest.fixture
def sink(made: MadeRegistry, digest: str) -> MemorySink:
    """An empty sink for the chunk."""
    return MemorySink(digest, _SIZE)


@pytest.mark.parametrize(
    ("fault", "retryable"),
    [(Status(code), True) for code in (408, 429, 500, 503)]
    + [(Status(code), False) for code in (204, 304, 401, 404, 416)]
    + [(Drop(), True), (Drop(reset=False), True), (Garbage(), True), (Garbage(b""), True), (Gzip(), False)],
    ids=str,
)
async def test_a_failed_try_says_whether_another_helps(
    server: FaultyRegistry, open_http: OpenHttp, sink: MemorySink, digest: str, fault: Fault, retryable: bool
) -> None:
    """A fault before the first byte is one request, one SourceError, and a true word on trying again."""
    server.inject(fault, on="chunk", times=None)
    with pytest.raises(SourceError) as caught:
        await open_http(server.url).chunk(digest, sink)
    assert caught.value.retryable is retryable
    assert (server.count("chunk"), sink.received) == (1, 0)
    assert digest in caught.value.subject


@pytest.mark.parametrize("what", ["index", "manifest", "chunk"])
@pytest.mark.parametrize(
    ("seconds", "at_s", "least", "most"), [(7, None, 7, 7), (None, 30, 15, 30), (9999, None, 60, 60)]
)
async def test_a_server_that_asks_to_wait_is_heard(
    server: FaultyRegistry,
    open_http: OpenHttp,
    made: MadeRegistry,
    sink: MemorySink,
    what: str,
    seconds: int | None,
    at_s: int | None,
    least: float,
    most: float,
) -> None:
    """Retry-After comes out of every kind of request, as seconds or as a date."""
    at = None if at_s is None else datetime.now(UTC) + timedelta(seconds=at_s)
    server.inject(rate_limited(seconds, at=at), on=what)
    source = open_http(server.url)
    asked: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
        "index": source.index,
        "manifest": lambda: source.document(made.manifest_hash(_REF)),
        "chunk": lambda: source.chunk(sink.digest, sink),
    }
    with pytest.raises(SourceError, match="429") as caught:
        await asked[what]()
    assert caught.value.retry_after_s is not None
    assert least <= caught.value.retry_after_s <= most


@pytest.mark.parametrize("after", [0, 5_000, 300_000])
@pytest.mark.parametrize(
    "fault",
    [Drop, Truncate, lambda after: Drop(after, reset=False), lambda after: Truncate(after, declared=False)],
    ids=["reset", "truncated", "closed", "undeclared"],
)
async def test_a_broken_body_goes_on_where_it_broke(
    server: FaultyRegistry,
    open_http: OpenHttp,
    sink: MemorySink,
    digest: str,
    fault: Callable[[int], Fault],
    after: int,
) -> None:
    """A body that breaks off at byte n leaves n bytes in the sink, and the next try asks for the rest alone."""
    server.inject(fault(after), on="chunk")
    source = open_http(server.url)
    with pytest.raises(SourceError) as caught:
        await source.chunk(digest, sink)
    assert caught.value.retryable
    assert sink.received == after
    await source.chunk(digest, sink)
    assert sink.complete
    assert sink.restarts == 0
    assert server.requests[1].headers.get("range") == (f"bytes={after}-" if after else None)
    await asyncio.to_thread(server.wait_for, 2, "chunk", done=True)
    assert server.bytes_sent("chunk") == _SIZE


@pytest.mark.parametrize("fault", [Drop(400_000), Truncate(400_000)], ids=str)
async def test_a_broken_chunked_body_keeps_what_came(
    server: FaultyRegistry, open_http: OpenHttp, sink: MemorySink, digest: str, fault: Fault
) -> None:
    """In a body of HTTP chunks nothing is lost either when it breaks off."""
    server.inject(ChunkedEncoding(), Drip(1e9), fault, on="chunk")
    source = open_http(server.url)
    with pytest.raises(SourceError):
        await source.chunk(digest, sink)
    assert sink.received == 400_000
    await source.chunk(digest, sink)
    assert sink.complete


@pytest.mark.parametrize("after", [None, 0, 5_000, 300_000])
async def test_silence_is_broken_by_the_watchdog(
    server: FaultyRegistry, open_http: OpenHttp, sink: MemorySink, digest: str, after: int | None
) -> None:
    """A server that keeps the connection and sends nothing is given up on, and what it sent before is kept."""
    server.inject(Stall(after), on="chunk")
    source = open_http(server.url, stall_timeout_s=0.5, connect_timeout_s=0.5)
    with pytest.raises(SourceStalledError) as caught:
        await source.chunk(digest, sink)
    assert caught.value.retryable
    assert sink.received == (after or 0)
    server.wait_for(1, "chunk", done=True)  # it saw us leave
    await open_http(server.url).chunk(digest, sink)
    assert sink.complete


@pytest.mark.parametrize("after", [None, 10])
@pytest.mark.parametrize("what", ["index", "manifest"])
async def test_silence_is_broken_for_documents_too(
    server: FaultyRegistry, open_http: OpenHttp, made: MadeRegistry, what: str, after: int | None
) -> None:
    """The watchdog watches index and manifest as well, heads included, whoever's client it is."""
    server.inject(Stall(after), on=what)
    source = open_http(server.url, stall_timeout_s=0.2, connect_timeout_s=0.2)
    with pytest.raises(SourceStalledError):
        await (source.index() if what == "index" else source.document(made.manifest_hash(_REF)))
    server.wait_for(1, what, done=True)


async def test_slowness_is_no_silence(
    server: FaultyRegistry, open_http: OpenHttp, made: MadeRegistry, digest: str
) -> None:
    """A body that takes twice the watchdog's patience, but never pauses, arrives; and is seen to arrive."""
    server.inject(Drip(_SIZE / 2.0), on="chunk")
    seen: list[int] = []
    sink = MemorySink(digest, _SIZE, on_write=seen.append)
    await open_http(server.url, stall_timeout_s=1.0).chunk(digest, sink)
    assert sink.complete
    assert server.count("chunk") == 1
    assert len(seen) >= 5


@pytest.mark.parametrize("by", [-1, 1, -_SIZE, 10**12])
async def test_a_wrong_length_is_refused_unread(
    server: FaultyRegistry, open_http: OpenHttp, sink: MemorySink, digest: str, by: int
) -> None:
    """A Content-Length that is not the chunk's is a HashMismatchError before a byte is taken."""
    server.inject(WrongLength(by), on="chunk")
    with pytest.raises(HashMismatchError):
        await open_http(server.url).chunk(digest, sink)
    assert sink.received == 0


@pytest.mark.parametrize("framing", [NoLength(), ChunkedEncoding()], ids=str)
async def test_a_body_without_a_length_is_read_to_the_chunks(
    server: FaultyRegistry, open_http: OpenHttp, sink: MemorySink, digest: str, framing: Fault
) -> None:
    """Bodies that end with the connection or come in HTTP chunks are right, from the start and resumed."""
    server.inject(framing, Drip(1e9), on="chunk", times=None)
    source = open_http(server.url)
    await source.chunk(digest, sink)
    assert sink.complete
    half = MemorySink.for_bytes(bytes(sink.data), received=_SIZE // 2)
    await source.chunk(digest, half)
    assert half.complete
    assert server.requests[1].status == 206
    assert server.connections == (2 if isinstance(framing, NoLength) else 1)


@pytest.mark.parametrize("framing", [(), (ChunkedEncoding(),)], ids=["close", "chunked"])
async def test_an_endless_chunk_is_cut_off(
    server: FaultyRegistry, open_http: OpenHttp, sink: MemorySink, digest: str, framing: tuple[Fault, ...]
) -> None:
    """Not one byte too many is taken of a body without end, and the server does not get rid of much more."""
    server.inject(*framing, Longer(), on="chunk")
    await open_http(server.url).chunk(digest, sink)
    assert sink.complete
    await asyncio.to_thread(server.wait_for, 1, "chunk", done=True)
    assert server.bytes_sent("chunk") < _SIZE + (32 << 20)  # what the two kernels hold between them


@pytest.mark.parametrize("what", ["index", "manifest"])
async def test_an_endless_document_is_cut_off(
    server: FaultyRegistry,
    open_http: OpenHttp,
    made: MadeRegistry,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    """Index and manifest are read up to their cap and no further; smaller here, the contract tests the real one."""
    monkeypatch.setattr("xprim_nb.registry.sources.http.MAX_DOCUMENT_BYTES", 1 << 20)
    server.inject(Longer(), on=what)
    source = open_http(server.url)
    with pytest.raises(RegistryError, match="larger"):
        await (source.index() if what == "index" else source.document(made.manifest_hash(_REF)))
    await asyncio.to_thread(server.wait_for, 1, what, done=True)
    assert server.bytes_sent(what) < 33 << 20


async def test_a_document_is_refused_by_its_length(server: FaultyRegistry, open_http: OpenHttp) -> None:
    """An index that announces more than the cap is not even begun."""
    server.inject(WrongLength(10**12), on="index")
    with pytest.raises(RegistryError, match="larger"):
        await open_http(server.url).index()


@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 200 OK\r\n" + b"X-Long: x\r\n" * 200_000, b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 2_000_000],
    ids=["lines", "line"],
)
async def test_an_endless_head_is_cut_off(
    server: FaultyRegistry, open_http: OpenHttp, sink: MemorySink, digest: str, head: bytes
) -> None:
    """A head that does not end is a failed try, in a short sentence."""
    server.inject(Garbage(head), on="chunk")
    with pytest.raises(SourceError) as caught:
        await open_http(server.url).chunk(digest, sink)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("fault", "requests"),
    [(IgnoreRange(), 1), (ShiftedRange(7), 2), (ShiftedRange(-7), 2), (Status(416), 2)],
    ids=str,
)
async def test_a_server_that_cannot_resume_sends_all(
    server: FaultyRegistry, open_http: OpenHttp, made: MadeRegistry, digest: str, fault: Fault, requests: int
) -> None:
    """A range ignored, shifted or refused means beginning anew in the same try: right bytes, no byte twice."""
    server.inject(fault, on=lambda request: "range" in request.headers, times=None)
    sink = MemorySink.for_bytes(made.object_path(digest).read_bytes(), received=300_000)
    await open_http(server.url).chunk(digest, sink)
    assert sink.complete
    assert (sink.restarts, server.count("chunk")) == (1, requests)


async def test_bytes_are_not_verified_here(
    server: FaultyRegistry, open_http: OpenHttp, made: MadeRegistry, sink: MemorySink, digest: str
) -> None:
    """A source hands on what it gets: only the digest can tell, and that is the client's task."""
    server.inject(Corrupt(77), on="chunk")
    await open_http(server.url).chunk(digest, sink)
    assert (sink.received, sink.complete) == (_SIZE, False)
    shifted = MemorySink.for_bytes(made.object_path(digest).read_bytes(), received=100)
    server.inject(ShiftedRange(5, told=False), on="chunk")
    await open_http(server.url).chunk(digest, shifted)
    assert (shifted.received, shifted.complete) == (_SIZE, False)


async def test_a_refused_connection_is_worth_another_try(
    server: FaultyRegistry, open_http: OpenHttp, sink: MemorySink, digest: str
) -> None:
    """Where nobody listens, each kind of request is a retryable SourceError that says so."""
    server.close()
    source = open_http(server.url)
    for asked in (source.index(), source.chunk(digest, sink)):
        with pytest.raises(SourceError) as caught:
            await asked
        assert caught.value.retryable
        assert not isinstance(caught.value, SourceStalledError)


async def test_a_listener_that_never_answers_is_given_up_on(
    open_http: OpenHttp, sink: MemorySink, digest: str
) -> None:
    """A port whose program hangs accepts and stays silent: both kinds of request end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        source = open_http(
            f"http://127.0.0.1:{listener.getsockname()[1]}", stall_timeout_s=0.2, connect_timeout_s=0.2
        )
        for asked in (source.index(), source.chunk(digest, sink)):
            with pytest.raises(SourceStalledError):
                await asked


@pytest.mark.parametrize(
    "faults", [(Stall(None),), (Stall(0),), (Stall(300_000),), (NoLength(), Stall(300_000))], ids=str
)
async def test_cancellation_is_quick_and_seen(
    server: FaultyRegistry, open_http: OpenHttp, until: Until, digest: str, faults: tuple[Fault, ...]
) -> None:
    """A cancelled fetch ends at once, wherever it waits; the server sees us leave, and nobody writes any more."""
    loop, arrived = asyncio.get_running_loop(), asyncio.Event()

    def note(_: int) -> None:
        loop.call_soon_threadsafe(arrived.set)

    sink = MemorySink(digest, _SIZE, on_write=note)
    server.inject(*faults, on="chunk")
    source = open_http(server.url)
    fetching = asyncio.ensure_future(source.chunk(digest, sink))
    await asyncio.to_thread(server.wait_for, 1, "chunk")
    if Stall(300_000) in faults:
        await arrived.wait()
        await until(lambda: server.bytes_sent("chunk") == 300_000)
    began = loop.time()
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    sink.close()
    await asyncio.to_thread(server.wait_for, 1, "chunk", done=True)
    assert loop.time() - began < 10.0  # long before the watchdog
    assert not sink.late.is_set()
    again = MemorySink(digest, _SIZE)
    await source.chunk(digest, again)
    assert again.complete
