"""Whether those who claimed the chunks that a pull waits for are still at work.

A claim is dropped by the system when its owner dies, not when it is stopped (Ctrl-Z, a debugger, a laptop's virtual
machine put to sleep), and a file server may lie about locks. Claims save bandwidth and guard nothing: who waits in
vain fetches for himself.

Source: spec 1 §Disk layout ("Correctness never rests on a lock alone"), §Pull.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from pathlib import Path

from xprim_nb.cache.layout import Layout

__all__ = ["Patience"]

_log = logging.getLogger("xprim_nb.cache")

# Who is alive writes, or gives up after three silences of 30 s with pauses between them.
_PATIENCE_S = 120.0
# Looking costs a stat for each file of the other unfinished pulls.
_LOOK_S = 5.0


class Patience:
    """Asked whenever a pull waits for others, in whichever thread.

    Args:
        layout: Where things lie.
        own: The manifest being pulled: what changes in its own unfinished pull is no sign of others.
    """

    def __init__(self, layout: Layout, own: str) -> None:
        self._layout, self._own = layout, own
        self._signs: object = None
        self._since = self._looked_at = float("-inf")
        self._over = False
        self._lock = threading.Lock()

    def is_over(self) -> bool:
        """True once nobody else has written anything for two minutes; it stays true."""
        with self._lock:
            now = time.monotonic()
            if not self._over and now - self._looked_at >= _LOOK_S:
                self._looked_at = now
                signs = self._look()
                if signs != self._signs:
                    self._signs, self._since = signs, now
                self._over = now - self._since >= _PATIENCE_S
                if self._over:
                    _log.warning("those who fetch the same bytes do not go on: they are fetched here too")
            return self._over

    def _look(self) -> dict[str, int]:
        """When each other unfinished pull was last written to. Compared with itself only: clocks may differ."""
        found: dict[str, int] = {}
        with contextlib.suppress(OSError):  # none is there
            for partial in self._layout.partials.iterdir():
                if partial.name != self._own:
                    found[partial.name] = _last_written(partial)
        return found


def _last_written(partial: Path) -> int:
    newest = 0
    for folder, _, names in os.walk(partial):
        for name in names:
            with contextlib.suppress(OSError):  # moved meanwhile
                newest = max(newest, (Path(folder) / name).lstat().st_mtime_ns)
    return newest
