"""The right answer to a request (RFC 9110), as a value that faults may spoil before it is sent.

Source: RFC 9110 §13 (validators), §14 (ranges).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import responses
from typing import Literal

from xprim_nb.testing.library import FileSlice, Library

__all__ = ["Answer", "Cut", "Question", "plain_answer", "question_of", "reason_of", "right_answer"]

_RANGE = re.compile(r"bytes=(\d*)-(\d*)\Z")


@dataclass(slots=True)
class Question:
    """What a request asks, as far as the answer depends on it. Faults may change it.

    Attributes:
        path: Below the registry's base.
        range: First and last byte, last None when open; first None for a suffix of `last` bytes.
        if_none_match: The header's value.
        if_modified_since: The header's value.
        if_range: The header's value.
    """

    path: str
    range: tuple[int | None, int | None] | None
    if_none_match: str
    if_modified_since: str
    if_range: str


@dataclass(frozen=True, slots=True)
class Cut:
    """Where an answer ends too early: after n bytes of the body, or before its first line (None), and how."""

    after_bytes: int | None
    how: Literal["finish", "close", "reset", "stall"]


@dataclass(slots=True)
class Answer:
    """What is about to be sent. Faults change it.

    Attributes:
        path: What was asked for, below the registry's base.
        status: `200`.
        headers: Sent in this order; the framing headers are added while sending.
        body: The bytes to send.
        framing: How the client learns where the body ends.
        declared_bytes: The Content-Length; the true length when None.
        first_bytes: Sent instead of status line, headers and body, where not None.
        filler_bytes: Zeros sent after the body; endless when None.
        cut: Where it ends too early.
        delay_s: Silence before the status line, in seconds.
        bytes_s: Pace of the body in bytes a second; as fast as possible when None.
        asked_first: First byte of the range asked for; 0 without one.
    """

    path: str
    status: int
    headers: dict[str, str]
    body: bytes | FileSlice = b""
    framing: Literal["length", "close", "chunked"] = "length"
    declared_bytes: int | None = None
    first_bytes: bytes | None = None
    filler_bytes: int | None = 0
    cut: Cut | None = None
    delay_s: float = 0.0
    bytes_s: float | None = None
    asked_first: int = 0
    opened: list[FileSlice] = field(default_factory=list)

    def whole_body(self) -> bytes:
        """The body in memory."""
        return self.body.read(0, len(self.body)) if isinstance(self.body, FileSlice) else self.body

    def close(self) -> None:
        """Close the files behind the body."""
        for each in self.opened:
            each.close()


def question_of(path: str, headers: Mapping[str, str]) -> Question:
    """What a request with these headers asks. Several ranges at once are not understood, and so ignored."""
    found = _RANGE.match(headers.get("range", "").replace(" ", ""))
    asked: tuple[int | None, int | None] | None = None
    if found is not None and (found[1] or found[2]):
        asked = (int(found[1]) if found[1] else None, int(found[2]) if found[2] else None)
        if asked[0] is not None and asked[1] is not None and asked[1] < asked[0]:
            asked = None  # RFC 9110 §14.1.1: invalid, to be ignored
    return Question(
        path,
        asked,
        headers.get("if-none-match", ""),
        headers.get("if-modified-since", ""),
        headers.get("if-range", ""),
    )


def reason_of(status: int) -> str:
    """The words that belong to a status code."""
    return responses.get(status, "Unheard Of")


def plain_answer(path: str, status: int, headers: Mapping[str, str], text: str = "") -> Answer:
    """An answer of one line of text."""
    body = (text or reason_of(status)).encode() + b"\n"
    return Answer(path, status, {"Content-Type": "text/plain; charset=utf-8", **headers}, body)


def right_answer(question: Question, library: Library) -> Answer:
    """The answer of a server without faults: 200, 206, 304, 404 or 416."""
    found = library.find(question.path)
    if found is None:
        return plain_answer(question.path, 404, {})
    headers = {"Content-Type": found.content_type, "Accept-Ranges": "bytes", "ETag": found.etag}
    if found.last_modified:
        headers["Last-Modified"] = found.last_modified
    answer = Answer(question.path, 200, headers, found.body)
    if isinstance(found.body, FileSlice):
        answer.opened.append(found.body)
    if _unchanged(question, found.etag, found.last_modified):
        answer.status, answer.body = 304, b""
    elif question.range is not None and question.if_range in ("", found.etag, found.last_modified):
        _narrow(answer, question.range)
    return answer


def _unchanged(question: Question, etag: str, last_modified: str) -> bool:
    if question.if_none_match:
        listed = [tag.strip().removeprefix("W/") for tag in question.if_none_match.split(",")]
        return "*" in listed or etag in listed
    return bool(last_modified) and question.if_modified_since == last_modified


def _narrow(answer: Answer, asked: tuple[int | None, int | None]) -> None:
    size = len(answer.body)
    first, last = asked
    if first is None:
        first, last = max(size - (last or 0), 0), size - 1
    stop = size if last is None else min(last + 1, size)
    if first >= stop:
        answer.status, answer.headers["Content-Range"] = 416, f"bytes */{size}"
        answer.body = b"Requested Range Not Satisfiable\n"
        return
    answer.status, answer.asked_first = 206, first
    answer.headers["Content-Range"] = f"bytes {first}-{stop - 1}/{size}"
    if isinstance(answer.body, FileSlice):
        answer.body.narrow(first, stop)
    else:
        answer.body = answer.body[first:stop]
