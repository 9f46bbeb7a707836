"""Gates: requests wait at a known point until the test lets them go. No test has to sleep."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from xprim_nb.testing.exchanges import Match, RecordedRequest, matches

__all__ = ["Hold"]


class Hold:
    """Holds matching requests until `release`. Leaving its `with` block releases.

    Args:
        on: Which requests; see `exchanges.matches`.
        after_bytes: Hold them after so many bytes of the body; before the answer when None.
        times: How many requests are held, the others pass; all when None.
    """

    def __init__(self, on: Match, after_bytes: int | None = None, times: int | None = None) -> None:
        self.on, self.after_bytes, self._left = on, after_bytes, times
        self._changed = threading.Condition()
        self._open = False
        self._reached = 0

    def takes(self, request: RecordedRequest) -> bool:
        """True when a request is to be held; called once for each."""
        with self._changed:
            if self._open or self._left == 0 or not matches(self.on, request):
                return False
            if self._left is not None:
                self._left -= 1
            return True

    def pass_through(self, request: RecordedRequest) -> None:
        """Called in the request's thread at the gate; returns after `release`."""
        with self._changed:
            self._reached += 1
            self._changed.notify_all()
            while not self._open:
                self._changed.wait()

    @property
    def reached(self) -> int:
        """Requests that have come to the gate so far."""
        with self._changed:
            return self._reached

    def wait_reached(self, count: int = 1, timeout_s: float = 10.0) -> None:
        """Return when `count` requests have come to the gate. Blocks the thread: coroutines use `to_thread`.

        Raises:
            TimeoutError: They did not come within `timeout_s` seconds.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while self._reached < count:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(
                        f"{self._reached} of {count} requests came to the gate in {timeout_s} s."
                    )
                self._changed.wait(left)

    def release(self) -> None:
        """Let every held request go, and hold no more. Idempotent."""
        with self._changed:
            self._open = True
            self._changed.notify_all()

    def __enter__(self) -> Hold:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
