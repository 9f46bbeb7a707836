"""The faulty registry answers right when it is not told otherwise, and wrong exactly as it is told."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx2
import pytest
import trustme

from xprim_nb.testing.answers import Answer
from xprim_nb.testing.faults import (
    ChunkedEncoding,
    Corrupt,
    Delay,
    Drip,
    Drop,
    Fault,
    Garbage,
    Gzip,
    Headers,
    IgnoreRange,
    Longer,
    NoLength,
    OtherObject,
    Redirect,
    Replace,
    ShiftedRange,
    Stall,
    Status,
    StrangeETag,
    Truncate,
    Unmodified,
    WrongLength,
    rate_limited,
)
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import MadeRegistry, make_registry, random_bytes

_REF = "group/model v1"
_CHUNK_BYTES = 100_000
_DATA = random_bytes(7, 2 * _CHUNK_BYTES + 50)
# Long enough for a loaded machine; only a failing test waits for it.
_TIMEOUT_S = 5.0


@pytest.fixture
def made(tmp_path: Path) -> MadeRegistry:
    """One model of three chunks."""
    return make_registry(tmp_path, {_REF: {"w.bin": _DATA}}, chunk_size=_CHUNK_BYTES)


@pytest.fixture(params=["directory", "mapping"])
def server(made: MadeRegistry, request: pytest.FixtureRequest) -> Iterator[FaultyRegistry]:
    """The model served from its directory, and from memory."""
    content: Path | dict[str, bytes] = made.root
    if request.param == "mapping":
        content = {
            path.relative_to(made.root).as_posix(): path.read_bytes()
            for path in made.root.rglob("*")
            if path.is_file()
        }
    with FaultyRegistry(content) as server:
        yield server


@pytest.fixture
def chunk(made: MadeRegistry) -> str:
    """The path of the first chunk."""
    return f"/data/{made.chunks(_REF)[0]}"


_FIRST = _DATA[:_CHUNK_BYTES]


def _get(server: FaultyRegistry, path: str, headers: dict[str, str] | None = None) -> httpx2.Response:
    return httpx2.get(server.url + path, headers=headers, timeout=_TIMEOUT_S)


def _raw(server: FaultyRegistry, path: str, headers: str = "") -> tuple[bytes, str]:
    """Everything that comes until the connection ends, and how it ended."""
    received = bytearray()
    with socket.create_connection(("127.0.0.1", server.port), _TIMEOUT_S) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
        while True:
            try:
                block = sock.recv(65536)
            except ConnectionResetError:
                return bytes(received), "reset"
            if not block:
                return bytes(received), "closed"
            received += block


def _body(raw: bytes) -> bytes:
    return raw.partition(b"\r\n\r\n")[2]


# --- without faults -----------------------------------------------------------------------------


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


def test_what_is_not_there_is_404(server: FaultyRegistry) -> None:
    """A missing object, a directory and a path that leaves the registry are all not found."""
    for path in ("/data/" + "0" * 64, "/data", "/", "/../tests", "/%2e%2e/x", "/data/%00"):
        raw, _ = _raw(server, path, "Connection: close\r\n")
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


def test_connection_close_is_honoured(server: FaultyRegistry, chunk: str) -> None:
    """A client that wants the connection closed gets all bytes and then the end."""
    raw, end = _raw(server, chunk, "Connection: close\r\n")
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
        assert server.failed_handshakes == 1


# --- faults ---------------------------------------------------------------------------------------


def test_faults_meet_the_requests_they_are_for(
    server: FaultyRegistry, made: MadeRegistry, chunk: str
) -> None:
    """Kind, digest, path and predicate choose the request; `times` and `skip` choose which of them."""
    manifest, chunks = (
        f"/data/{made.manifest_hash(_REF)}",
        [f"/data/{digest}" for digest in made.chunks(_REF)],
    )
    server.inject(Status(501), on="index", times=2)
    server.inject(Status(502), on="manifest", skip=1)
    server.inject(Status(503), on=made.chunks(_REF)[1], times=None)
    server.inject(Status(504), on=chunks[2])
    server.inject(
        Status(505), on=lambda request: request.asked_range is None and request.method == "HEAD", times=1
    )
    server.inject(Status(507), on="object", skip=1)
    asked = ["/models.json"] * 3 + [manifest] * 3 + [chunks[1]] * 2 + [chunks[2]] * 2
    statuses = [_get(server, path).status_code for path in asked]
    assert statuses == [501, 501, 200, 200, 502, 507, 503, 503, 504, 200]
    assert httpx2.head(server.url + chunk, timeout=_TIMEOUT_S).status_code == 505
    assert [request.status for request in server.requests] == [*statuses, 505]
    assert server.requests[0].faults == (Status(501),)
    assert server.requests[2].faults == ()


def test_a_fault_that_can_never_happen_is_refused(server: FaultyRegistry) -> None:
    """A misspelt kind is an error at once, not a fault that nobody meets."""
    with pytest.raises(ValueError, match="chunks"):
        server.inject(Status(500), on="chunks")
    with pytest.raises(ValueError, match="models"):
        server.hold("models.json")
    with pytest.raises(ValueError, match="a" * 63):
        server.count("a" * 63)


def test_rules_know_how_often_they_were_met(server: FaultyRegistry, chunk: str) -> None:
    """A rule counts its requests and says when it is used up; `heal` ends all of them."""
    rule = server.inject(Status(500), on="chunk", times=2)
    always = server.inject(Status(501), on="index", times=None)
    _get(server, chunk)
    assert (rule.hits, rule.used_up) == (1, False)
    _get(server, chunk)
    assert (rule.hits, rule.used_up) == (2, True)
    assert _get(server, "/models.json").status_code == 501
    server.heal()
    assert _get(server, "/models.json").status_code == 200
    assert (always.hits, always.used_up) == (1, False)


def test_a_status_has_its_headers_and_body(server: FaultyRegistry, chunk: str) -> None:
    """Any status can be sent, with headers and a body, and the connection goes on."""
    server.inject(Status(418, {"X-Pot": "tea"}, b"short and stout"))
    server.inject(Status(599))
    with httpx2.Client(base_url=server.url, timeout=_TIMEOUT_S) as client:
        answer = client.get(chunk)
        assert (answer.status_code, answer.headers["x-pot"], answer.content) == (
            418,
            "tea",
            b"short and stout",
        )
        assert client.get(chunk).status_code == 599
        assert client.get(chunk).content == _FIRST
    assert server.connections == 1


def test_retry_after_is_seconds_or_a_date(server: FaultyRegistry, chunk: str) -> None:
    """429 asks to wait in both of HTTP's ways, or in none."""
    when = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    server.inject(rate_limited(7))
    server.inject(rate_limited(at=when))
    server.inject(rate_limited(code=503))
    first, second, third = (_get(server, chunk) for _ in range(3))
    assert (first.status_code, first.headers["retry-after"]) == (429, "7")
    assert parsedate_to_datetime(second.headers["retry-after"]) == when
    assert third.status_code == 503
    assert "retry-after" not in third.headers


@pytest.mark.parametrize("after", [None, 0, 1, 70_000, _CHUNK_BYTES, _CHUNK_BYTES + 1])
def test_a_stall_is_silence(server: FaultyRegistry, chunk: str, after: int | None) -> None:
    """The promised bytes come, then nothing, until the client leaves."""
    server.inject(Stall(after))
    with socket.create_connection(("127.0.0.1", server.port), _TIMEOUT_S) as sock:
        sock.sendall(f"GET {chunk} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        received = bytearray()
        wanted = min(after or 0, _CHUNK_BYTES)
        while after is not None and (b"\r\n\r\n" not in received or len(_body(bytes(received))) < wanted):
            received += sock.recv(65536)
        sock.settimeout(0.1)  # nothing may come: the one wait that cannot be avoided
        with pytest.raises(TimeoutError):
            sock.recv(1)
        assert _body(bytes(received)) == _FIRST[:wanted]
        assert server.requests[0].status == (0 if after is None else 200)
        assert not server.requests[0].done
    server.wait_for(1, done=True)


@pytest.mark.parametrize("after", [0, 1, 70_000])
def test_truncation_ends_early(server: FaultyRegistry, chunk: str, after: int) -> None:
    """The body ends too early: against its Content-Length, or without one and so unnoticed."""
    server.inject(Truncate(after))
    server.inject(Truncate(after, declared=False))
    raw, end = _raw(server, chunk)
    assert (_body(raw), end) == (_FIRST[:after], "closed")
    assert f"Content-Length: {_CHUNK_BYTES}".encode() in raw
    raw, end = _raw(server, chunk)
    assert (_body(raw), end) == (_FIRST[:after], "closed")
    assert b"Content-Length" not in raw
    assert server.bytes_sent("chunk") == 2 * after


@pytest.mark.parametrize("after", [None, 0, 1, 70_000])
def test_a_dropped_connection_breaks_at_its_byte(
    server: FaultyRegistry, chunk: str, after: int | None
) -> None:
    """A reset comes exactly after the promised bytes, and so does a close without a word."""
    server.inject(Drop(after))
    server.inject(Drop(after, reset=False))
    for ending in ("reset", "closed"):
        raw, end = _raw(server, chunk)
        assert end == ending
        assert _body(raw) == _FIRST[: after or 0]
        assert bool(raw) == (after is not None)


def test_garbage_is_no_http(server: FaultyRegistry, chunk: str) -> None:
    """A client that expects a status line gets something else."""
    server.inject(Garbage(), Corrupt(0))
    with pytest.raises(httpx2.RemoteProtocolError):
        _get(server, chunk)
    server.inject(Garbage(b"\x00\x01"))
    assert _raw(server, chunk) == (b"\x00\x01", "closed")


def test_corruption_flips_one_byte(server: FaultyRegistry, chunk: str) -> None:
    """Exactly the named byte of the answer is different, counted from its beginning or its end."""
    server.inject(Corrupt(1234))
    server.inject(Corrupt(-1))
    server.inject(Corrupt(3))
    for asked, at in (("bytes=0-", 1234), ("bytes=0-", _CHUNK_BYTES - 1), ("bytes=500-", 503)):
        answer = _get(server, chunk, {"Range": asked})
        first = _CHUNK_BYTES - len(answer.content)
        assert [first + n for n, byte in enumerate(answer.content) if byte != _FIRST[first + n]] == [at]


def test_a_corruption_that_cannot_happen_is_noticed() -> None:
    """Flipping a byte that the answer does not have is an error, not a right answer."""
    with pytest.raises(IndexError):
        Corrupt(3).change_answer(Answer("/x", 200, {}, b"abc"))


def test_a_drip_is_slow_and_whole(server: FaultyRegistry, chunk: str) -> None:
    """A paced body takes its time and arrives complete."""
    server.inject(Drip(400_000), on="chunk")
    begun = time.monotonic()
    assert _get(server, chunk).content == _FIRST
    assert time.monotonic() - begun > 0.2


def test_a_drip_ends_when_the_client_leaves(server: FaultyRegistry, chunk: str) -> None:
    """A drop a second does not keep the server from noticing that nobody drinks."""
    server.inject(Drip(1000), on="chunk")
    with httpx2.stream("GET", server.url + chunk, timeout=_TIMEOUT_S) as answer:
        assert next(answer.iter_raw()) == _FIRST[:20]
    server.wait_for(1, done=True)
    assert server.requests[0].bytes_sent < _CHUNK_BYTES


def test_a_delay_comes_before_a_right_answer(server: FaultyRegistry, chunk: str) -> None:
    """A slow server is right in the end."""
    server.inject(Delay(0.1))
    begun = time.monotonic()
    assert _get(server, chunk).content == _FIRST
    assert time.monotonic() - begun > 0.09


@pytest.mark.parametrize("by", [-10, 10])
def test_a_wrong_length_is_declared(server: FaultyRegistry, chunk: str, by: int) -> None:
    """The Content-Length is off by so many bytes, the body is whole, and the connection ends."""
    server.inject(WrongLength(by))
    raw, end = _raw(server, chunk)
    assert f"Content-Length: {_CHUNK_BYTES + by}\r\n".encode() in raw
    assert (_body(raw), end) == (_FIRST, "closed")


def test_a_body_without_length_is_whole(server: FaultyRegistry, chunk: str) -> None:
    """Without a Content-Length, closed or chunked, the client still gets every byte."""
    server.inject(NoLength())
    server.inject(ChunkedEncoding())
    with httpx2.Client(base_url=server.url, timeout=_TIMEOUT_S) as client:
        for _ in range(2):
            answer = client.get(chunk)
            assert "content-length" not in answer.headers
            assert answer.content == _FIRST
        assert answer.headers["transfer-encoding"] == "chunked"
        assert client.get(chunk).content == _FIRST


@pytest.mark.parametrize(
    ("faults", "header"),
    [
        ((Longer(10),), b"Connection: close"),
        ((Longer(10, declared=True),), f"Content-Length: {_CHUNK_BYTES + 10}".encode()),
    ],
)
def test_a_body_can_be_longer(
    server: FaultyRegistry, chunk: str, faults: tuple[Fault, ...], header: bytes
) -> None:
    """More bytes than the object has come after the right ones."""
    server.inject(*faults)
    raw, _ = _raw(server, chunk)
    assert header in raw
    assert _body(raw) == _FIRST + bytes(10)


@pytest.mark.parametrize("framing", [(), (ChunkedEncoding(),)], ids=["closed", "chunked"])
def test_a_body_can_be_endless(server: FaultyRegistry, chunk: str, framing: tuple[Fault, ...]) -> None:
    """An endless body goes on until the client has had enough."""
    server.inject(*framing, Longer())
    size = 0
    with httpx2.stream("GET", server.url + chunk, timeout=_TIMEOUT_S) as answer:
        for block in answer.iter_raw():
            size += len(block)
            if size > 20 * _CHUNK_BYTES:
                break
    server.wait_for(1, done=True)
    assert server.requests[0].bytes_sent >= size


def test_an_endless_body_has_no_length_to_declare() -> None:
    """Declaring the length of what has no end is refused."""
    with pytest.raises(ValueError, match="endless"):
        Longer(declared=True).change_answer(Answer("/x", 200, {}, b"abc"))


def test_compression_is_declared(server: FaultyRegistry, chunk: str) -> None:
    """A gzip body says so, and is the object when unpacked."""
    server.inject(Gzip(), times=2)
    raw, _ = _raw(server, chunk, "Connection: close\r\n")
    assert b"Content-Encoding: gzip" in raw
    assert gzip.decompress(_body(raw)) == _FIRST
    assert _get(server, chunk).content == _FIRST


def test_another_objects_bytes_are_served(server: FaultyRegistry, made: MadeRegistry, chunk: str) -> None:
    """A confused server sends what lies elsewhere, by digest or by path, or a page of its own."""
    server.inject(OtherObject(made.chunks(_REF)[1]))
    server.inject(OtherObject("/models.json"))
    server.inject(Replace(b"<title>Please log in</title>"))
    assert _get(server, chunk).content == _DATA[_CHUNK_BYTES : 2 * _CHUNK_BYTES]
    assert _get(server, chunk).json() == made.index
    page = _get(server, chunk)
    assert (page.status_code, page.headers["content-type"], page.text) == (
        200,
        "text/html",
        "<title>Please log in</title>",
    )


def test_redirects_lead_where_they_are_told(server: FaultyRegistry, made: MadeRegistry, chunk: str) -> None:
    """Same origin, relative, another origin, a circle, and out of TLS: the client decides what to follow."""
    with FaultyRegistry(made.root) as other:
        for redirect in (
            Redirect(server.url + "{path}?again", 301),
            Redirect("?again", 307),
            Redirect(other.url + "{path}"),
        ):
            server.inject(redirect)
            answer = httpx2.get(server.url + chunk, follow_redirects=True, timeout=_TIMEOUT_S)
            assert answer.content == _FIRST
        assert [request.status for request in server.requests] == [301, 200, 307, 200, 302]
        assert other.count("chunk") == 1
    server.inject(Redirect("?again"), on="chunk", times=None)
    with pytest.raises(httpx2.TooManyRedirects):
        httpx2.get(server.url + chunk, follow_redirects=True, timeout=_TIMEOUT_S)


def test_a_range_can_be_ignored(server: FaultyRegistry, chunk: str) -> None:
    """Asked for a part, the server sends everything."""
    server.inject(IgnoreRange())
    answer = _get(server, chunk, {"Range": "bytes=5000-"})
    assert (answer.status_code, answer.content) == (200, _FIRST)
    assert server.requests[0].asked_range == (5000, None)


def test_another_range_can_be_sent(server: FaultyRegistry, chunk: str) -> None:
    """The wrong part comes with its true place, or claims to be the right one."""
    server.inject(ShiftedRange(3))
    server.inject(ShiftedRange(3, told=False))
    told, lied = (_get(server, chunk, {"Range": "bytes=5000-"}) for _ in range(2))
    assert told.headers["content-range"] == f"bytes 5003-{_CHUNK_BYTES - 1}/{_CHUNK_BYTES}"
    assert told.content == _FIRST[5003:]
    assert lied.headers["content-range"] == f"bytes 5000-{_CHUNK_BYTES - 1}/{_CHUNK_BYTES}"
    assert lied.content == _FIRST[5003:] + _FIRST[5000:5003]


def test_validators_can_be_useless(server: FaultyRegistry) -> None:
    """An ETag that changes with every answer never brings a 304; a 304 can come to who did not ask."""
    server.inject(StrangeETag(), on="index", times=2)
    server.inject(Unmodified(), on="index")
    first = _get(server, "/models.json")
    second = _get(server, "/models.json", {"If-None-Match": first.headers["etag"]})
    assert second.status_code == 200
    assert second.headers["etag"] != first.headers["etag"]
    third = _get(server, "/models.json")
    assert (third.status_code, third.content) == (304, b"")


def test_headers_can_be_changed(server: FaultyRegistry, chunk: str) -> None:
    """A right answer can lack a header, or have another value, whatever the spelling of its name."""
    server.inject(Headers({"etag": None, "accept-ranges": "none", "X-New": "1"}))
    answer = _get(server, chunk)
    assert "etag" not in answer.headers
    assert (answer.headers["accept-ranges"], answer.headers["x-new"]) == ("none", "1")
    assert answer.content == _FIRST


def test_faults_combine(server: FaultyRegistry, chunk: str) -> None:
    """Several faults spoil one answer together, a fault of the test's own among them."""

    class Reversed:
        def change_answer(self, answer: Answer) -> None:
            answer.body = answer.whole_body()[::-1]

    server.inject(Reversed(), Corrupt(0), ChunkedEncoding(), Truncate(1000))
    raw, end = _raw(server, chunk)
    wanted = bytearray(_FIRST[::-1][:1000])
    wanted[0] ^= 0xFF
    assert _body(raw) == b"3e8\r\n" + bytes(wanted) + b"\r\n"
    assert end == "closed"


# --- holds, records, ends -------------------------------------------------------------------------


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
def test_closing_ends_everything(made: MadeRegistry, chunk: str, fault: Fault) -> None:
    """A closed server has no thread left, whatever it was doing, refuses connections, and can be closed again."""
    before = threading.active_count()
    with FaultyRegistry(made.root) as server, ThreadPoolExecutor(2) as pool:
        server.inject(fault, on="chunk")
        hold = server.hold("index")
        futures = [pool.submit(_raw, server, chunk), pool.submit(_raw, server, "/models.json")]
        hold.wait_reached()
        server.wait_for(1, "chunk")
        server.close()
        for each in futures:
            each.result(_TIMEOUT_S)
        assert server.open_connections == 0
    assert threading.active_count() == before
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
