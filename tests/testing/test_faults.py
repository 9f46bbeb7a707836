"""Each fault does what it says, to the requests it is for, and to no others."""

from __future__ import annotations

import gzip
import socket
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx2
import pytest

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
from xprim_nb.testing.registries import MadeRegistry, random_bytes

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
        server.wait_for(1)
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
def test_truncation_ends_early(server: FaultyRegistry, chunk: str, after: int, ask_raw: _AskRaw) -> None:
    """The body ends too early: against its Content-Length, or without one and so unnoticed."""
    server.inject(Truncate(after))
    server.inject(Truncate(after, declared=False))
    raw, end = ask_raw(server, chunk, "")
    assert (_body(raw), end) == (_FIRST[:after], "closed")
    assert f"Content-Length: {_CHUNK_BYTES}".encode() in raw
    raw, end = ask_raw(server, chunk, "")
    assert (_body(raw), end) == (_FIRST[:after], "closed")
    assert b"Content-Length" not in raw
    assert server.bytes_sent("chunk") == 2 * after


@pytest.mark.parametrize("after", [None, 0, 1, 70_000])
def test_a_dropped_connection_breaks_at_its_byte(
    server: FaultyRegistry, chunk: str, after: int | None, ask_raw: _AskRaw
) -> None:
    """A reset comes exactly after the promised bytes, and so does a close without a word."""
    server.inject(Drop(after))
    server.inject(Drop(after, reset=False))
    for ending in ("reset", "closed"):
        raw, end = ask_raw(server, chunk, "")
        assert end == ending
        assert _body(raw) == _FIRST[: after or 0]
        assert bool(raw) == (after is not None)


def test_garbage_is_no_http(server: FaultyRegistry, chunk: str, ask_raw: _AskRaw) -> None:
    """A client that expects a status line gets something else."""
    server.inject(Garbage(), Corrupt(0))
    with pytest.raises(httpx2.RemoteProtocolError):
        _get(server, chunk)
    server.inject(Garbage(b"\x00\x01"))
    assert ask_raw(server, chunk, "") == (b"\x00\x01", "closed")


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
        first = next(answer.iter_raw())  # twenty bytes, or more where we were not at once there to read them
        assert _FIRST.startswith(first)
        assert 20 <= len(first) < _CHUNK_BYTES
    server.wait_for(1, done=True)
    assert server.requests[0].bytes_sent < _CHUNK_BYTES


def test_a_delay_comes_before_a_right_answer(server: FaultyRegistry, chunk: str) -> None:
    """A slow server is right in the end."""
    server.inject(Delay(0.1))
    begun = time.monotonic()
    assert _get(server, chunk).content == _FIRST
    assert time.monotonic() - begun > 0.09


@pytest.mark.parametrize("by", [-10, 10])
def test_a_wrong_length_is_declared(server: FaultyRegistry, chunk: str, by: int, ask_raw: _AskRaw) -> None:
    """The Content-Length is off by so many bytes, the body is whole, and the connection ends."""
    server.inject(WrongLength(by))
    raw, end = ask_raw(server, chunk, "")
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
    server: FaultyRegistry, chunk: str, faults: tuple[Fault, ...], header: bytes, ask_raw: _AskRaw
) -> None:
    """More bytes than the object has come after the right ones."""
    server.inject(*faults)
    raw, _ = ask_raw(server, chunk, "")
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


def test_compression_is_declared(server: FaultyRegistry, chunk: str, ask_raw: _AskRaw) -> None:
    """A gzip body says so, and is the object when unpacked."""
    server.inject(Gzip(), times=2)
    raw, _ = ask_raw(server, chunk, "Connection: close\r\n")
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


def test_faults_combine(server: FaultyRegistry, chunk: str, ask_raw: _AskRaw) -> None:
    """Several faults spoil one answer together, a fault of the test's own among them."""

    class Reversed:
        def change_answer(self, answer: Answer) -> None:
            answer.body = answer.whole_body()[::-1]

    server.inject(Reversed(), Corrupt(0), ChunkedEncoding(), Truncate(1000))
    raw, end = ask_raw(server, chunk, "")
    wanted = bytearray(_FIRST[::-1][:1000])
    wanted[0] ^= 0xFF
    assert _body(raw) == b"3e8\r\n" + bytes(wanted) + b"\r\n"
    assert end == "closed"
