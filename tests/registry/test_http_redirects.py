"""Redirects: followed where they lead to the same bytes, with the registry's credentials left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from xprim_nb.registry.sources import SourceError
from xprim_nb.registry.sources.answers import MAX_REDIRECTS
from xprim_nb.registry.sources.http import HttpSource
from xprim_nb.testing.faults import Longer, Redirect, Status
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import MadeRegistry, make_registry, random_bytes
from xprim_nb.testing.sinks import MemorySink

_REF = "group/model v1"

OpenHttp = Callable[..., HttpSource]


@pytest.fixture
def made(tmp_path: Path) -> MadeRegistry:
    """A registry with one model of one chunk."""
    return make_registry(tmp_path, {_REF: {"a": random_bytes(1, 100_000)}}, chunk_size=100_000)


@pytest.fixture
def server(made: MadeRegistry, serve: Callable[..., FaultyRegistry]) -> FaultyRegistry:
    """The registry that was configured."""
    return serve(made.root)


@pytest.fixture
def elsewhere(made: MadeRegistry, serve: Callable[..., FaultyRegistry]) -> FaultyRegistry:
    """Another origin with the same content."""
    return serve(made.root)


@pytest.fixture
def sink(made: MadeRegistry) -> MemorySink:
    """An empty sink for the chunk."""
    return MemorySink(made.chunks(_REF)[0], 100_000)


async def ask_all(source: HttpSource, made: MadeRegistry, sink: MemorySink) -> None:
    """Ask for one of each kind; the answers must be right."""
    assert (await source.index()).raw == (made.root / "models.json").read_bytes()
    digest = made.manifest_hash(_REF)
    assert await source.document(digest) == made.object_path(digest).read_bytes()
    await source.chunk(sink.digest, sink)
    assert sink.complete


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_to_another_origin_without_credentials(
    server: FaultyRegistry,
    elsewhere: FaultyRegistry,
    open_http: OpenHttp,
    made: MadeRegistry,
    sink: MemorySink,
    code: int,
) -> None:
    """Objects may lie on another host; neither its password nor its headers go there on either plane."""
    server.inject(Redirect(elsewhere.url + "{path}", code), times=None)
    source = open_http(server.url.replace("//", "//ann:pw@"), headers={"X-Token": "secret"})
    await ask_all(source, made, sink)
    assert (len(server.requests), len(elsewhere.requests)) == (3, 3)
    for request in server.requests:
        assert request.headers["authorization"].startswith("Basic ")
        assert request.headers["x-token"] == "secret"
    for request in elsewhere.requests:
        assert not {"authorization", "x-token"} & set(request.headers)


@pytest.mark.parametrize("target", ["?again", "{path}?again", "//127.0.0.1:{port}{path}?again"])
async def test_within_the_origin_with_credentials(
    server: FaultyRegistry, open_http: OpenHttp, made: MadeRegistry, sink: MemorySink, target: str
) -> None:
    """Relative and scheme-relative targets on the same origin keep the credentials, and the connection."""
    server.inject(
        Redirect(target.replace("{port}", str(server.port))),
        on=lambda request: "again" not in request.target,
        times=None,
    )
    await ask_all(open_http(server.url, headers={"X-Token": "secret"}), made, sink)
    assert len(server.requests) == 6
    assert all(request.headers["x-token"] == "secret" for request in server.requests)


async def test_a_redirected_chunk_is_resumed(
    server: FaultyRegistry, elsewhere: FaultyRegistry, open_http: OpenHttp, made: MadeRegistry
) -> None:
    """The range goes along with the redirect."""
    server.inject(Redirect(elsewhere.url + "{path}"), on="chunk")
    digest = made.chunks(_REF)[0]
    sink = MemorySink.for_bytes(made.object_path(digest).read_bytes(), received=60_000)
    await open_http(server.url).chunk(digest, sink)
    assert sink.complete
    assert elsewhere.requests[0].headers["range"] == "bytes=60000-"
    await asyncio.to_thread(elsewhere.wait_for, 1, done=True)
    assert elsewhere.bytes_sent() == 40_000


async def test_redirects_do_not_use_up_connections(
    server: FaultyRegistry, made: MadeRegistry, sink: MemorySink
) -> None:
    """The lean path reads a redirect to its end, and asks the target over the same connection."""
    server.inject(Redirect("?again"), on=lambda request: "again" not in request.target, times=None)
    source = HttpSource(server.url)
    for _ in range(3):
        await source.chunk(sink.digest, MemorySink(sink.digest, 100_000))
    await source.aclose()
    assert (len(server.requests), server.connections) == (6, 1)


@pytest.mark.parametrize("what", ["index", "chunk"])
async def test_a_circle_is_left(
    server: FaultyRegistry, open_http: OpenHttp, sink: MemorySink, what: str
) -> None:
    """Redirects that lead nowhere but to redirects are given up on for good, after a few."""
    server.inject(Redirect("?again"), times=None)
    source = open_http(server.url)
    with pytest.raises(SourceError, match="circles") as caught:
        await (source.index() if what == "index" else source.chunk(sink.digest, sink))
    assert not caught.value.retryable
    assert len(server.requests) == MAX_REDIRECTS + 1


@pytest.mark.parametrize(
    "target", ["", "ftp://127.0.0.1/x", "http://[bad/", "http://127.0.0.1:port/", "//:80/"]
)
async def test_a_target_that_cannot_be_asked_is_final(
    server: FaultyRegistry, open_http: OpenHttp, sink: MemorySink, target: str
) -> None:
    """A hostile or mistaken Location is an error of ours on both planes, never a crash."""
    server.inject(Redirect(target), times=None)
    source = open_http(server.url)
    for asked in (source.index(), source.chunk(sink.digest, sink)):
        with pytest.raises(SourceError) as caught:
            await asked
        assert not caught.value.retryable


@pytest.mark.parametrize("host", ["a" * 300, "no such host", "b%C3%BCcher..example", "xn--a"])
async def test_a_target_with_an_impossible_host_fails(
    server: FaultyRegistry, open_http: OpenHttp, sink: MemorySink, host: str
) -> None:
    """A host that no name service would know fails as a try, whoever finds it out."""
    server.inject(Redirect(f"http://{host}/x"), times=None)
    source = open_http(server.url, connect_timeout_s=1.0)
    for asked in (source.index(), source.chunk(sink.digest, sink)):
        with pytest.raises(SourceError):
            await asked


async def test_a_signed_target_stays_secret(
    server: FaultyRegistry, elsewhere: FaultyRegistry, open_http: OpenHttp, sink: MemorySink
) -> None:
    """The signature in a redirect's query, which is as good as a password, is in no error."""
    server.inject(Redirect(elsewhere.url + "{path}?X-Signature=s3cret"), times=None)
    elsewhere.inject(Status(403), times=None)
    source = open_http(server.url)
    for asked in (source.index(), source.chunk(sink.digest, sink)):
        with pytest.raises(SourceError, match="403") as caught:
            await asked
        assert "s3cret" not in f"{caught.value}{caught.value.subject}{caught.value.hint}"
    assert "s3cret" in elsewhere.requests[0].target


async def test_the_body_of_a_redirect_is_not_read_for_ever(
    server: FaultyRegistry, open_http: OpenHttp, made: MadeRegistry, sink: MemorySink
) -> None:
    """A redirect with an endless body is followed all the same."""
    server.inject(Redirect("?again"), Longer(), on=lambda request: "again" not in request.target, times=None)
    await ask_all(open_http(server.url), made, sink)
    assert ["again" in request.target for request in server.requests] == [False, True] * 3
