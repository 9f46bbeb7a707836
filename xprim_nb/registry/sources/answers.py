"""What an HTTP answer means, decided purely, for whichever client carries the bytes.

Source: RFC 9110 (ranges, redirects, Retry-After); spec 1 §Client.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from xprim_nb._text import format_count
from xprim_nb.config import mask_url
from xprim_nb.errors import HashMismatchError
from xprim_nb.registry.sources.contract import SourceError

__all__ = [
    "MAX_REDIRECTS",
    "Body",
    "clean_url",
    "judge_body",
    "origin",
    "redirect_target",
    "refuse_status",
    "request_headers",
    "shown_url",
    "whole_number",
]

MAX_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)\Z", re.ASCII)
_UNSATISFIED = re.compile(r"bytes \*/(\d{1,18})\Z", re.ASCII)
# Longer numbers are no lengths of anything, and Python refuses to read the longest of them.
_NUMBER = re.compile(r"\d{1,18}\Z", re.ASCII)
# A server that asks for more is treated as down for now; the user can come back.
_MAX_RETRY_AFTER_S = 60.0
# RFC 3986: what may stand in a path or query as it is; a '%' is an escape already.
_URL_CHARACTERS = "%/:?@!$&'()*+,;=~-._[]"


@dataclass(frozen=True, slots=True)
class Body:
    """How to read the body: `restart` when it begins at the chunk's first byte again."""

    restart: bool
    length: int


def clean_url(url: str) -> str:
    """The URL as it may stand in a request, without a fragment.

    Raises:
        ValueError: It names no host, or a port that is none.

    >>> clean_url("http://example.org/my models#top")
    'http://example.org/my%20models'
    """
    parts = urlsplit(url)
    if not parts.hostname or parts.port == 0:  # reading the port raises when it is no number
        raise ValueError("it names no host, or no port")
    path, query = (quote(text, safe=_URL_CHARACTERS) for text in (parts.path, parts.query))
    return urlunsplit(parts._replace(path=path, query=query, fragment=""))


def shown_url(url: str) -> str:
    """The URL fit for a message: no password, and nothing of its query, which may be a signature.

    >>> shown_url("https://cdn.example.org/data/ab?X-Signature=secret")
    'https://cdn.example.org/data/ab?***'
    """
    before, asked, _ = mask_url(url).partition("?")
    return f"{before}?***" if asked else before


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: what credentials belong to."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def whole_number(text: str) -> int | None:
    """The number of bytes that a header names; None when it names none."""
    return int(text) if _NUMBER.match(text) else None


def request_headers(received: int = 0) -> dict[str, str]:
    """Headers of every object request; from `received` on when that is above 0 bytes."""
    # Objects are named by their bytes: a compressed transfer would only hide its length from us.
    headers = {"Accept-Encoding": "identity", "User-Agent": "xprim-nb"}
    if received:
        headers["Range"] = f"bytes={received}-"
    return headers


def redirect_target(url: str, status: int, headers: Mapping[str, str]) -> str | None:
    """The absolute URL to ask instead; None when the answer is no redirect.

    Raises:
        SourceError: The redirect has no usable target, or leaves TLS.
    """
    if status not in _REDIRECTS:
        return None
    shown, location = shown_url(url), headers.get("location") or ""
    try:
        target = clean_url(urljoin(url, location))
    except ValueError:
        target = ""
    if not location or urlsplit(target).scheme not in ("http", "https"):
        raise SourceError(f"{shown} redirects to nowhere.", subject=shown, status=status, retryable=False)
    if urlsplit(url).scheme == "https" and urlsplit(target).scheme == "http":
        raise SourceError(
            f"{shown} redirects from https to http.",
            subject=shown,
            status=status,
            retryable=False,
            hint="Bytes would still be verified, but not confidential: use the http URL if that is meant.",
        )
    return target


def refuse_status(url: str, status: int, headers: Mapping[str, str]) -> None:
    """Raise unless the status carries the object.

    Raises:
        SourceError: Retryable for 408, 425, 429 and 5xx; final for every other error status.
    """
    if status in (200, 206):
        return
    retryable = status in (408, 425, 429) or status >= 500
    hints = {
        401: "The registry wants credentials: put them into Config(headers=…) or the URL.",
        403: "The registry refuses these credentials, or does not have the object.",
        404: "Is this the registry's base URL? It serves models.json and data/.",
        407: "The proxy wants credentials: put them into the proxy's URL.",
        429: "The registry asks to slow down: lower the concurrency or try again later.",
    }
    raise SourceError(
        f"{shown_url(url)} answered {status}.",
        subject=shown_url(url),
        hint=hints.get(status, ""),
        retryable=retryable,
        status=status,
        retry_after_s=_retry_after_s(headers.get("retry-after", "")),
    )


def judge_body(
    url: str, status: int, headers: Mapping[str, str], received: int, size_bytes: int
) -> Body | None:
    """How to read the answer to a request for a chunk of `size_bytes`, of which `received` are here.

    None when the server cannot go on at `received`: the chunk is to be asked for from its first byte.

    Raises:
        SourceError: The status is an error, or the answer is to another question.
        HashMismatchError: The object has another length than the chunk.
    """
    shown = shown_url(url)
    ranged = headers.get("content-range", "")
    if status == 416 and received:
        unsatisfied = _UNSATISFIED.match(ranged)
        _require_length(shown, int(unsatisfied[1]) if unsatisfied else None, size_bytes)
        return None
    refuse_status(url, status, headers)
    encoding = headers.get("content-encoding", "identity").lower()
    if encoding not in ("", "identity"):
        raise SourceError(
            f"{shown} is served with Content-Encoding {encoding[:40]!r}, although identity was asked for.",
            subject=shown,
            retryable=False,
            hint="Switch off compression for data/ on the server.",
        )
    begin = 0
    if status == 206:
        found = _CONTENT_RANGE.match(ranged)
        if found is not None and found[3] != "*":
            _require_length(shown, int(found[3]), size_bytes)
        if found is None or int(found[1]) != received or int(found[2]) != size_bytes - 1:
            if received:
                return None
            raise SourceError(f"{shown} sent a part where all was asked for.", subject=shown, status=status)
        begin = received
    announced = whole_number(headers.get("content-length", ""))
    _require_length(shown, None if announced is None else announced + begin, size_bytes)
    return Body(restart=begin == 0, length=size_bytes - begin)


def _require_length(shown: str, length: int | None, size_bytes: int) -> None:
    if length is not None and length != size_bytes:
        raise HashMismatchError(
            f"{shown} has {format_count(length, 'byte')} where the chunk has {size_bytes}.", subject=shown
        )


def _retry_after_s(text: str) -> float | None:
    if text.isascii() and text.isdigit():
        return min(float(text), _MAX_RETRY_AFTER_S)
    try:
        when = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return min(max((when - datetime.now(UTC)).total_seconds(), 0.0), _MAX_RETRY_AFTER_S)
