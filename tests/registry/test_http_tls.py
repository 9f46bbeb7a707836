"""TLS: private authorities, certificates that are not trusted, and connections that end."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trustme

from xprim_nb.errors import ConfigError
from xprim_nb.registry.sources import SourceError
from xprim_nb.registry.sources.http import HttpOptions, HttpSource
from xprim_nb.testing.faults import Drop, Redirect, Stall
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import MadeRegistry, make_registry, random_bytes
from xprim_nb.testing.sinks import MemorySink

_REF = "group/model v1"
_SIZE = 300_000

OpenHttp = Callable[..., HttpSource]
Until = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A private certificate authority."""
    return trustme.CA()


@pytest.fixture
def made(tmp_path: Path) -> MadeRegistry:
    """A registry with one model of one chunk."""
    return make_registry(tmp_path / "registry", {_REF: {"a": random_bytes(1, _SIZE)}}, chunk_size=_SIZE)


@pytest.fixture
def server(made: MadeRegistry, authority: trustme.CA, serve: Callable[..., FaultyRegistry]) -> FaultyRegistry:
    """The registry over TLS, with a certificate from the private authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return serve(made.root, tls=context)


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> str:
    """The authority's certificate in a file."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def trusting(bundle: str) -> ssl.SSLContext:
    """A client's context that trusts the authority."""
    return ssl.create_default_context(cafile=bundle)


@pytest.fixture
def sink(made: MadeRegistry) -> MemorySink:
    """An empty sink for the chunk."""
    return MemorySink(made.chunks(_REF)[0], _SIZE)


@pytest.mark.parametrize("how", ["path", "context", "SSL_CERT_FILE", "no"])
async def test_a_private_authority_is_trusted(
    server: FaultyRegistry,
    sink: MemorySink,
    bundle: str,
    trusting: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    """A CA bundle, a context, SSL_CERT_FILE or verify=False let documents and chunks through alike."""
    if how == "SSL_CERT_FILE":
        monkeypatch.setenv("SSL_CERT_FILE", bundle)
    ways: dict[str, bool | str | ssl.SSLContext] = {
        "path": bundle,
        "context": trusting,
        "SSL_CERT_FILE": True,
        "no": False,
    }
    source = HttpSource(server.url, HttpOptions(verify=ways[how]))
    assert (await source.index()).raw
    await source.chunk(sink.digest, sink)
    await source.aclose()
    assert sink.complete


async def test_an_untrusted_certificate_is_final(
    server: FaultyRegistry, open_http: OpenHttp, sink: MemorySink
) -> None:
    """Nothing is asked of a server whose certificate nobody vouches for, and the hint says what to set."""
    source = open_http(server.url, verify=ssl.create_default_context())
    for asked in (source.index(), source.chunk(sink.digest, sink)):
        with pytest.raises(SourceError, match="certificate") as caught:
            await asked
        assert not caught.value.retryable
        assert "SSL_CERT_FILE" in caught.value.hint
    assert server.requests == []


async def test_a_certificate_for_another_name_is_final(
    made: MadeRegistry,
    authority: trustme.CA,
    trusting: ssl.SSLContext,
    serve: Callable[..., FaultyRegistry],
    open_http: OpenHttp,
    sink: MemorySink,
) -> None:
    """A trusted authority's certificate for another host is refused as well."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("elsewhere.example.org").configure_cert(context)
    server = serve(made.root, tls=context)
    source = open_http(server.url, verify=trusting)
    for asked in (source.index(), source.chunk(sink.digest, sink)):
        with pytest.raises(SourceError, match="certificate") as caught:
            await asked
        assert not caught.value.retryable
    assert server.requests == []


@pytest.mark.parametrize("content", [None, b"no certificate"])
async def test_a_bundle_that_cannot_be_read_is_a_setting_that_cannot_work(
    server: FaultyRegistry,
    sink: MemorySink,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes | None,
) -> None:
    """A CA bundle that is missing or none is a ConfigError on both planes, wherever it was named."""
    path = tmp_path / "bundle.pem"
    if content is not None:
        path.write_bytes(content)
    for verify in (str(path), True):
        if verify is True:
            monkeypatch.setenv("SSL_CERT_FILE", str(path))
        source = HttpSource(server.url, HttpOptions(verify=verify))
        for asked in (source.index(), source.chunk(sink.digest, sink)):
            with pytest.raises(ConfigError, match="CA bundle"):
                await asked
        await source.aclose()


async def test_connections_are_kept_and_replaced(
    server: FaultyRegistry,
    open_http: OpenHttp,
    until: Until,
    trusting: ssl.SSLContext,
    made: MadeRegistry,
    sink: MemorySink,
) -> None:
    """TLS connections are reused as well, and one that the server ended costs no try."""
    source = open_http(server.url, verify=trusting)
    for _ in range(3):
        await source.chunk(sink.digest, MemorySink(sink.digest, _SIZE))
    assert server.connections == 1
    for _ in range(3):
        server.drop_connections()
        await until(lambda: server.open_connections == 0)
        await source.chunk(sink.digest, MemorySink(sink.digest, _SIZE))
    assert (server.connections, server.count("chunk")) == (4, 6)


@pytest.mark.parametrize("fault", [Drop(100_000), Drop(100_000, reset=False)], ids=str)
async def test_a_broken_body_goes_on_where_it_broke(
    server: FaultyRegistry, open_http: OpenHttp, trusting: ssl.SSLContext, sink: MemorySink, fault: Drop
) -> None:
    """What TLS delivered before the connection broke is kept; an end without goodbye is no end of the body."""
    server.inject(fault, on="chunk")
    source = open_http(server.url, verify=trusting)
    with pytest.raises(SourceError) as caught:
        await source.chunk(sink.digest, sink)
    assert caught.value.retryable
    assert 0 < sink.received <= 100_000
    await source.chunk(sink.digest, sink)
    assert sink.complete
    assert sink.restarts == 0


async def test_cancellation_is_quick(
    server: FaultyRegistry, open_http: OpenHttp, trusting: ssl.SSLContext, made: MadeRegistry
) -> None:
    """A cancelled fetch over TLS ends at once, and the server sees us leave."""
    loop, arrived = asyncio.get_running_loop(), asyncio.Event()
    digest = made.chunks(_REF)[0]

    def note(_: int) -> None:
        loop.call_soon_threadsafe(arrived.set)

    sink = MemorySink(digest, _SIZE, on_write=note)
    server.inject(Stall(100_000), on="chunk")
    fetching = asyncio.ensure_future(open_http(server.url, verify=trusting).chunk(digest, sink))
    await arrived.wait()
    began = loop.time()
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    sink.close()
    await asyncio.to_thread(server.wait_for, 1, "chunk", done=True)
    assert loop.time() - began < 10.0  # long before the watchdog
    assert not sink.late.is_set()


async def test_a_redirect_does_not_leave_tls(
    server: FaultyRegistry,
    made: MadeRegistry,
    serve: Callable[..., FaultyRegistry],
    open_http: OpenHttp,
    trusting: ssl.SSLContext,
    sink: MemorySink,
) -> None:
    """From https to http no redirect is followed, and the plain server is not asked."""
    plain = serve(made.root)
    server.inject(Redirect(plain.url + "{path}"), times=None)
    source = open_http(server.url, verify=trusting)
    for asked in (source.index(), source.chunk(sink.digest, sink)):
        with pytest.raises(SourceError, match="https to http") as caught:
            await asked
        assert not caught.value.retryable
    assert plain.requests == []


async def test_https_to_a_plain_server_fails(
    made: MadeRegistry, serve: Callable[..., FaultyRegistry], sink: MemorySink
) -> None:
    """A server that speaks no TLS is a failed try with a short reason, also when it waits for more."""
    plain = serve(made.root)
    options = HttpOptions(connect_timeout_s=0.2, stall_timeout_s=0.2)
    source = HttpSource(plain.url.replace("http", "https"), options)
    for asked in (source.index(), source.chunk(sink.digest, sink)):
        with pytest.raises(SourceError) as caught:
            await asked
        assert len(str(caught.value)) < 400
    await source.aclose()
