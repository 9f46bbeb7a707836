"""When to try again, decided purely: mirrors in order, then a wait, then the next round.

    1. An answer ends it.
    2. A source that failed for good (404, an untrusted certificate) is not asked again for this object.
    3. No source left, or no round left: the gravest error of the last round is raised.
    4. Otherwise wait: 1, 2, 4 s … with jitter, or as long as the server asked for, and begin the next round.

Source: spec 1 §Client (3 tries; connection errors, timeouts, 5xx, 429; a hash mismatch counts as a try).
"""

from __future__ import annotations

from dataclasses import dataclass

from xprim_nb.errors import HashMismatchError, NetworkError, XprimError
from xprim_nb.registry.sources import SourceError

__all__ = ["RetryPolicy", "gravest", "is_final"]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently.

    Attributes:
        tries: Rounds over the sources, at least 1.
        backoff_s: Wait after the first round, in seconds; doubles each round.
        jitter: Share of the wait that is left to chance, so that many clients do not return at once.
    """

    tries: int = 3
    backoff_s: float = 1.0
    jitter: float = 0.25

    def delay_s(self, attempt: int, chance: float, errors: list[XprimError]) -> float | None:
        """Seconds to wait after round `attempt` (from 1); None when that was the last.

        Args:
            attempt: The round that failed.
            chance: 0.0 to 1.0, drawn by the caller.
            errors: The round's errors; the longest `retry_after_s` among them is honoured.
        """
        if attempt >= self.tries:
            return None
        wait_s = self.backoff_s * 2.0 ** (attempt - 1) * (1 + self.jitter * (2 * chance - 1))
        asked = [
            each.retry_after_s for each in errors if isinstance(each, SourceError) and each.retry_after_s
        ]
        return max([wait_s, *asked])


def is_final(error: XprimError) -> bool:
    """True when the same source will answer the same next time."""
    if isinstance(error, HashMismatchError):
        return False
    return not (isinstance(error, SourceError) and error.retryable)


def gravest(errors: list[XprimError]) -> XprimError:
    """The error to raise for a round: altered bytes before broken formats before a bad line."""
    return min(
        errors, key=lambda error: (not isinstance(error, HashMismatchError), isinstance(error, NetworkError))
    )
