"""What it means when a server that runs models refuses, breaks off or cannot be reached: our errors, decided purely.

    1. 401, 403                      KeyRefusedError
    2. 404 that speaks of a model    NotInstalledError
    3. 429                           RateLimitedError, but for a spent quota, which waiting does not mend
    4. 408, 409, 425, 5xx            ProviderError, retryable
    5. any other status              ProviderError, final: the server's words say what it does not like
    6. no answer at all              ProviderError, retryable, but for a certificate that is not trusted

What a server says is told in its own words, cut, made harmless, and with the key taken out: servers quote keys.

Source: spec 4 §Install on first use; STYLE rule 6; RFC 9110 §10.2.3 (Retry-After); the servers' own documentation.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from xprim_nb._text import clean
from xprim_nb.errors import KeyRefusedError, NotInstalledError, ProviderError, RateLimitedError, XprimError

__all__ = [
    "Peer",
    "answer_failure",
    "broken_failure",
    "closed_failure",
    "garbled",
    "line_failure",
    "status_failure",
    "words",
]

# Enough for any honest reason; a server that sends a page of HTML does not fill the screen with it.
_LONGEST_WORDS = 300
_REFUSED, _PASSING = {401, 403}, {408, 409, 425, 429}
# 501 is for ever.
_FINAL_5XX = {501, 505}
# OpenAI's words for an account without credit, which come as 429.
_SPENT = ("insufficient_quota", "billing_hard_limit_reached")
# Errors inside a stream have no status of their own: Anthropic's names for the ones it would have had.
_TYPES = {
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "api_error": 500,
    "overloaded_error": 529,
}


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is talked to, as errors name it.

    Attributes:
        name: The backend's name.
        url: Fit to be shown: no password.
        key: Taken out of everything that is said.
    """

    name: str
    url: str
    key: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.name} at {self.url}"

    def scrub(self, text: str) -> str:
        """The text without the key, fit for one line of a message."""
        if self.key:
            text = text.replace(self.key, "***")
        return " ".join(clean(text[:_LONGEST_WORDS]).split()).rstrip(". ")


def words(body: object) -> str:
    """What a server says in the body of a refusal, whichever of the usual forms it has.

    >>> words({"error": {"message": "no"}}), words({"error": "no"}), words({"detail": "no"}), words(b"no")
    ('no', 'no', 'no', 'no')
    """
    if isinstance(body, bytes | str):
        text = body.decode(errors="replace") if isinstance(body, bytes) else body
        try:
            parsed: object = json.loads(text)
        except ValueError:
            return text
        return words(parsed) if isinstance(parsed, Mapping) else text
    if isinstance(body, Mapping):
        for name in ("error", "message", "detail"):
            if body.get(name):
                return words(body[name])
    return json.dumps(body, default=str) if body else ""


def status_failure(
    peer: Peer, status: int, headers: Mapping[str, str], body: object, *, model: str = ""
) -> XprimError:
    """The error for an answer that is none.

    Args:
        peer: Who answered.
        status: The HTTP status.
        headers: Names in lower case.
        body: Its bytes, or what was parsed of them.
        model: The model that was asked for; empty when none was.
    """
    said = words(body)
    told = peer.scrub(said)
    message = f"{peer} answered {status}{f': {told}' if told else ''}."
    if status in _REFUSED:  # 1
        return KeyRefusedError(message, subject=peer.url, status=status)
    if status == 404 and model and "model" in said.lower():  # 2
        return NotInstalledError(
            f"{peer} has no model {model!r}: {told}.", subject=model, hint="Name a model that it serves."
        )
    if status == 429 and not any(word in _json_text(body) for word in _SPENT):  # 3
        return RateLimitedError(message, subject=peer.url, retry_after_s=_retry_after_s(headers))
    passing = status != 429 and (status in _PASSING or (status >= 500 and status not in _FINAL_5XX))  # 4, 5
    hint = "The message is the server's own; try other options, or another model."
    if 300 <= status < 400:
        hint = "No redirect is followed, because the key would go along: give the address that it leads to."
    hint = "" if passing else hint
    return ProviderError(message, subject=model or peer.url, hint=hint, status=status, retryable=passing)


def line_failure(peer: Peer, error: object, *, model: str) -> XprimError:
    """The error for one that came inside a stream, where the status had been sent already."""
    inner = error.get("error", error) if isinstance(error, Mapping) else error
    fields = inner if isinstance(inner, Mapping) else {}
    status = _TYPES.get(str(fields.get("type")), 0)
    if not status and isinstance(fields.get("code"), int) and fields["code"] >= 400:
        status = fields["code"]
    if status:
        return status_failure(peer, status, {}, inner, model=model)
    told = peer.scrub(words(inner))
    return ProviderError(
        f"{peer} ended the answer with an error: {told or 'it does not say which'}.",
        subject=model,
        hint="The message is the server's own; its log may say more.",
        retryable=True,
    )


def answer_failure(peer: Peer, error: BaseException, *, timed_out: bool = False) -> ProviderError:
    """The error for a connection that could not be made, or ended before the answer did."""
    distrusted = _distrust(error)
    if distrusted is not None:
        return ProviderError(
            f"{peer}: the server's certificate is not trusted ({distrusted}).",
            subject=peer.url,
            hint="Set SSL_CERT_FILE to your organisation's certificates.",
        )
    if timed_out:
        reason = "it did not answer in time"
    else:
        reason = peer.scrub(getattr(error, "strerror", None) or str(error) or type(error).__name__)
    return ProviderError(
        f"{peer} cannot be reached, or broke off: {reason}.", subject=peer.url, retryable=True
    )


def broken_failure(where: str, model: str) -> ProviderError:
    """The error of an answer that ended without its end."""
    return ProviderError(
        f"{model} at {where} broke off in the middle of its answer.", subject=model, retryable=True
    )


def closed_failure(where: str, model: str) -> ProviderError:
    """The error of an answer whose model was closed meanwhile."""
    return ProviderError(
        f"{model} at {where} was closed, and answers no more.",
        subject=model,
        hint="Load it again; nothing is wrong with the server.",
    )


def garbled(peer: Peer, what: str) -> ProviderError:
    """The error for bytes that are not what the protocol says."""
    return ProviderError(
        f"{peer} answered with {peer.scrub(what)}.",
        subject=peer.url,
        hint="Does the address belong to a server of this kind? Its documentation names the base URL.",
    )


def _json_text(body: object) -> str:
    return body.decode(errors="replace") if isinstance(body, bytes) else json.dumps(body, default=str)


def _retry_after_s(headers: Mapping[str, str]) -> float:
    """How long the server asks to wait: OpenAI's milliseconds, else seconds, else until a date; 0.0 for no word."""
    exact = headers.get("retry-after-ms", "")
    if exact.isascii() and exact.isdigit():
        return int(exact) / 1000
    text = headers.get("retry-after", "")
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def _distrust(error: BaseException | None) -> str | None:
    """Why a certificate was refused, wherever in the chain of causes that is said."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        error = error.__cause__ or error.__context__
    return None
