"""What is said when no answer came."""

from __future__ import annotations

import http.client
import ssl

import httpx2
import pytest

from xprim_nb.registry.sources.contract import SourceError, SourceStalledError
from xprim_nb.registry.sources.failures import failure

_URL = "https://reader:secret@models.example.org/data/ab?signature=secret"


def _distrust() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    return error


def test_a_certificate_that_is_not_trusted_is_final() -> None:
    """However deep the client buried it, an untrusted certificate is final and says what to set."""
    outer = httpx2.ConnectError("TLS failed")
    outer.__cause__ = OSError("handshake")
    outer.__cause__.__context__ = _distrust()
    for error in (_distrust(), outer):
        found = failure(_URL, error)
        assert not found.retryable
        assert "self-signed certificate" in str(found)
        assert "SSL_CERT_FILE" in found.hint
        assert "verify" in found.hint


@pytest.mark.parametrize(
    ("status", "retryable", "hint"),
    [(407, False, "proxy's URL"), (403, False, "NO_PROXY"), (502, True, "NO_PROXY")],
)
def test_a_proxys_refusal_is_judged_by_its_status(status: int, retryable: bool, hint: str) -> None:
    """A proxy that says no says no; one in trouble is asked again."""
    found = failure(_URL, OSError(f"Tunnel connection failed: {status}"), proxy_status=status)
    assert (found.retryable, found.status) == (retryable, status)
    assert "the proxy" in str(found)
    assert hint in found.hint


def test_silence_is_a_stall() -> None:
    """Who waited in vain gets an error of its own kind, worth another try."""
    found = failure(_URL, TimeoutError("timed out"), stalled=True)
    assert isinstance(found, SourceStalledError)
    assert found.retryable


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (httpx2.ReadError(""), "ReadError"),
        (http.client.BadStatusLine("SPQR"), "SPQR"),
    ],
)
def test_a_bad_line_is_worth_another_try(error: Exception, reason: str) -> None:
    """All else is retryable and says why, in the system's words where it has some."""
    found = failure(_URL, error)
    assert type(found) is SourceError
    assert found.retryable
    assert str(found).endswith(f"could not be fetched: {reason}.")
    assert not failure(_URL, error, final=True).retryable


def test_a_servers_garbage_does_not_fill_the_screen() -> None:
    """A reason that a server chose is cut and harmless for a terminal."""
    found = failure(_URL, http.client.BadStatusLine("\x1b[2J\r\n" + "x" * 10_000))
    assert len(str(found)) < 400
    assert str(found).isprintable()


def test_no_secret_is_told() -> None:
    """Neither the password nor the signature in the URL is in an error."""
    for error in (_distrust(), OSError("gone")):
        found = failure(_URL, error)
        assert "secret" not in str(found) + found.subject + found.hint
