"""Whether a worker that has something to do still does it: alive, responsive and progressing are three things.

Pure: it is told what was seen and when, in seconds of one monotonic clock, and says what follows.

Source: spec 4 §Workers (Health, Timeouts); research/residency §5.2 (6, 7).
"""

from __future__ import annotations

from collections import deque
from typing import Literal, TypeAlias

from xprim_nb.workers.limits import Sample

__all__ = ["HANG_S", "Health", "Vigil"]

Health: TypeAlias = Literal["ready", "suspect", "hung"]

# Longest silence of the reader thread that is borne while the process does not compute either. The interpreter's lock
# is held so long by nothing that does not use the processor; a disk that is asleep wakes in less.
HANG_S = 10.0
# A pause of this length is not worth a suspicion: garbage collection, a large allocation, a busy machine.
_PAUSE_S = 1.5
# Below a twentieth of a core it waits, and polls while it does; above, it works.
_WORKING_SHARE = 0.05
# Memory that comes page by page from the disk costs no processor time; less than this is noise.
_GROWTH_BYTES = 1 << 20
# Shares of a core are taken over a second at most: the clock of the kernel ticks 100 times in one.
_WINDOW_S = 1.0


class Vigil:
    """What is known of one worker while it has something to do."""

    def __init__(self) -> None:
        self._begun = self._progressed = self._heard = 0.0
        self._questions: deque[float] = deque()  # when each was asked that has no answer yet, in that order
        self._base: Sample | None = None

    def begin(self, now: float) -> None:
        """It has something to do from now on. A question that it has not answered yet stands."""
        self._begun = self._progressed = now
        self._base = None

    def heard(self, now: float) -> None:
        """A frame came, of whatever kind: its reader or its engine is there."""
        self._heard = now

    def answered(self, now: float) -> None:
        """The answer to its oldest question came: it answers in the order in which it is asked."""
        self.heard(now)
        if self._questions:
            self._questions.popleft()

    def progressed(self, now: float) -> None:
        """A frame came that only work brings."""
        self._progressed = now
        self.heard(now)

    def wants_ping(self, now: float) -> bool:
        """Whether it is time to ask; call `pinged` when it is done."""
        return not self._questions and now - max(self._begun, self._heard) >= _WINDOW_S

    def pinged(self, now: float) -> None:
        """It was asked whether it is there."""
        self._questions.append(now)

    def saw(self, seen: Sample, window_s: float = _WINDOW_S) -> None:
        """Its processor time and memory were looked at; `window_s` is how long a share of a core is taken over."""
        base = self._base
        if base is None:
            self._base = seen
            return
        if seen.rss_bytes - base.rss_bytes >= _GROWTH_BYTES:
            self._progressed, self._base = seen.at, seen
        elif (elapsed := seen.at - base.at) >= window_s:
            if seen.cpu_s - base.cpu_s >= _WORKING_SHARE * elapsed:
                self._progressed = seen.at
            self._base = seen

    def silent_s(self, now: float) -> float:
        """How long nothing was seen of it: no frame of its work, no computing, no growth."""
        return now - self._progressed

    def health(self, now: float) -> Health:
        """`ready` while its reader answers; else `suspect` while it computes, and a while after; then `hung`."""
        if not self._questions:
            return "ready"
        # What came meanwhile, late answers too, shows that it was there then, and nothing of the time since.
        waited_s = now - max(self._questions[0], self._heard)
        if waited_s < _PAUSE_S:
            return "ready"
        return "hung" if min(waited_s, self.silent_s(now)) >= HANG_S else "suspect"
