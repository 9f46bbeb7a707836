"""`HttpSource` keeps the contract of every source on both planes, and connects as it was told."""

from __future__ import annotations

import asyncio
import gc
import gzip
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx2
import pytest

from xprim_nb.errors import ConfigError, MissingExtraError, RegistryError
from xprim_nb.registry.sources import Source, SourceError
from xprim_nb.registry.sources.http import HttpOptions, HttpSource
from xprim_nb.testing.faults import Gzip, Headers, Replace, Status
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import MadeRegistry, make_registry, random_bytes
from xprim_nb.testing.sinks import MemorySink
from xprim_nb.testing.source_contract import PASSWORD, SourceContract, SourceFor

_REF = "group/model v1"
_CHUNK_BYTES = 100_000

OpenHttp = Callable[..., HttpSource]
Until = Callable[[Callable[[], bool]], Awaitable[None]]
Serve = Callable[..., FaultyRegistry]


class TestHttpSource(SourceContract):
    """The contract, kept over HTTP: by the lean path, and by an injected client that carries the chunks too."""

    @pytest.fixture
    def source_for(self, serve: Serve, open_http: OpenHttp) -> SourceFor:
        """Each directory gets a server of its own, and the URL a password."""

        def build(root: Path) -> Source:
            return open_http(serve(root).url.replace("//", f"//reader:{PASSWORD}@"))

        return build


@pytest.fixture
def made(tmp_path: Path) -> MadeRegistry:
    """A registry with one model of four chunks."""
    return make_registry(tmp_path, {_REF: {"a": random_bytes(1, 350_000)}}, chunk_size=_CHUNK_BYTES)


def sink_for(made: MadeRegistry, number: int = 0, received: int = 0) -> MemorySink:
    """A sink for one chunk of the model."""
    data = made.object_path(made.chunks(_REF)[number]).read_bytes()
    return MemorySink.for_bytes(data, received=received)


async def test_everything_goes_through_the_injected_client(
    made: MadeRegistry, serve: Serve, open_http: OpenHttp, plane: str
) -> None:
    """An injected client carries index, manifest and chunks; without one nothing of it is seen."""
    server = serve(made.root)
    source = open_http(server.url)
    await source.index()
    await source.document(made.manifest_hash(_REF))
    for digest in made.chunks(_REF):
        await source.chunk(digest, sink_for(made, made.chunks(_REF).index(digest)))
    assert server.count("chunk") == 4
    marked = [request.headers.get("x-injected") for request in server.requests]
    assert marked == (["by a test"] * 6 if plane == "client" else [None] * 6)
    if plane == "client":
        assert server.connections == 1


async def test_an_injected_client_stays_its_owners(made: MadeRegistry, serve: Serve) -> None:
    """Closing the source leaves an injected client open, and it works without its lean path's threads."""
    async with httpx2.AsyncClient() as client:
        source = HttpSource(serve(made.root).url, HttpOptions(), client)
        await source.chunk(made.chunks(_REF)[0], sink_for(made))
        assert not [each for each in threading.enumerate() if each.name == "xprim-fetch"]
        await source.aclose()
        assert not client.is_closed


async def test_many_chunks_share_one_connection(
    made: MadeRegistry, serve: Serve, open_http: OpenHttp
) -> None:
    """Chunks one after the other go over one kept connection, resumed ones and odd ends included."""
    server = serve(made.root)
    source = open_http(server.url)
    for _ in range(3):
        for number, digest in enumerate(made.chunks(_REF)):
            sink = sink_for(made, number, received=number * 10)
            await source.chunk(digest, sink)
            assert sink.complete
    assert server.count("chunk") == 12
    assert server.connections == 1


async def test_connections_are_as_many_as_chunks_at_once(
    made: MadeRegistry, serve: Serve, open_http: OpenHttp
) -> None:
    """Three chunks at once open three connections, and nine after each other not one more."""
    server = serve(made.root)
    source = open_http(server.url)
    digests = made.chunks(_REF)[:3]
    with server.hold("chunk") as hold:
        first = [
            asyncio.ensure_future(source.chunk(each, sink_for(made, n))) for n, each in enumerate(digests)
        ]
        await asyncio.to_thread(hold.wait_reached, 3)
    await asyncio.gather(*first)
    for _ in range(3):
        await asyncio.gather(*(source.chunk(each, sink_for(made, n)) for n, each in enumerate(digests)))
    assert server.connections == 3


async def test_a_stale_connection_costs_no_try(
    made: MadeRegistry, serve: Serve, open_http: OpenHttp, until: Until
) -> None:
    """A kept connection that the server closed meanwhile is replaced without anybody noticing."""
    server = serve(made.root)
    source = open_http(server.url)
    for _ in range(3):
        await source.chunk(made.chunks(_REF)[0], sink_for(made))
        await source.index()
        server.drop_connections()
        await until(lambda: server.open_connections == 0)
    assert [request.status for request in server.requests] == [200] * 6


async def test_the_url_is_one_base_for_all(made: MadeRegistry, serve: Serve, open_http: OpenHttp) -> None:
    """A base URL may have a path with odd characters, a slash at the end and a fragment, for both planes alike."""
    server = serve(made.root, prefix="/my models/é")
    source = open_http(f"{server.origin}/my models/é/#top")
    assert (await source.index()).raw
    sink = sink_for(made)
    await source.chunk(made.chunks(_REF)[0], sink)
    assert sink.complete
    assert {request.target for request in server.requests} == {
        "/my%20models/%C3%A9/models.json",
        f"/my%20models/%C3%A9/data/{made.chunks(_REF)[0]}",
    }


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http://host:port/",
        "http://host:99999/",
        "http://[::1/",
        f"http://ann:{PASSWORD}@:80/",
        "http://h/?k=1",
    ],
)
def test_a_url_that_cannot_work_is_refused_at_once(url: str) -> None:
    """A broken base URL is a ConfigError before anything is asked, without the password in it."""
    with pytest.raises(ConfigError) as caught:
        HttpSource(url)
    assert PASSWORD not in str(caught.value)


async def test_credentials_are_sent_and_headers_win(
    made: MadeRegistry, serve: Serve, open_http: OpenHttp
) -> None:
    """Both planes send the URL's credentials as Basic auth, unless a header says how to authorize, in any case."""
    server = serve(made.root)
    url = server.url.replace("//", "//ann%40home:p%3Aw@")
    for options, expected in (
        ({}, "Basic YW5uQGhvbWU6cDp3"),
        ({"headers": {"authorization": "Bearer token"}}, "Bearer token"),
    ):
        source = open_http(url, **options)
        await source.index()
        await source.chunk(made.chunks(_REF)[0], sink_for(made))
        assert [request.headers["authorization"] for request in server.requests] == [expected] * 2
        server.forget_requests()


async def test_refused_credentials_are_final(made: MadeRegistry, serve: Serve, open_http: OpenHttp) -> None:
    """Without the right header both planes get a final 401 that says where credentials go."""
    server = serve(made.root, require_header=("authorization", "Bearer right"))
    source = open_http(server.url, headers={"Authorization": "Bearer wrong"})
    for asked in (source.index(), source.chunk(made.chunks(_REF)[0], sink_for(made))):
        with pytest.raises(SourceError, match="401") as caught:
            await asked
        assert not caught.value.retryable
        assert "headers" in caught.value.hint
        assert "wrong" not in f"{caught.value}{caught.value.hint}{caught.value.subject}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Authorization", "Bearer s3cret\n"),
        ("X-Key", " s3cret"),
        ("X-Key", "s3cret\x00"),
        ("X-Key", "s3crét"),
        ("X Key", "v"),
    ],
)
def test_a_header_that_cannot_be_sent_is_refused_without_its_value(name: str, value: str) -> None:
    """A token read from a file with its line break is refused by name; the client's own words would quote it."""
    with pytest.raises(ConfigError) as caught:
        HttpSource("http://127.0.0.1:1", HttpOptions(headers={name: value}))
    assert name in str(caught.value)
    assert "s3cr" not in str(caught.value) + caught.value.hint


async def test_an_unasked_304_is_no_index(made: MadeRegistry, serve: Serve, open_http: OpenHttp) -> None:
    """A 304 without validators is an error: there is no copy that could still be right."""
    server = serve(made.root)
    server.inject(Status(304), on="index", times=None)
    with pytest.raises(SourceError, match="304"):
        await open_http(server.url).index()


async def test_last_modified_is_used_without_an_etag(
    made: MadeRegistry, serve: Serve, open_http: OpenHttp
) -> None:
    """A server that gives no ETag is asked by date, and its 304 is understood."""
    server = serve(made.root)
    server.inject(Headers({"ETag": None}), on="index", times=None)
    source = open_http(server.url)
    first = await source.index()
    assert (first.etag, bool(first.last_modified)) == ("", True)
    second = await source.index(first.etag, first.last_modified)
    assert second.raw is None
    assert server.requests[-1].headers["if-modified-since"] == first.last_modified
    await asyncio.to_thread(server.wait_for, 2, done=True)
    assert server.requests[-1].bytes_sent == 0


async def test_a_full_sink_is_left_alone(made: MadeRegistry, serve: Serve, open_http: OpenHttp) -> None:
    """A sink that has every byte needs nothing: behind the last byte there is no range to ask for."""
    server = serve(made.root)
    sink = sink_for(made, received=_CHUNK_BYTES)
    await open_http(server.url).chunk(made.chunks(_REF)[0], sink)
    assert (sink.restarts, server.requests) == (0, [])


async def test_nothing_is_left_open(
    made: MadeRegistry, serve: Serve, open_http: OpenHttp, until: Until
) -> None:
    """After `aclose` the server has no connection left, also none that was in use while it was closed."""
    server = serve(made.root)
    source = open_http(server.url)
    await source.index()
    with server.hold("chunk", times=1) as hold:
        running = asyncio.ensure_future(source.chunk(made.chunks(_REF)[0], sink_for(made)))
        await asyncio.to_thread(hold.wait_reached)
        await source.aclose()
    await running
    client = source._injected
    if isinstance(client, httpx2.AsyncClient):
        await client.aclose()
    gc.collect()
    await until(lambda: server.open_connections == 0)
    assert server.open_connections == 0


async def test_a_name_works_like_an_address(made: MadeRegistry, serve: Serve, open_http: OpenHttp) -> None:
    """A host name is resolved, whichever of its addresses answers."""
    source = open_http(serve(made.root).url.replace("127.0.0.1", "localhost"))
    assert (await source.index()).raw
    sink = sink_for(made)
    await source.chunk(made.chunks(_REF)[0], sink)
    assert sink.complete


async def test_documents_may_come_compressed(made: MadeRegistry, serve: Serve, open_http: OpenHttp) -> None:
    """An index or manifest that a server compresses is the same document."""
    server = serve(made.root)
    server.inject(Gzip(), times=None)
    source = open_http(server.url)
    assert (await source.index()).raw == (made.root / "models.json").read_bytes()
    digest = made.manifest_hash(_REF)
    assert await source.document(digest) == made.object_path(digest).read_bytes()


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (gzip.compress(bytes(20 << 20)), RegistryError),
        (b"no gzip", SourceError),
    ],
    ids=["bomb", "garbage"],
)
async def test_compressed_documents_are_no_trap(
    made: MadeRegistry,
    serve: Serve,
    open_http: OpenHttp,
    monkeypatch: pytest.MonkeyPatch,
    body: bytes,
    error: type[Exception],
) -> None:
    """The cap counts what comes out, not what came in; and what is no gzip is a failed try."""
    monkeypatch.setattr("xprim_nb.registry.sources.http.MAX_DOCUMENT_BYTES", 1 << 20)
    server = serve(made.root)
    server.inject(Replace(body), Headers({"Content-Encoding": "gzip"}), on="index")
    with pytest.raises(error):
        await open_http(server.url).index()


def test_secrets_are_not_in_a_repr() -> None:
    """Neither source nor options show a header's value or a password."""
    options = HttpOptions(headers={"Authorization": PASSWORD}, proxy=f"http://ann:{PASSWORD}@proxy")
    source = HttpSource(f"http://ann:{PASSWORD}@host", options)
    assert PASSWORD not in repr(options) + repr(source) + str(vars(source)["url"])


def test_a_proxy_that_cannot_be_used_is_a_setting_that_cannot_work() -> None:
    """A proxy of an unknown kind is a ConfigError without its password; SOCKS without its package names the extra."""
    for proxy, kind in (
        (f"ftp://ann:{PASSWORD}@proxy:1", ConfigError),
        ("socks5://127.0.0.1:1", MissingExtraError),
    ):
        source = HttpSource("http://127.0.0.1:1", HttpOptions(proxy=proxy))
        with pytest.raises(kind) as caught:
            asyncio.run(source.index())
        assert PASSWORD not in f"{caught.value}"
