"""Which bytes come, and how many the head promises."""

from __future__ import annotations

import gzip
from dataclasses import dataclass

from xprim_nb.testing.answers import Answer, Question

__all__ = [
    "ChunkedEncoding",
    "Corrupt",
    "Gzip",
    "Longer",
    "NoLength",
    "OtherObject",
    "Replace",
    "WrongLength",
]


@dataclass(frozen=True, slots=True)
class Corrupt:
    """All bits of one byte of this answer's body flipped: byte `at`, from the end when negative."""

    at: int = 0

    def change_answer(self, answer: Answer) -> None:
        """Flip the byte.

        Raises:
            IndexError: The body has no such byte: the fault would not happen, and a test prove nothing.
        """
        body = bytearray(answer.whole_body())
        body[self.at] ^= 0xFF
        answer.body = bytes(body)


@dataclass(frozen=True, slots=True)
class OtherObject:
    """The right answer to another question: a path below the base, or a digest."""

    name: str

    def change_question(self, question: Question) -> None:
        """Ask for the other one."""
        question.path = self.name if self.name.startswith("/") else f"/data/{self.name}"


@dataclass(frozen=True, slots=True)
class Replace:
    """200 with these bytes: a captive portal's page, say."""

    body: bytes
    content_type: str = "text/html"

    def change_answer(self, answer: Answer) -> None:
        """Replace it."""
        answer.status, answer.body = 200, self.body
        answer.headers = {"Content-Type": self.content_type}


@dataclass(frozen=True, slots=True)
class Longer:
    """`extra_bytes` zeros after the right bytes; without end when None.

    Not `declared`: the body ends with the connection. Declared: the Content-Length counts the extra bytes.
    """

    extra_bytes: int | None = None
    declared: bool = False

    def change_answer(self, answer: Answer) -> None:
        """Add the filler.

        Raises:
            ValueError: An endless body has no length to declare.
        """
        answer.filler_bytes = self.extra_bytes
        if self.declared:
            if self.extra_bytes is None:
                raise ValueError("an endless body has no length to declare.")
            answer.declared_bytes = len(answer.body) + self.extra_bytes
        elif answer.framing == "length":
            answer.framing = "close"


@dataclass(frozen=True, slots=True)
class Gzip:
    """The body compressed, with `Content-Encoding: gzip`, asked for or not."""

    def change_answer(self, answer: Answer) -> None:
        """Compress it."""
        answer.body = gzip.compress(answer.whole_body(), 1, mtime=0)
        answer.headers["Content-Encoding"] = "gzip"


@dataclass(frozen=True, slots=True)
class WrongLength:
    """A Content-Length that is `by` bytes too long, or too short when negative; then a close."""

    by: int

    def change_answer(self, answer: Answer) -> None:
        """Declare it."""
        answer.declared_bytes = max(len(answer.body) + self.by, 0)


@dataclass(frozen=True, slots=True)
class NoLength:
    """No Content-Length: the body ends with the connection."""

    def change_answer(self, answer: Answer) -> None:
        """Do not declare it."""
        answer.framing = "close"


@dataclass(frozen=True, slots=True)
class ChunkedEncoding:
    """`Transfer-Encoding: chunked` instead of a Content-Length."""

    def change_answer(self, answer: Answer) -> None:
        """Frame it so."""
        answer.framing = "chunked"
