"""The faulty registry serves as RFC 9110 says, holds and records what it is told to, and ends without a trace."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
import trustme

from xprim_nb.testing.faults import (
    Delay,
    Drip,
    Fault,
    Longer,
    NoLength,
    Stall,
    Status,
)
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import MadeRegistry, make_registry, random_bytes

_REF = "group/model v1"
_CHUNK_BYTES = 100_000
_DATA = random_bytes(7, 2 * _CHUNK_BYTES + 50)  # as in conftest.py
_FIRST = _DATA[:_CHUNK_BYTES]
# Long enough for a loaded machine; only a failing test waits for it.
_TIMEOUT_S = 20.0
# Shared: loading the trusted certificates takes longer than a test.
_NO_TLS = ssl.create_default_context()

_AskRaw = Callable[[FaultyRegistry, str, str], tuple[bytes, str]]


def _get(server: FaultyRegistry, path: str, headers: dict[str, str] | None = None) -> httpx2.Response:
    return httpx2.get(server.url + path, headers=headers, timeout=_TIMEOUT_S, verify=_NO_TLS)


def _body(raw: bytes) -> bytes:
    return raw.partition(b"\r\n\r\n")[2]


def test_it_serves_every_object(server: FaultyRegistry, made: MadeRegistry) -> None:
    """Index, manifest and chunks come whole, with their length, and add up to the model."""
    index = _get(server, "/models.json")
    assert index.json() == made.index
    assert index.headers["content-type"] == "application/json"
    assert _get(server, f"/data/{made.manifest_hash(_REF)}").json() == made.manifest(_REF)
    chunks = [_get(server, f"/data/{digest}") for digest in made.chunks(_REF)]
    assert b"".join(each.content for each in chunks) == _DATA
    assert [int(each.headers["content-length"]) for each in chunks] == [_CHUNK_BYTES, _CHUNK_BYTES, 50]
    assert [request.kind for request in server.requests] == ["index", "manifest", "chunk", "chunk", "chunk"]


def test_what_is_not_there_is_404(server: FaultyRegistry, ask_raw: _AskRaw) -> None:
    """A missing object, a directory and a path that leaves the registry are all not found."""
    for path in ("/data/" + "0" * 64, "/data", "/", "/../tests", "/%2e%2e/x", "/data/%00"):
        raw, _ = ask_raw(server, path, "Connection: close\r\n")
        assert raw.startswith(b"HTTP/1.1 404 "), path


def test_a_connection_is_kept_for_many_requests(server: FaultyRegistry, chunk: str) -> None:
    """Requests of one client share a connection, and the record says so."""
    with httpx2.Client(base_url=server.url, timeout=_TIMEOUT_S) as client:
        for path in ("/models.json", chunk, "/nothing", chunk):
            client.get(path)
    assert server.connections == 1
    assert {request.connection for request in server.requests} == {1}
    assert len({request.client_port for request in server.requests}) == 1
    assert server.requests[0].client_port > 0


def test_connection_close_is_honoured(server: FaultyRegistry, chunk: str, ask_raw: _AskRaw) -> None:
    """A client that wants the connection closed gets all bytes and then the end."""
    raw, end = ask_raw(server, chunk, "Connection: close\r\n")
    assert (_body(raw), end) == (_FIRST, "closed")


def test_head_has_the_length_and_no_body(server: FaultyRegistry, chunk: str) -> None:
    """HEAD says how long the object is and sends nothing of it."""
    with httpx2.Client(base_url=server.url, timeout=_TIMEOUT_S) as client:
        answer = client.head(chunk)
        assert (answer.status_code, answer.headers["content-length"], answer.content) == (
            200,
            str(_CHUNK_BYTES),
            b"",
        )
        assert client.get(chunk).content == _FIRST
    assert server.requests[0].bytes_sent == 0


def test_other_methods_are_refused(server: FaultyRegistry) -> None:
    """PUT is answered with 405, and its body is not taken for the next request."""
    with httpx2.Client(base_url=server.url, timeout=_TIMEOUT_S) as client:
        assert client.put("/models.json", content=b"GET / HTTP/1.1\r\n\r\n").status_code == 405
        assert client.get("/models.json").status_code == 200
    assert server.count() == 2


@pytest.mark.parametrize(
    ("asked", "first", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=99990-", 99_990, 100_000),
        ("bytes=5-999999", 5, 100_000),
        ("bytes=-7", 99_993, 100_000),
        ("bytes=-999999", 0, 100_000),
    ],
)
def test_a_range_is_a_part(server: FaultyRegistry, chunk: str, asked: str, first: int, stop: int) -> None:
    """A range is answered with 206, its place and its bytes."""
    answer = _get(server, chunk, {"Range": asked})
    assert answer.status_code == 206
    assert answer.headers["content-range"] == f"bytes {first}-{stop - 1}/{_CHUNK_BYTES}"
    assert answer.content == _FIRST[first:stop]


@pytest.mark.parametrize("asked", ["bytes=100000-", "bytes=100000-100001", "bytes=-0"])
def test_a_range_beyond_the_end_is_416(server: FaultyRegistry, chunk: str, asked: str) -> None:
    """A range of which nothing exists is refused with the true length."""
    answer = _get(server, chunk, {"Range": asked})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{_CHUNK_BYTES}"


@pytest.mark.parametrize(
    "asked", ["bytes=", "bytes=-", "bytes=9-3", "bytes=0-1,5-6", "lines=1-2", "bytes=a-b"]
)
def test_a_range_that_is_none_is_ignored(server: FaultyRegistry, chunk: str, asked: str) -> None:
    """What is not understood as one range brings the whole object."""
    answer = _get(server, chunk, {"Range": asked})
    assert (answer.status_code, answer.content) == (200, _FIRST)


def test_if_range_decides_between_part_and_whole(server: FaultyRegistry, chunk: str) -> None:
    """A range is served only if the validator in If-Range is right."""
    etag = _get(server, chunk).headers["etag"]
    assert _get(server, chunk, {"Range": "bytes=5-", "If-Range": etag}).status_code == 206
    assert _get(server, chunk, {"Range": "bytes=5-", "If-Range": '"other"'}).status_code == 200


def test_validators_say_whether_the_index_changed(made: MadeRegistry) -> None:
    """The ETag brings 304 until `models.json` has other bytes; so does Last-Modified on its own."""
    with FaultyRegistry(made.root) as server:
        first = _get(server, "/models.json")
        etag, modified = first.headers["etag"], first.headers["last-modified"]
        for validators in (
            {"If-None-Match": etag},
            {"If-None-Match": f'"x", W/{etag}'},
            {"If-Modified-Since": modified},
        ):
            answer = _get(server, "/models.json", validators)
            assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
        made.put_entry("group/model v2", made.entry(_REF))
        changed = _get(server, "/models.json", {"If-None-Match": etag, "If-Modified-Since": modified})
        assert changed.status_code == 200
        assert changed.headers["etag"] != etag


def test_a_prefix_is_part_of_the_url(made: MadeRegistry) -> None:
    """A registry below a path is found there, and only there."""
    with FaultyRegistry(made.root, prefix="/models/v1/") as server:
        assert server.url == f"{server.origin}/models/v1"
        assert _get(server, "/models.json").status_code == 200
        assert httpx2.get(f"{server.origin}/models.json", timeout=_TIMEOUT_S).status_code == 404
        assert [request.path for request in server.requests] == ["/models.json", "/outside/models.json"]


def test_a_required_header_is_asked_for(made: MadeRegistry, chunk: str) -> None:
    """Without the right header every request is a 401, and uses up no fault."""
    with FaultyRegistry(made.root, require_header=("Authorization", "Bearer right")) as server:
        server.inject(Status(500))
        assert _get(server, chunk).status_code == 401
        assert _get(server, chunk, {"Authorization": "Bearer wrong"}).status_code == 401
        assert _get(server, chunk, {"Authorization": "Bearer right"}).status_code == 500
        assert _get(server, chunk, {"authorization": "Bearer right"}).content == _FIRST


def test_tls_is_served_with_the_callers_certificate(made: MadeRegistry, chunk: str) -> None:
    """With a context the URL is https; who trusts the authority gets the bytes, who does not is counted."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with FaultyRegistry(made.root, tls=context) as server:
        assert server.url.startswith("https://")
        server.inject(NoLength(), on="chunk")
        with httpx2.Client(base_url=server.url, verify=trusting, timeout=_TIMEOUT_S) as client:
            assert client.get(chunk).content == _FIRST
            assert client.get(chunk, headers={"Range": "bytes=9-"}).content == _FIRST[9:]
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(server.url + chunk, timeout=_TIMEOUT_S, verify=ssl.create_default_context())
    assert server.failed_handshakes == 1  # counted in the server's thread, which has ended now


def test_a_hold_keeps_requests_until_it_is_released(server: FaultyRegistry, made: MadeRegistry) -> None:
    """Held requests wait together before their answer; others pass; after the release nobody is held."""
    digests = made.chunks(_REF)
    with ThreadPoolExecutor(4) as pool, server.hold("chunk") as hold:
        waiting = [pool.submit(_get, server, f"/data/{digest}") for digest in digests]
        hold.wait_reached(3, _TIMEOUT_S)
        assert hold.reached == 3
        assert _get(server, "/models.json").status_code == 200
        assert not any(each.done() for each in waiting)
        assert server.peak_in_flight == 4
        hold.release()
        assert b"".join(each.result().content for each in waiting) == _DATA
        assert _get(server, f"/data/{digests[0]}").status_code == 200


@pytest.mark.parametrize("after", [0, 60_000, _CHUNK_BYTES, _CHUNK_BYTES + 1])
def test_a_hold_can_be_in_the_middle_of_a_body(server: FaultyRegistry, chunk: str, after: int) -> None:
    """The client has exactly so many bytes of the body while the rest is held; beyond the end means all of them."""
    hold = server.hold("chunk", after_bytes=after, times=1)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=_TIMEOUT_S)
    with contextlib.closing(connection):
        connection.request("GET", chunk)
        answer = connection.getresponse()
        first = min(after, _CHUNK_BYTES)
        assert answer.read(first) == _FIRST[:first]
        hold.wait_reached()
        assert server.requests[0].bytes_sent == first
        assert _get(server, chunk).content == _FIRST  # `times=1`: this one passes
        hold.release()
        assert answer.read() == _FIRST[first:]


def test_waiting_has_an_end(server: FaultyRegistry) -> None:
    """Waiting for what does not come is an error that says how far it came."""
    with pytest.raises(TimeoutError, match="0 of 1"):
        server.hold().wait_reached(timeout_s=0.01)
    with pytest.raises(TimeoutError, match="0 of 2"):
        server.wait_for(2, timeout_s=0.01)


def test_the_record_tells_everything(server: FaultyRegistry, chunk: str) -> None:
    """Each request is recorded with its headers, range, times and bytes, and sums can be asked for."""
    before = time.monotonic()
    _get(server, chunk + "?x=1", {"Range": "bytes=10-19", "X-Mine": "yes"})
    _get(server, chunk)
    _get(server, "/models.json")
    server.wait_for(3, done=True)
    first = server.requests[0]
    assert (first.method, first.target, first.path, first.number) == ("GET", chunk + "?x=1", chunk, 1)
    assert (first.headers["x-mine"], first.asked_range, first.bytes_sent, first.done) == (
        "yes",
        (10, 19),
        10,
        True,
    )
    assert before <= first.time_s <= time.monotonic()
    assert (server.count("chunk"), server.count(chunk), server.count(), server.count("manifest")) == (
        2,
        2,
        3,
        0,
    )
    assert server.bytes_sent("chunk") == 10 + _CHUNK_BYTES
    assert [request.asked_range for request in server.those("chunk")] == [(10, 19), None]
    server.forget_requests()
    assert (server.count(), server.peak_in_flight) == (0, 0)


def test_bandwidth_is_shared(made: MadeRegistry) -> None:
    """A limited server sends no faster over two connections than over one."""
    with FaultyRegistry(made.root, bandwidth_bytes_s=800_000) as server, ThreadPoolExecutor(2) as pool:
        begun = time.monotonic()
        bodies = pool.map(lambda digest: _get(server, f"/data/{digest}").content, made.chunks(_REF)[:2])
        assert b"".join(bodies) == _DATA[: 2 * _CHUNK_BYTES]
        assert time.monotonic() - begun > 0.2


def test_connections_can_be_dropped(server: FaultyRegistry, chunk: str) -> None:
    """Every open connection breaks when told so, and the next one is served."""
    with httpx2.Client(base_url=server.url, timeout=_TIMEOUT_S) as client:
        server.inject(Stall(10))
        with client.stream("GET", chunk) as answer:
            server.drop_connections()
            with pytest.raises(httpx2.RemoteProtocolError):
                answer.read()
        assert client.get(chunk).content == _FIRST


@pytest.mark.parametrize("fault", [Stall(5), Stall(None), Drip(10), Longer(), Delay(60)], ids=repr)
def test_closing_ends_everything(made: MadeRegistry, chunk: str, fault: Fault, ask_raw: _AskRaw) -> None:
    """A closed server has no thread left, whatever it was doing, refuses connections, and can be closed again."""
    before = set(threading.enumerate())
    with FaultyRegistry(made.root) as server, ThreadPoolExecutor(2) as pool:
        server.inject(fault, on="chunk")
        hold = server.hold("index")
        futures = [pool.submit(ask_raw, server, chunk, ""), pool.submit(ask_raw, server, "/models.json", "")]
        hold.wait_reached()
        server.wait_for(1, "chunk")
        server.close()
        for each in futures:
            each.result(_TIMEOUT_S)
        assert server.open_connections == 0
    assert set(threading.enumerate()) <= before  # one that an earlier test left may have ended
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), _TIMEOUT_S)


def test_it_is_fast_enough_not_to_be_the_bottleneck(tmp_path: Path) -> None:
    """200 MB in chunks of 10 MB leave in far less time than a pull of them may take."""
    data = bytes(200 << 20)
    made = make_registry(tmp_path, {_REF: {"w": data}}, chunk_size=10 << 20)
    digest = made.chunks(_REF)[0]
    with FaultyRegistry(made.root) as server, socket.create_connection(("127.0.0.1", server.port)) as sock:
        buffer, left = bytearray(1 << 20), len(data)
        begun = time.monotonic()
        for _ in range(20):
            sock.sendall(f"GET /data/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            left = 10 << 20
            head = True
            while left > 0:
                got = sock.recv_into(buffer)
                skipped = bytes(buffer[:got]).find(b"\r\n\r\n") + 4 if head else 0
                left, head = left - got + skipped, False
        assert time.monotonic() - begun < 5  # 40 MB/s on the slowest machine; 1 to 3 GB/s are usual
    assert hashlib.sha256(bytes(10 << 20)).hexdigest() == digest
