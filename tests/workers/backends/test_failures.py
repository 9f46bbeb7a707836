"""`failures`: what a server says, in one sentence of ours."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from xprim_nb.errors import NotInstalledError, ProviderError, RateLimitedError
from xprim_nb.workers.backends.failures import Peer, answer_failure, line_failure, status_failure, words

_PEER = Peer("lab", "http://127.0.0.1:8000/v1", "sk-secret")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0.0),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "soon"}, 0.0),
        ({"retry-after": "nan"}, 0.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_how_long_to_wait_is_read_from_the_headers(headers: dict[str, str], seconds: float) -> None:
    """Milliseconds, seconds and dates are understood; what is none of them is no word."""
    error = status_failure(_PEER, 429, headers, b"slow down")
    assert isinstance(error, RateLimitedError)
    assert error.retry_after_s == seconds


def test_a_date_to_wait_for_becomes_seconds() -> None:
    """A moment in the future is as far away as the clock says."""
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    error = status_failure(_PEER, 429, {"retry-after": moment}, b"")
    assert isinstance(error, RateLimitedError)
    assert 50 < error.retry_after_s <= 60


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": {"message": "no"}}', "no"),
        (b'{"error": "no"}', "no"),
        (b'{"detail": [{"msg": "no"}]}', '[{"msg": "no"}]'),
        ({"type": "error", "error": {"type": "x", "message": "no"}}, "no"),
        (b"no", "no"),
        (b"", ""),
        (None, ""),
        (b"\xff", "\ufffd"),
    ],
)
def test_the_servers_words_are_found(body: object, said: str) -> None:
    """Each of the usual forms of a refusal gives its sentence."""
    assert words(body) == said


def test_what_a_server_says_cannot_harm() -> None:
    """A long, many-lined answer with control characters and the key becomes one short, plain line without it."""
    error = status_failure(_PEER, 500, {}, f"bad\n\x1b[31m sk-secret {'x' * 9000}")
    assert "sk-secret" not in error.message
    assert "\x1b" not in error.message
    assert "\n" not in error.message
    assert len(error.message) < 400


def test_a_missing_page_is_no_missing_model() -> None:
    """404 is a missing model only where a model was asked for and the answer speaks of it."""
    there = status_failure(_PEER, 404, {}, {"error": "model 'm' not found"}, model="m")
    assert isinstance(there, NotInstalledError)
    for error in (
        status_failure(_PEER, 404, {}, {"detail": "Not Found"}, model="m"),
        status_failure(_PEER, 404, {}, {"error": "model 'm' not found"}),
    ):
        assert isinstance(error, ProviderError)
        assert error.status == 404


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"error": {"message": "no", "code": 503}}, 503),
        ({"type": "overloaded_error", "message": "no"}, 529),
        ({"message": "no", "type": "x"}, 0),
        ("no", 0),
        ({"message": "no", "code": "123"}, 0),
    ],
)
def test_an_error_inside_a_stream_has_the_status_it_would_have_had(error: object, status: int) -> None:
    """Codes and names of errors stand for statuses; without either there is none, and it may be tried again."""
    told = line_failure(_PEER, error, model="m")
    assert isinstance(told, ProviderError)
    assert (told.status, told.retryable) == (status, True)
    assert "no" in told.message


def test_an_untrusted_certificate_is_final() -> None:
    """It is found wherever in the chain of causes it is, and trying again would not help."""
    inner = ssl.SSLCertVerificationError(1, "x")
    inner.verify_message = "self-signed certificate"
    outer = ConnectionError("failed")
    outer.__cause__ = inner
    told = answer_failure(_PEER, outer)
    assert "self-signed certificate" in told.message
    assert not told.retryable
