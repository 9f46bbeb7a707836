"""What an HTTP answer means, decided without a connection."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from xprim_nb.errors import HashMismatchError
from xprim_nb.registry.sources.answers import (
    Body,
    clean_url,
    judge_body,
    origin,
    redirect_target,
    refuse_status,
    request_headers,
    shown_url,
    whole_number,
)
from xprim_nb.registry.sources.contract import SourceError

_URL = "https://reader:secret@models.example.org/v1/data/ab"
_SHOWN = "https://reader:***@models.example.org/v1/data/ab"
# More digits than Python turns into a number.
_ENDLESS = "9" * 5000


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://example.org/x", ("http", "example.org", 80)),
        ("https://example.org/x", ("https", "example.org", 443)),
        ("https://ann:pw@EXAMPLE.org:8443/x", ("https", "example.org", 8443)),
        ("http://[::1]:8000/", ("http", "::1", 8000)),
    ],
)
def test_an_origin_is_scheme_host_and_port(url: str, expected: tuple[str, str, int]) -> None:
    """What credentials belong to is told apart by scheme, host and port, whatever else the URL says."""
    assert origin(url) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://example.org/a b/é?q=ü#top", "http://example.org/a%20b/%C3%A9?q=%C3%BC"),
        ("http://example.org/a%20b?x=1&y=[2]", "http://example.org/a%20b?x=1&y=[2]"),
        ("http://example.org", "http://example.org"),
    ],
)
def test_a_url_is_made_fit_for_a_request(url: str, expected: str) -> None:
    """What may not stand in a request line is escaped, and what is escaped already is left alone."""
    assert clean_url(url) == expected
    assert clean_url(expected) == expected


@pytest.mark.parametrize(
    "url", ["http://", "/data", "http://[::1", "http://host:port/", "http://host:99999/", "http://host:0/"]
)
def test_a_url_without_host_or_port_is_none(url: str) -> None:
    """A URL that nothing can be asked at is a ValueError, in time."""
    with pytest.raises(ValueError, match=r".+"):
        clean_url(url)


def test_a_shown_url_keeps_secrets() -> None:
    """Neither a password nor the signature in a query is shown."""
    assert shown_url(_URL) == _SHOWN
    assert shown_url("https://cdn.example.org/ab?X-Signature=abc") == "https://cdn.example.org/ab?***"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("10485760", 10485760),
        ("", None),
        ("-1", None),
        ("1e9", None),
        ("٣", None),
        (_ENDLESS, None),
    ],
)
def test_only_plain_digits_are_a_number(text: str, expected: int | None) -> None:
    """Signs, exponents, other scripts' digits and numbers without end are no lengths."""
    assert whole_number(text) == expected


def test_a_request_asks_for_plain_bytes_from_where_it_is() -> None:
    """Every request asks for an uncompressed body, and for a range only when something is here already."""
    assert request_headers()["Accept-Encoding"] == "identity"
    assert "Range" not in request_headers()
    assert request_headers(1000)["Range"] == "bytes=1000-"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("https://cdn.example.org/ab?sig=1", "https://cdn.example.org/ab?sig=1"),
        ("/elsewhere", "https://reader:secret@models.example.org/elsewhere"),
        ("cd", "https://reader:secret@models.example.org/v1/data/cd"),
        ("//cdn.example.org/ab", "https://cdn.example.org/ab"),
        ("/über uns", "https://reader:secret@models.example.org/%C3%BCber%20uns"),
    ],
)
def test_a_redirect_leads_somewhere(status: int, location: str, target: str) -> None:
    """A redirect's target is absolute, whether it was written so or not."""
    assert redirect_target(_URL, status, {"location": location}) == target


@pytest.mark.parametrize("status", [200, 206, 300, 304, 404, 500])
def test_other_answers_are_no_redirects(status: int) -> None:
    """Only the five statuses of a redirect redirect, whatever headers there are."""
    assert redirect_target(_URL, status, {"location": "https://elsewhere.example.org/"}) is None


@pytest.mark.parametrize(
    "location",
    [
        "",
        "mailto:ann@example.org",
        "javascript:alert(1)",
        "file:///etc/passwd",
        "https://[bad",
        "//h:x/",
    ],
)
def test_a_redirect_to_nowhere_is_final(location: str) -> None:
    """A target that cannot be asked is an error of ours, which says so without the password."""
    with pytest.raises(SourceError, match="nowhere") as caught:
        redirect_target(_URL, 302, {"location": location} if location else {})
    assert not caught.value.retryable
    assert caught.value.subject == _SHOWN


def test_a_redirect_does_not_leave_tls() -> None:
    """A redirect from https to http is refused for good; from http to https is welcome."""
    with pytest.raises(SourceError, match="https to http") as caught:
        redirect_target(_URL, 302, {"location": "http://models.example.org/v1/data/ab"})
    assert not caught.value.retryable
    target = "https://models.example.org/ab"
    assert redirect_target("http://models.example.org/ab", 301, {"location": target}) == target


@pytest.mark.parametrize(
    ("status", "received", "headers", "body"),
    [
        (200, 0, {}, Body(restart=True, length=10)),
        (200, 4, {}, Body(restart=True, length=10)),
        (206, 4, {"content-range": "bytes 4-9/10"}, Body(restart=False, length=6)),
    ],
)
def test_a_status_that_carries_the_object_is_not_refused(
    status: int, received: int, headers: dict[str, str], body: Body
) -> None:
    """200 and 206 pass, and say from where on the body is read."""
    refuse_status(_URL, status, headers)
    assert judge_body(_URL, status, headers, received, 10) == body


@pytest.mark.parametrize(
    ("status", "retryable"),
    [(code, True) for code in (408, 425, 429, 500, 502, 503, 504, 599, 999)]
    + [(code, False) for code in (201, 204, 304, 400, 401, 403, 404, 405, 407, 410, 416, 451)],
)
def test_a_status_says_whether_to_try_again(status: int, retryable: bool) -> None:
    """Servers in trouble are asked again; an answer that would be the same is final."""
    with pytest.raises(SourceError, match=str(status)) as caught:
        refuse_status(_URL, status, {})
    assert (caught.value.retryable, caught.value.status) == (retryable, status)
    assert caught.value.subject == _SHOWN
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("0", 0.0, 0.0),
        ("7", 7.0, 7.0),
        ("3600", 60.0, 60.0),
        (_ENDLESS, 60.0, 60.0),
        (timedelta(seconds=30), 15.0, 30.0),
        (timedelta(days=2), 60.0, 60.0),
        (timedelta(days=-2), 0.0, 0.0),
        ("Sat, 01 Jan 2000 00:00:00", 0.0, 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str | timedelta, least: float, most: float) -> None:
    """Retry-After is read in both spellings, and a server's longest wish is a minute."""
    if isinstance(text, timedelta):
        text = format_datetime(datetime.now(UTC) + text, usegmt=True)
    with pytest.raises(SourceError) as caught:
        refuse_status(_URL, 429, {"retry-after": text})
    assert caught.value.retry_after_s is not None
    assert least <= caught.value.retry_after_s <= most


@pytest.mark.parametrize(
    "text", ["", "soon", "-5", "1.5", "Mon, 32 Foo 2026", "Thu, 01 Jan 99999999999999999999 00:00:00 GMT"]
)
def test_a_strange_retry_after_is_ignored(text: str) -> None:
    """What is neither a number nor a date asks for nothing."""
    with pytest.raises(SourceError) as caught:
        refuse_status(_URL, 503, {"retry-after": text})
    assert caught.value.retry_after_s is None


@pytest.mark.parametrize(
    ("status", "headers", "received", "expected"),
    [
        (200, {}, 0, Body(restart=True, length=1000)),
        (200, {"content-length": "1000"}, 0, Body(restart=True, length=1000)),
        (200, {"content-length": _ENDLESS}, 0, Body(restart=True, length=1000)),
        (200, {"content-length": "1000", "content-encoding": "identity"}, 0, Body(restart=True, length=1000)),
        (200, {"content-length": "1000"}, 400, Body(restart=True, length=1000)),
        (206, {"content-range": "bytes 400-999/1000"}, 400, Body(restart=False, length=600)),
        (
            206,
            {"content-range": "bytes 400-999/*", "content-length": "600"},
            400,
            Body(restart=False, length=600),
        ),
        (206, {"content-range": "bytes 0-999/1000"}, 0, Body(restart=True, length=1000)),
    ],
)
def test_a_good_body_is_read(status: int, headers: dict[str, str], received: int, expected: Body) -> None:
    """The whole object begins anew, the range that was asked for goes on."""
    assert judge_body(_URL, status, headers, received, 1000) == expected


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (206, {}),
        (206, {"content-range": "bytes 401-999/1000"}),
        (206, {"content-range": "bytes 400-998/1000"}),
        (206, {"content-range": "bytes 0-999/1000"}),
        (206, {"content-range": "chapters 4-9/10"}),
        (206, {"content-range": f"bytes {_ENDLESS}-{_ENDLESS}/*"}),
        (206, {"content-type": "multipart/byteranges; boundary=x"}),
        (416, {}),
        (416, {"content-range": "bytes */1000"}),
    ],
)
def test_a_refused_range_is_no_failure(status: int, headers: dict[str, str]) -> None:
    """A server that cannot go on where we are is asked for all of it: nothing is wrong with the object."""
    assert judge_body(_URL, status, headers, 400, 1000) is None


@pytest.mark.parametrize(
    ("status", "headers", "received"),
    [
        (200, {"content-length": "999"}, 0),
        (200, {"content-length": "1001"}, 400),
        (206, {"content-range": "bytes 400-998/999"}, 400),
        (206, {"content-range": "bytes 400-999/1000", "content-length": "601"}, 400),
        (416, {"content-range": "bytes */300"}, 400),
    ],
)
def test_another_length_is_another_object(status: int, headers: dict[str, str], received: int) -> None:
    """An object of another length than the chunk cannot be it, and is not even read."""
    with pytest.raises(HashMismatchError, match="1000") as caught:
        judge_body(_URL, status, headers, received, 1000)
    assert caught.value.subject == _SHOWN


def test_a_part_nobody_asked_for_is_a_failed_try() -> None:
    """206 to a request without a range is an answer to somebody else's question."""
    with pytest.raises(SourceError, match="a part") as caught:
        judge_body(_URL, 206, {"content-range": "bytes 5-999/1000"}, 0, 1000)
    assert caught.value.retryable


def test_416_without_a_range_is_final() -> None:
    """A server that refuses the whole object refuses it for good."""
    with pytest.raises(SourceError, match="416") as caught:
        judge_body(_URL, 416, {}, 0, 1000)
    assert not caught.value.retryable


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "GZIP", "identity, gzip", "x" * 1000])
def test_a_compressed_object_is_refused(encoding: str) -> None:
    """A chunk is its bytes: a server that compresses it anyway is told what to change, in a short sentence."""
    with pytest.raises(SourceError, match="Content-Encoding") as caught:
        judge_body(_URL, 200, {"content-encoding": encoding, "content-length": "77"}, 0, 1000)
    assert not caught.value.retryable
    assert "compression" in caught.value.hint
    assert len(str(caught.value)) < 300
