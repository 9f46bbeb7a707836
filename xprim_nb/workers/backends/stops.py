"""Stop texts, kept on our side: not every server takes as many as are asked for, and some send them along.

`transformers serve` ends an answer after the stop text, OpenAI takes four at most, Anthropic none of blanks alone.

Source: spec 4 §Faces; `Sampling.stop` ("the answer ends before any of these texts").
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["StopText"]


class StopText:
    """Lets text through up to the first stop text, and holds back what may be the beginning of one.

    >>> stop = StopText(["END"])
    >>> [stop.feed(text) for text in ("one E", "N", "Dless")], stop.met
    (['one ', '', ''], True)

    Args:
        stops: Any of them ends the answer; empty ones are none.
    """

    def __init__(self, stops: Iterable[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.met = False

    def feed(self, text: str) -> str:
        """What can be let through now."""
        if self.met or not self._stops:
            return "" if self.met else text
        self._held += text
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.met = True
            cut = min(found)
        else:
            cut = len(self._held) - max(self._begun(stop) for stop in self._stops)
        out, self._held = self._held[:cut], "" if self.met else self._held[cut:]
        return out

    def rest(self) -> str:
        """What was held back, once the answer has ended without a stop text."""
        rest, self._held = self._held, ""
        return rest

    def _begun(self, stop: str) -> int:
        """How many characters at the end of what is held begin this stop text."""
        longest = min(len(stop) - 1, len(self._held))
        return next((size for size in range(longest, 0, -1) if self._held.endswith(stop[:size])), 0)
