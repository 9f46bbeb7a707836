"""The proxy passes on what it is asked to, records it, and keeps others out."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import trustme

from xprim_nb.testing.faults import Redirect
from xprim_nb.testing.faulty_proxy import FaultyProxy
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import make_registry, random_bytes

_REF = "group/model v1"
_DATA = random_bytes(3, 300_000)
_TIMEOUT_S = 20.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultyRegistry]:
    """A registry with one chunk."""
    make_registry(tmp_path, {_REF: {"w": _DATA}}, chunk_size=len(_DATA))
    with FaultyRegistry(tmp_path) as server:
        yield server


def _chunk(server: FaultyRegistry) -> str:
    index = httpx2.get(f"{server.url}/models.json", timeout=_TIMEOUT_S).json()
    manifest = index["group"]["model"]["v1"]["hash"]
    return str(httpx2.get(f"{server.url}/data/{manifest}", timeout=_TIMEOUT_S).json()["chunks"][0])


def test_plain_http_goes_through(server: FaultyRegistry) -> None:
    """A name that exists nowhere is reached through the proxy, with its query, headers and bytes."""
    chunk = _chunk(server)
    with FaultyProxy(routes={"registry.example:80": ("127.0.0.1", server.port)}) as proxy:
        with httpx2.Client(proxy=proxy.url, timeout=_TIMEOUT_S) as client:
            answer = client.get(f"http://registry.example/data/{chunk}?x=1", headers={"Range": "bytes=5-"})
            assert (answer.status_code, answer.content) == (206, _DATA[5:])
            assert client.get("http://registry.example/models.json").status_code == 200
        assert [request.authority for request in proxy.requests] == ["registry.example:80"] * 2
        assert proxy.requests[0].bytes_back > len(_DATA) - 5
        passed = server.those(chunk)[-1]
        assert passed.target == f"/data/{chunk}?x=1"
        assert passed.headers["host"] == "registry.example"
        assert "proxy-connection" not in passed.headers


def test_tls_goes_through_a_tunnel(tmp_path: Path) -> None:
    """CONNECT opens a tunnel in which the proxy sees the name and nothing else."""
    make_registry(tmp_path, {_REF: {"w": _DATA}})
    authority = trustme.CA()
    served, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("registry.example").configure_cert(served)
    authority.configure_trust(trusting)
    with (
        FaultyRegistry(tmp_path, tls=served) as server,
        FaultyProxy(routes={"registry.example:443": ("127.0.0.1", server.port)}) as proxy,
        httpx2.Client(proxy=proxy.url, verify=trusting, timeout=_TIMEOUT_S) as client,
    ):
        for _ in range(2):
            answer = client.get("https://registry.example/models.json")
            assert answer.content == (tmp_path / "models.json").read_bytes()
        assert [(request.method, request.target) for request in proxy.requests] == [
            ("CONNECT", "registry.example:443")
        ]
        assert server.connections == 1


def test_strangers_are_kept_out(server: FaultyRegistry) -> None:
    """With a password set, only who knows it is served; the others get 407 and reach nothing."""
    with FaultyProxy(auth=("ann", "s p:w"), routes={"r.example:80": ("127.0.0.1", server.port)}) as proxy:
        url = "http://r.example/models.json"
        assert httpx2.get(url, proxy=proxy.url, timeout=_TIMEOUT_S).status_code == 407
        assert server.count() == 0
        knowing = httpx2.Proxy(proxy.url, auth=("ann", "s p:w"))
        assert httpx2.get(url, proxy=knowing, timeout=_TIMEOUT_S).status_code == 200
        assert [request.status for request in proxy.requests] == [407, 200]
        assert "proxy-authorization" not in server.requests[0].headers


def test_it_can_refuse_everything(server: FaultyRegistry) -> None:
    """A proxy with a rule against it answers every request with its own status."""
    with FaultyProxy(refuse=403) as proxy, httpx2.Client(proxy=proxy.url, timeout=_TIMEOUT_S) as client:
        assert client.get(server.url).status_code == 403
        with pytest.raises(httpx2.ProxyError):
            client.get("https://r.example/")
        assert [request.status for request in proxy.requests] == [403, 403]


def test_a_dead_upstream_is_502(server: FaultyRegistry) -> None:
    """Where nobody listens, the proxy says so."""
    server.close()
    with FaultyProxy() as proxy:
        assert httpx2.get(server.url, proxy=proxy.url, timeout=_TIMEOUT_S).status_code == 502
        assert proxy.requests[0].status == 502


def test_faults_come_through(server: FaultyRegistry) -> None:
    """What the registry does wrong, it does wrong through the proxy too."""
    server.inject(Redirect("http://elsewhere.example{path}"))
    with FaultyProxy(routes={"r.example:80": ("127.0.0.1", server.port)}) as proxy:
        answer = httpx2.get("http://r.example/models.json", proxy=proxy.url, timeout=_TIMEOUT_S)
    assert (answer.status_code, answer.headers["location"]) == (302, "http://elsewhere.example/models.json")
