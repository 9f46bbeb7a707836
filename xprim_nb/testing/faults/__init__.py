"""The ways an answer can go wrong, each a frozen value.

    before the answer   Status rate_limited Delay Stall(None) Drop Garbage
    while it is sent    Stall Truncate Drop Drip
    its bytes           Corrupt OtherObject Replace Longer Gzip
    its framing         WrongLength NoLength ChunkedEncoding
    its meaning         Redirect IgnoreRange ShiftedRange StrangeETag Unmodified Headers

A question and the right answer to it come in, spoiled ones go out. Several faults in one `inject` spoil the
same answer, in order. A fault is any object with `change_question`, `change_answer`, or both: a test can
bring its own.

Source: RFC 9110, RFC 9112; research pull, complaints 5 and 6.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias, runtime_checkable

from xprim_nb.testing.answers import Answer, Question
from xprim_nb.testing.faults.connection import Delay, Drip, Drop, Garbage, Stall, Truncate
from xprim_nb.testing.faults.content import (
    ChunkedEncoding,
    Corrupt,
    Gzip,
    Longer,
    NoLength,
    OtherObject,
    Replace,
    WrongLength,
)
from xprim_nb.testing.faults.meaning import (
    Headers,
    IgnoreRange,
    Redirect,
    ShiftedRange,
    Status,
    StrangeETag,
    Unmodified,
    rate_limited,
)

__all__ = [
    "ChangesAnswer",
    "ChangesQuestion",
    "ChunkedEncoding",
    "Corrupt",
    "Delay",
    "Drip",
    "Drop",
    "Fault",
    "Garbage",
    "Gzip",
    "Headers",
    "IgnoreRange",
    "Longer",
    "NoLength",
    "OtherObject",
    "Redirect",
    "Replace",
    "ShiftedRange",
    "Stall",
    "Status",
    "StrangeETag",
    "Truncate",
    "Unmodified",
    "WrongLength",
    "rate_limited",
]


@runtime_checkable
class ChangesQuestion(Protocol):
    """A fault that makes the server misunderstand what was asked."""

    def change_question(self, question: Question) -> None:
        """Change the question before the answer is made."""


@runtime_checkable
class ChangesAnswer(Protocol):
    """A fault that spoils the right answer."""

    def change_answer(self, answer: Answer) -> None:
        """Change the answer before it is sent."""


Fault: TypeAlias = ChangesQuestion | ChangesAnswer
