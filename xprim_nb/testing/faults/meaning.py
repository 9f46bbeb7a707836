"""What the status line and the headers claim."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime

from xprim_nb.testing.answers import Answer, Question, plain_answer

__all__ = [
    "Headers",
    "IgnoreRange",
    "Redirect",
    "ShiftedRange",
    "Status",
    "StrangeETag",
    "Unmodified",
    "rate_limited",
]


@dataclass(frozen=True, slots=True)
class Status:
    """Another status, with its own short body."""

    code: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def change_answer(self, answer: Answer) -> None:
        """Replace the answer."""
        plain = plain_answer(answer.path, self.code, self.headers)
        answer.status, answer.headers, answer.body = self.code, plain.headers, self.body or plain.body


def rate_limited(seconds: int | None = None, *, at: datetime | None = None, code: int = 429) -> Status:
    """429 with Retry-After in seconds, or as the HTTP date of an aware `at`."""
    value = format_datetime(at, usegmt=True) if at is not None else str(seconds)
    return Status(code, {} if seconds is None and at is None else {"Retry-After": value})


@dataclass(frozen=True, slots=True)
class Redirect:
    """A redirect. In `to`, `{path}` is the path below the base that was asked for.

    `Redirect("?again")` is relative and served when followed; always injected, it is a loop.
    `Redirect(other.url + "{path}")` leads to another origin.
    """

    to: str
    code: int = 302

    def change_answer(self, answer: Answer) -> None:
        """Replace it."""
        location = self.to.replace("{path}", answer.path)
        Status(self.code, {"Location": location}).change_answer(answer)


@dataclass(frozen=True, slots=True)
class IgnoreRange:
    """The whole object with 200, whatever range was asked for."""

    def change_question(self, question: Question) -> None:
        """Forget the range."""
        question.range = None


@dataclass(frozen=True, slots=True)
class ShiftedRange:
    """Bytes from another offset than asked for: `by` bytes further.

    Told, the Content-Range says so. Not told, it names the range that was asked for: only a hash finds out.
    """

    by: int = 1
    told: bool = True

    def change_question(self, question: Question) -> None:
        """Shift the range that is answered."""
        first, last = question.range or (None, None)
        if self.told and first is not None:
            question.range = (max(first + self.by, 0), None if last is None else last + self.by)

    def change_answer(self, answer: Answer) -> None:
        """Turn the bytes in their place."""
        if not self.told and answer.status == 206:
            body = answer.whole_body()
            answer.body = body[self.by :] + body[: self.by]


@dataclass(frozen=True, slots=True)
class StrangeETag:
    """A new ETag with every answer, and no 304 ever."""

    def change_question(self, question: Question) -> None:
        """Forget the validators."""
        question.if_none_match = question.if_modified_since = ""

    def change_answer(self, answer: Answer) -> None:
        """Invent one."""
        answer.headers["ETag"] = f'"{secrets.token_hex(8)}"'
        answer.headers.pop("Last-Modified", None)


@dataclass(frozen=True, slots=True)
class Unmodified:
    """304, asked or not."""

    def change_answer(self, answer: Answer) -> None:
        """Claim that the client has it already."""
        answer.status, answer.body = 304, b""


@dataclass(frozen=True, slots=True)
class Headers:
    """The right answer with these headers; None takes one away."""

    changed: Mapping[str, str | None]

    def change_answer(self, answer: Answer) -> None:
        """Change them."""
        for name, value in self.changed.items():
            for known in [known for known in answer.headers if known.lower() == name.lower()]:
                del answer.headers[known]
            if value is not None:
                answer.headers[name] = value
