"""Proxies, named by the settings or by the environment, on both planes."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trustme

from xprim_nb.registry.sources import SourceError
from xprim_nb.registry.sources.http import HttpSource
from xprim_nb.testing.faulty_proxy import FaultyProxy
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import MadeRegistry, make_registry, random_bytes
from xprim_nb.testing.sinks import MemorySink

_REF = "group/model v1"
# A name that only the proxy can resolve: whoever goes past it finds nothing.
_HOST = "registry.invalid"

OpenHttp = Callable[..., HttpSource]


@pytest.fixture
def made(tmp_path: Path) -> MadeRegistry:
    """A registry with one model of one chunk."""
    return make_registry(tmp_path, {_REF: {"a": random_bytes(1, 100_000)}}, chunk_size=100_000)


@pytest.fixture
def server(made: MadeRegistry, serve: Callable[..., FaultyRegistry]) -> FaultyRegistry:
    """The registry, over plain HTTP."""
    return serve(made.root)


@pytest.fixture
def proxy(server: FaultyRegistry) -> Iterator[FaultyProxy]:
    """A proxy that knows the registry by a name of its own, and wants a password."""
    with FaultyProxy(auth=("ann", "p@w"), routes={f"{_HOST}:80": ("127.0.0.1", server.port)}) as proxy:
        yield proxy


@pytest.fixture
def proxy_url(proxy: FaultyProxy) -> str:
    """The proxy's URL with its password."""
    return proxy.url.replace("//", "//ann:p%40w@")


@pytest.fixture
def sink(made: MadeRegistry) -> MemorySink:
    """An empty sink for the chunk."""
    return MemorySink(made.chunks(_REF)[0], 100_000)


async def test_plain_http_goes_in_absolute_form(
    server: FaultyRegistry, proxy: FaultyProxy, proxy_url: str, open_http: OpenHttp, sink: MemorySink
) -> None:
    """Everything goes through the configured proxy, with its credentials, which the registry never sees."""
    source = open_http(f"http://{_HOST}", proxy=proxy_url, headers={"Authorization": "Bearer token"})
    assert (await source.index()).raw
    await source.chunk(sink.digest, sink)
    assert sink.complete
    assert [request.target for request in proxy.requests] == [
        f"http://{_HOST}/models.json",
        f"http://{_HOST}/data/{sink.digest}",
    ]
    assert {request.headers["host"] for request in server.requests} == {_HOST}
    for request in server.requests:
        assert request.headers["authorization"] == "Bearer token"
        assert "proxy-authorization" not in request.headers


@pytest.mark.parametrize("name", ["http_proxy", "all_proxy"])
@pytest.mark.parametrize("scheme", ["http://", ""])
async def test_the_environment_names_a_proxy(
    proxy: FaultyProxy,
    proxy_url: str,
    open_http: OpenHttp,
    sink: MemorySink,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    scheme: str,
) -> None:
    """Without a setting the environment's proxy is used on both planes, with or without its scheme."""
    monkeypatch.setenv(name, proxy_url.replace("http://", scheme))
    source = open_http(f"http://{_HOST}")
    await source.index()
    await source.chunk(sink.digest, sink)
    assert sink.complete
    assert [request.status for request in proxy.requests] == [200, 200]


@pytest.mark.parametrize("exempt", ["127.0.0.1", "127.0.0.1:{port}", "example.org, 127.0.0.1", "*"])
async def test_no_proxy_goes_past_it(
    server: FaultyRegistry,
    proxy: FaultyProxy,
    open_http: OpenHttp,
    sink: MemorySink,
    monkeypatch: pytest.MonkeyPatch,
    exempt: str,
) -> None:
    """Hosts that NO_PROXY names, with or without a port, are asked directly on both planes."""
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", exempt.replace("{port}", str(server.port)))
    source = open_http(server.url)
    await source.index()
    await source.chunk(sink.digest, sink)
    assert sink.complete
    assert proxy.requests == []


async def test_a_configured_proxy_wins_over_the_environment(
    server: FaultyRegistry,
    proxy: FaultyProxy,
    proxy_url: str,
    open_http: OpenHttp,
    sink: MemorySink,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A proxy in the settings is used for everything, whatever the environment says."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "*")
    source = open_http(server.url, proxy=proxy_url)
    await source.index()
    await source.chunk(sink.digest, sink)
    assert len(proxy.requests) == 2


async def test_tls_goes_through_a_tunnel(
    made: MadeRegistry, serve: Callable[..., FaultyRegistry], open_http: OpenHttp, sink: MemorySink
) -> None:
    """An https registry is reached by CONNECT, and verified end to end: by its own name, not the proxy's."""
    authority = trustme.CA()
    inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(_HOST).configure_cert(inside)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    server = serve(made.root, tls=inside)
    with FaultyProxy(auth=("ann", "p@w"), routes={f"{_HOST}:443": ("127.0.0.1", server.port)}) as proxy:
        url = proxy.url.replace("//", "//ann:p%40w@")
        source = open_http(f"https://{_HOST}", proxy=url, verify=trusting, headers={"X-Token": "secret"})
        await source.index()
        await source.chunk(sink.digest, sink)
        await source.chunk(sink.digest, MemorySink(sink.digest, 100_000))
        assert sink.complete
        assert {(request.method, request.target) for request in proxy.requests} == {
            ("CONNECT", f"{_HOST}:443")
        }
        assert all("x-token" not in request.headers for request in proxy.requests)
        assert [request.headers["x-token"] for request in server.requests] == ["secret"] * 3


@pytest.mark.parametrize(("status", "retryable"), [(407, False), (403, False), (503, True)])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_refuses_is_told_apart(
    open_http: OpenHttp, sink: MemorySink, scheme: str, status: int, retryable: bool
) -> None:
    """A proxy's own 4xx is final with a hint, its 5xx is not; no password is in what is said."""
    auth, refuse = (("ann", "other"), None) if status == 407 else (None, status)
    with FaultyProxy(auth=auth, refuse=refuse) as proxy:
        source = open_http(
            f"{scheme}://{_HOST}", proxy=proxy.url.replace("//", "//ann:s3cret@"), verify=False
        )
        for asked in (source.index(), source.chunk(sink.digest, sink)):
            with pytest.raises(SourceError, match=str(status)) as caught:
                await asked
            assert caught.value.retryable is retryable
            assert "s3cret" not in f"{caught.value}{caught.value.hint}{caught.value.subject}"
            if status == 407:
                assert "proxy" in caught.value.hint
        assert len(proxy.requests) == 2


async def test_a_refused_tunnel_is_closed_at_once(
    open_http: OpenHttp, sink: MemorySink, until: Callable[[Callable[[], bool]], Awaitable[None]]
) -> None:
    """The connection to a proxy that refuses ends with the request, however long the error is kept."""
    with FaultyProxy(refuse=403) as proxy:
        source = open_http(f"https://{_HOST}", proxy=proxy.url, verify=False)
        with pytest.raises(SourceError) as caught:
            await source.chunk(sink.digest, sink)
        await until(lambda: proxy.open_connections == 0)
        assert caught.value.__cause__ is not None


async def test_a_dead_proxy_is_a_bad_line(open_http: OpenHttp, sink: MemorySink) -> None:
    """Where no proxy listens, each kind of request is a failed try."""
    source = open_http(f"http://{_HOST}", proxy="http://127.0.0.1:1")
    for asked in (source.index(), source.chunk(sink.digest, sink)):
        with pytest.raises(SourceError) as caught:
            await asked
        assert caught.value.retryable
