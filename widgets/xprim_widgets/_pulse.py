"""Draw soon, but not too often: what changes a hundred times a second is told to a front end five times.

Source: spec 3 §Views ("updates coalesced to ≤ 10 a second").
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable

from xprim_nb._bridge import home_loop

__all__ = ["Pulse"]

_log = logging.getLogger("xprim_nb.widgets")

# Five a second look continuous. Each draw is a few messages at most, which keeps below ten.
_INTERVAL_S = 0.2


class Pulse:
    """Calls `draw` after `poke`, in a thread, one call at a time and at most five a second. Thread-safe.

    Args:
        draw: Brings a view up to date; what it raises is logged.
        beat_s: Call it so often without a poke too, while `keep` was last called with True; for what changes with time.
    """

    def __init__(self, draw: Callable[[], object], beat_s: float = 1.0) -> None:
        self._draw, self._beat_s = draw, beat_s
        self._lock = threading.Lock()
        self._waiting = self._closed = self._keeps = False
        self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def poke(self) -> None:
        """Something has changed."""
        with self._lock:
            if self._closed or self._waiting:
                return
            self._waiting = True
        with contextlib.suppress(RuntimeError):  # the loop has ended: so has everything that could change
            home_loop().loop().call_soon_threadsafe(self._arm)

    def keep(self, on: bool, beat_s: float | None = None) -> None:
        """Whether to draw now and then although nobody pokes, and how often from now on."""
        self._keeps = on
        if beat_s is not None:
            self._beat_s = beat_s

    def close(self) -> None:
        """Draw no more."""
        with self._lock:
            self._closed = True
            timer, self._timer = self._timer, None
        if timer is not None:
            with contextlib.suppress(RuntimeError):
                home_loop().loop().call_soon_threadsafe(timer.cancel)

    def _arm(self) -> None:
        wait = max(0.0, self._last + _INTERVAL_S - time.monotonic())
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            if not self._closed:
                self._timer = asyncio.get_running_loop().call_later(wait, self._fire)

    def _fire(self) -> None:
        # In a thread: the loop has pulls to look after, and ten thousand rows take their time.
        asyncio.get_running_loop().run_in_executor(None, self._run).add_done_callback(self._after)

    def _run(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._waiting = False  # what changes from here on is drawn by the next one
            self._last = time.monotonic()
        try:
            self._draw()
        except Exception:  # noqa: BLE001  # a view that cannot be drawn must not end the pull it shows
            _log.exception("a view could not be drawn")

    def _after(self, drawn: asyncio.Future[None]) -> None:
        with self._lock:  # one that is closed meanwhile leaves no timer behind
            if self._keeps and not self._waiting and not self._closed:
                self._timer = asyncio.get_running_loop().call_later(self._beat_s, self.poke)
