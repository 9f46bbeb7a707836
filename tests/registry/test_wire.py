"""The lean path on its own: blocking, in the caller's thread, and stopped from another."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from xprim_nb._threads import Lanes
from xprim_nb.errors import StorageError
from xprim_nb.registry.sources import SourceError
from xprim_nb.registry.sources.http import HttpSource
from xprim_nb.registry.sources.wire import StoppedError, StopToken, Wire, WireOptions
from xprim_nb.testing.faults import Drip, Redirect, Stall, Status
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import MadeRegistry, make_registry, random_bytes
from xprim_nb.testing.sinks import MemorySink

_REF = "group/model v1"
_SIZE = 500_000


@pytest.fixture
def made(tmp_path: Path) -> MadeRegistry:
    """A registry with one model of one chunk."""
    return make_registry(tmp_path, {_REF: {"a": random_bytes(1, _SIZE)}}, chunk_size=_SIZE)


@pytest.fixture
def server(made: MadeRegistry, serve: Callable[..., FaultyRegistry]) -> FaultyRegistry:
    """The registry, served."""
    return serve(made.root)


@pytest.fixture
def digest(made: MadeRegistry) -> str:
    """The chunk's name."""
    return made.chunks(_REF)[0]


@pytest.fixture
def url(server: FaultyRegistry, digest: str) -> str:
    """Where the chunk lies."""
    return f"{server.url}/data/{digest}"


def options(*, proxy: str = "", stall_timeout_s: float = 5.0) -> WireOptions:
    """No headers, no trusted certificates."""
    return WireOptions(
        headers_for=lambda _: {},
        proxy_for=lambda _: proxy,
        ssl_context=ssl.create_default_context,
        connect_timeout_s=5.0,
        stall_timeout_s=stall_timeout_s,
    )


@pytest.fixture
def wire() -> Iterator[Wire]:
    """A wire that is closed in the end; it is more patient than any of these tests."""
    wire = Wire(options(stall_timeout_s=25.0))
    yield wire
    wire.close()


def test_it_fetches_in_the_callers_thread(wire: Wire, url: str, digest: str) -> None:
    """Every write comes from the thread that called, which returns with the chunk."""
    threads: set[int] = set()
    sink = MemorySink(digest, _SIZE, on_write=lambda _: threads.add(threading.get_ident()))
    wire.fetch(url, sink, StopToken())
    assert sink.complete
    assert threads == {threading.get_ident()}


def test_blocks_are_large_on_a_fast_line_and_prompt_on_a_slow_one(
    wire: Wire, server: FaultyRegistry, url: str, digest: str
) -> None:
    """A fast line is written in large blocks; a slow one shows where it is several times a second."""
    fast = MemorySink(digest, _SIZE)
    wire.fetch(url, fast, StopToken())
    assert fast.writes <= _SIZE // (64 << 10) + 2
    server.inject(Drip(_SIZE / 1.0), on="chunk")
    slow = MemorySink(digest, _SIZE)
    wire.fetch(url, slow, StopToken())
    assert slow.writes >= 5


def test_a_stopped_fetch_ends_at_once(wire: Wire, server: FaultyRegistry, url: str, digest: str) -> None:
    """`stop` from another thread wakes a read that waits, and the connection is not kept."""
    server.inject(Stall(300_000), on="chunk")
    stop, outcome = StopToken(), list[BaseException]()
    arrived = threading.Event()

    def note(received: int) -> None:
        if received > 300_000 - (64 << 10):  # what the server sent is read, and the next read waits
            arrived.set()

    sink = MemorySink(digest, _SIZE, on_write=note)

    def fetch() -> None:
        try:
            wire.fetch(url, sink, stop)
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=fetch)
    thread.start()
    assert arrived.wait(10)
    stop.stop()
    sink.close()
    thread.join(10.0)
    assert not thread.is_alive()
    assert isinstance(outcome[0], (StoppedError, SourceError))
    assert not sink.late.is_set()
    wire.fetch(url, MemorySink(digest, _SIZE), StopToken())
    assert server.connections == 2


def test_a_fetch_stopped_before_it_began_asks_nobody(
    wire: Wire, server: FaultyRegistry, url: str, digest: str
) -> None:
    """A token that was used up opens no connection."""
    stop = StopToken()
    stop.stop()
    with pytest.raises(StoppedError):
        wire.fetch(url, MemorySink(digest, _SIZE), stop)
    wire.fetch(url, MemorySink(digest, _SIZE), StopToken())
    assert server.connections == 1


def test_stopping_too_late_breaks_nothing(wire: Wire, server: FaultyRegistry, url: str, digest: str) -> None:
    """A token that outlives its fetch does not touch the connection that the next one uses."""
    stop = StopToken()
    wire.fetch(url, MemorySink(digest, _SIZE), stop)
    stop.stop()
    sink = MemorySink(digest, _SIZE)
    wire.fetch(url, sink, StopToken())
    assert sink.complete
    assert server.connections == 1


def test_nothing_reaches_a_sink_after_stop() -> None:
    """After `stop` has returned, neither a write nor a restart comes through."""
    stop, sink = StopToken(), MemorySink.for_bytes(b"abcdef", received=3)
    stop.deliver(sink, memoryview(b"d"))
    assert bytes(sink.data) == b"abcd"
    stop.restart(sink)
    stop.restart(sink)  # nothing was taken since: there is nothing to forget
    assert sink.restarts == 1
    stop.stop()
    sink.close()
    with pytest.raises(StoppedError):
        stop.deliver(sink, memoryview(b"a"))
    with pytest.raises(StoppedError):
        stop.restart(sink)
    with pytest.raises(StoppedError):
        stop.watch(None)
    assert not sink.late.is_set()


def test_a_sink_that_fails_is_heard_and_costs_the_connection(
    wire: Wire, server: FaultyRegistry, url: str, digest: str
) -> None:
    """A full disk is told as it is, although a StorageError is an OSError too; a half-read connection is not kept."""

    def refuse(_: int) -> None:
        raise StorageError("the disk is full.", subject="sink")

    with pytest.raises(StorageError, match="full"):
        wire.fetch(url, MemorySink(digest, _SIZE, on_write=refuse), StopToken())
    sink = MemorySink(digest, _SIZE)
    wire.fetch(url, sink, StopToken())
    assert sink.complete
    assert server.connections == 2


def test_a_known_connection_that_goes_silent_is_closed(server: FaultyRegistry, url: str, digest: str) -> None:
    """A reused connection that stalls is a failed try, and closed; an error status costs the connection as well."""
    wire = Wire(options(stall_timeout_s=0.5))
    wire.fetch(url, MemorySink(digest, _SIZE), StopToken())
    server.inject(Stall(None), on="chunk")
    with pytest.raises(SourceError):
        wire.fetch(url, MemorySink(digest, _SIZE), StopToken())
    server.wait_for(2, "chunk", done=True)
    server.inject(Status(503), on="chunk")
    with pytest.raises(SourceError):
        wire.fetch(url, MemorySink(digest, _SIZE), StopToken())
    wire.close()
    assert server.connections == 2


def test_a_redirect_behind_a_proxy_that_is_none_of_ours_is_final(
    server: FaultyRegistry, url: str, digest: str
) -> None:
    """Where a redirect leads behind a SOCKS proxy, the lean path says that it cannot follow."""
    server.inject(Redirect("http://elsewhere.invalid/x"), on="chunk")
    wire = Wire(
        WireOptions(
            headers_for=lambda _: {},
            proxy_for=lambda asked: "socks5://127.0.0.1:1" if "elsewhere" in asked else "",
            ssl_context=ssl.create_default_context,
            connect_timeout_s=5.0,
            stall_timeout_s=5.0,
        )
    )
    with pytest.raises(SourceError, match="socks5 proxy") as caught:
        wire.fetch(url, MemorySink(digest, _SIZE), StopToken())
    wire.close()
    assert not caught.value.retryable
    assert "AsyncClient" in caught.value.hint


def test_after_closing_no_connection_is_kept(server: FaultyRegistry, url: str, digest: str) -> None:
    """A closed wire still finishes what is asked of it, on connections that end with it."""
    wire = Wire(options())
    wire.close()
    for _ in range(2):
        sink = MemorySink(digest, _SIZE)
        wire.fetch(url, sink, StopToken())
        assert sink.complete
    assert server.connections == 2


async def test_who_stands_in_line_when_cancelled_is_never_begun(
    server: FaultyRegistry, made: MadeRegistry, digest: str
) -> None:
    """A fetch that waits for its turn and is cancelled asks nothing; the one before and the one after it do."""
    source, lanes = HttpSource(server.url), Lanes(1)
    with server.hold("chunk") as hold:
        first = asyncio.ensure_future(source.chunk(digest, MemorySink(digest, _SIZE), lanes))
        await asyncio.to_thread(hold.wait_reached)
        second = asyncio.ensure_future(source.chunk(digest, MemorySink(digest, _SIZE), lanes))
        third = asyncio.ensure_future(source.chunk(digest, MemorySink(digest, _SIZE), lanes))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
    await asyncio.gather(first, third)
    assert server.count("chunk") == 2
    lanes.close()
    await source.aclose()
