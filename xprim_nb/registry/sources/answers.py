"""What an HTTP answer means, decided purely, for whichever client carries the bytes.

Source: RFC 9110 (ranges, redirects, Retry-After); spec 1 §Client.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin, urlsplit

from xprim_nb.config import mask_url
from xprim_nb.errors import HashMismatchError
from xprim_nb.registry.sources.contract import SourceError

__all__ = ["MAX_REDIRECTS", "Body", "judge_body", "origin", "redirect_target", "refuse_status", "request_headers"]

MAX_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)\Z")
# A server that asks for more is treated as down for now; the user can come back.
_MAX_RETRY_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class Body:
    """How to read the body: `restart` when it begins at the chunk's first byte again."""

    restart: bool
    length: int


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: what credentials belong to."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


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
    target = urljoin(url, headers.get("location") or "")
    if not headers.get("location") or urlsplit(target).scheme not in ("http", "https"):
        raise SourceError(f"{mask_url(url)} redirects to nowhere.", subject=mask_url(url), status=status, retryable=False)
    if urlsplit(url).scheme == "https" and urlsplit(target).scheme == "http":
        raise SourceError(
            f"{mask_url(url)} redirects from https to http.",
            subject=mask_url(url),
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
        f"{mask_url(url)} answered {status}.",
        subject=mask_url(url),
        hint=hints.get(status, ""),
        retryable=retryable,
        status=status,
        retry_after_s=_retry_after_s(headers.get("retry-after", "")),
    )


def judge_body(url: str, status: int, headers: Mapping[str, str], received: int, size_bytes: int) -> Body:
    """How to read the answer to a request for a chunk of `size_bytes`, of which `received` are here.

    Raises:
        SourceError: The status is an error, or the answer is to another question.
        HashMismatchError: The body announces another length than the chunk has.
    """
    shown = mask_url(url)
    if status == 416 and received:
        raise SourceError(f"{shown} refuses to go on at byte {received}.", subject=shown, status=status)
    refuse_status(url, status, headers)
    encoding = headers.get("content-encoding", "identity").lower()
    if encoding not in ("", "identity"):
        raise SourceError(
            f"{shown} is served with Content-Encoding {encoding}, although identity was asked for.",
            subject=shown,
            retryable=False,
            hint="Switch off compression for data/ on the server.",
        )
    begin = 0
    if status == 206:
        found = _CONTENT_RANGE.match(headers.get("content-range", ""))
        if found is None or int(found[1]) != received or int(found[2]) != size_bytes - 1:
            raise SourceError(f"{shown} sent another range than asked for.", subject=shown, status=status)
        begin = received
    announced = headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced) != size_bytes - begin:
        raise HashMismatchError(
            f"{shown} announces {int(announced)} bytes where the chunk has {size_bytes - begin}.", subject=shown
        )
    return Body(restart=begin == 0, length=size_bytes - begin)


def _retry_after_s(text: str) -> float | None:
    if text.isascii() and text.isdigit():
        return min(float(text), _MAX_RETRY_AFTER_S)
    try:
        when = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    return min(max((when - datetime.now(timezone.utc)).total_seconds(), 0.0), _MAX_RETRY_AFTER_S)
