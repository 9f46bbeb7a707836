"""When and how the bytes come: silence, slowness, ends that are too early."""

from __future__ import annotations

from dataclasses import dataclass

from xprim_nb.testing.answers import Answer, Cut

__all__ = ["Delay", "Drip", "Drop", "Garbage", "Stall", "Truncate"]


@dataclass(frozen=True, slots=True)
class Delay:
    """Silence of `seconds` before the answer, which is then right."""

    seconds: float

    def change_answer(self, answer: Answer) -> None:
        """Delay it."""
        answer.delay_s = self.seconds


@dataclass(frozen=True, slots=True)
class Stall:
    """`after_bytes` of the body, then silence until the client leaves or the server closes.

    None is silence from the beginning, 0 is a head without a body.
    """

    after_bytes: int | None = 0

    def change_answer(self, answer: Answer) -> None:
        """Cut it."""
        answer.cut = Cut(self.after_bytes, "stall")


@dataclass(frozen=True, slots=True)
class Truncate:
    """`after_bytes` of the body, then a polite close.

    Without `declared` there is no Content-Length, and the client cannot know that bytes are missing.
    """

    after_bytes: int
    declared: bool = True

    def change_answer(self, answer: Answer) -> None:
        """Cut it."""
        answer.cut = Cut(self.after_bytes, "close" if self.declared else "finish")
        if not self.declared:
            answer.framing = "close"


@dataclass(frozen=True, slots=True)
class Drop:
    """The connection breaks after `after_bytes` of the body; with None before the answer.

    A reset (RST), or with `reset=False` a close without a word.
    """

    after_bytes: int | None = None
    reset: bool = True

    def change_answer(self, answer: Answer) -> None:
        """Cut it."""
        answer.cut = Cut(self.after_bytes, "reset" if self.reset else "close")


@dataclass(frozen=True, slots=True)
class Drip:
    """The body at `bytes_s` bytes a second: slow, and never silent."""

    bytes_s: float

    def change_answer(self, answer: Answer) -> None:
        """Slow it down."""
        answer.bytes_s = self.bytes_s


@dataclass(frozen=True, slots=True)
class Garbage:
    """These bytes instead of an HTTP answer, then a close."""

    sent: bytes = b"SPQR/9.9 \xff\xfe what?\r\n\r\n"

    def change_answer(self, answer: Answer) -> None:
        """Replace it."""
        answer.first_bytes = self.sent
