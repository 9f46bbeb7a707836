"""Tokens come in, pieces of text go out: never half a character, and nothing of a stop text.

Source: spec 4 §Workers ("Streaming").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

__all__ = ["TextStream"]

_BROKEN = "\ufffd"  # what a tokenizer writes for bytes that are no whole character
# A character has at most four bytes: so many broken ones at the end may still become one.
_MOST_BROKEN = 3


class TextStream:
    """The text of one answer as it grows; all pieces together are what the tokens decode to, up to a stop text.

    What a token means can depend on those before it (a space before a word, bytes of one character). So the last few
    are decoded together, and what is new and certain is passed on.

    Args:
        decode: The text of some tokens.
        stops: The answer ends before any of these texts.

    Raises:
        ValueError: A stop text is empty.
    """

    def __init__(self, decode: Callable[[list[int]], str], stops: Sequence[str] = ()) -> None:
        if not all(stops):
            raise ValueError("A stop text is empty.")
        self._decode, self._stops = decode, tuple(stops)
        self._ids: list[int] = []
        # Tokens from `_window` on are decoded; those before `_read` had given whole characters by then.
        self._window = self._read = 0
        self._passed = 0  # letters of the window's text that have been passed on
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """The text that is certain now; sets `stopped` when a stop text was met."""
        self._ids.append(token)
        text = self._decode(self._ids[self._window :])
        whole = text.rstrip(_BROKEN)
        whole = text[: max(len(whole), len(text) - _MOST_BROKEN)]
        fresh = whole[self._passed :]
        if len(whole) == len(text):
            self._window, self._read = self._read, len(self._ids)
            self._passed = len(self._decode(self._ids[self._window : self._read]))
        else:
            self._passed = max(self._passed, len(whole))
        return self._pass(fresh)

    def finish(self) -> str:
        """What was held back: the answer ends here."""
        if self.stopped:
            return ""
        text = self._pass(self._decode(self._ids[self._window :])[self._passed :])
        if not self.stopped:
            text, self._held = text + self._held, ""
        return text

    def _pass(self, fresh: str) -> str:
        text = self._held + fresh
        found = [at for at in map(text.find, self._stops) if at >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        kept = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]


def _overlap(text: str, stop: str) -> int:
    """How many letters at the end of the text may be the beginning of the stop text."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
