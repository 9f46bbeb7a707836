"""Watches one worker while it has something to do: its memory against its limit, its health against its silence.

Two threads meet here: the watch thread of `limits` looks every 200 ms and keeps the limit, because the event loop may be
busy; everything else happens on the loop.

Source: spec 4 §Workers (Health, Limits, Timeouts).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from xprim_nb._text import format_bytes
from xprim_nb.workers import limits
from xprim_nb.workers.health import Health, Vigil
from xprim_nb.workers.spawn import Group
from xprim_nb.workers.values import CrashCause

__all__ = ["Watch"]


class Kill(Protocol):
    """Ends the worker and keeps the reason. From any thread."""

    def __call__(self, cause: CrashCause, detail: str) -> None:
        """End it."""
        ...


class Watch:
    """What is seen of one worker.

    Args:
        group: Its processes.
        kill: Ends it.
        tell: Calls on the event loop, from any thread.
        ping: Asks it whether it is there.
    """

    def __init__(self, group: Group, kill: Kill, tell: Callable[..., None], ping: Callable[[], None]) -> None:
        self._group, self._kill, self._tell, self._ping = group, kill, tell, ping
        self._vigil, self._curve = Vigil(), limits.Curve()
        self._stalls: list[float | None] = []  # of each thing that it has to do now
        self._limit_bytes: int | None = None
        self._cgroup: limits.Cgroup | None = None
        self._oom_kills = limits.oom_kills()
        self.watcher = 0

    def adopt(self, pid: int, limit_bytes: int | None) -> None:
        """Keep this limit of memory from now on."""
        self._limit_bytes = limit_bytes
        if limit_bytes is not None:
            self._group.limit(limit_bytes)
            self._cgroup = limits.Cgroup.make(pid, limit_bytes)

    def begin(self, stall_s: float | None) -> None:
        """It has something to do. `stall_s` is the longest silence that is borne; None leaves it to the caller."""
        self._stalls.append(stall_s)
        if len(self._stalls) == 1:
            self._vigil.begin(time.monotonic())
            limits.TICKER.add(self._look)

    def end(self, stall_s: float | None) -> None:
        """That is done. The watch thread notices when it looks next."""
        self._stalls.remove(stall_s)

    def heard(self, *, worked: bool) -> None:
        """A frame came; `worked` where only work brings it, else it answers what was `asked` or pinged."""
        now = time.monotonic()
        if worked:
            self._vigil.progressed(now)
        else:
            self._vigil.answered(now)

    def asked(self) -> None:
        """It was asked what it must answer at once."""
        self._vigil.pinged(time.monotonic())

    @property
    def health(self) -> Health:
        """Whether its reader answers; see `Vigil`."""
        return self._vigil.health(time.monotonic())

    def sample(self) -> limits.Sample | None:
        """A look at its memory and processor time now; None when it is gone."""
        seen = limits.sample(self._group.pid, self.watcher)
        if seen is not None:
            self._curve.add(seen)
            self._group.remember(seen.pids)
        return seen

    def memory(self) -> tuple[tuple[float, int], ...]:
        """Its memory curve."""
        return self._curve.points()

    def oom_kills(self) -> int:
        """How many processes Linux killed for want of memory since it was looked at last; of its own, if it can tell."""
        return self._cgroup.kills() if self._cgroup is not None else limits.oom_kills() - self._oom_kills

    def close(self) -> None:
        """It has ended."""
        if self._cgroup is not None:
            self._cgroup.remove()

    def _look(self) -> bool:
        """In the watch thread. Whether to look again."""
        if not self._stalls:
            return False
        seen = self.sample()
        if seen is None:
            return False
        self._oom_kills = limits.oom_kills()
        limit = self._limit_bytes
        if limit is not None and seen.rss_bytes > limit:
            took = f"It took {format_bytes(seen.rss_bytes)}, and may take {format_bytes(limit)}."
            self._kill("out_of_memory", took)
            return False
        self._tell(self._on_sample, seen)
        return True

    def _on_sample(self, seen: limits.Sample) -> None:
        if not self._stalls:
            return
        vigil, stall_s = self._vigil, min((each for each in self._stalls if each is not None), default=None)
        if None in self._stalls:  # somebody's patience is longer
            stall_s = None
        vigil.saw(seen, min(1.0, stall_s / 2) if stall_s else 1.0)
        if stall_s is not None:
            if (silent_s := vigil.silent_s(seen.at)) >= stall_s:
                self._kill("hung", f"It neither computed nor told anything for {silent_s:.1f} s.")
        elif vigil.health(seen.at) == "hung":
            self._kill("hung", "It answers nothing any more, and does not compute.")
        if vigil.wants_ping(seen.at):
            vigil.pinged(seen.at)
            self._ping()
