"""What a worker takes of the machine, looked at only while it has something to do.

Memory is limited by a control group where this process may make one (Linux, cgroup v2, delegated), and by looking
every 200 ms everywhere: never by RLIMIT_AS, because CUDA reserves address space far beyond what it uses.

Source: spec 4 §Workers (Limits); research/residency §5.2 (8), Dask's nanny (pace).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = ["TICKER", "Cgroup", "Curve", "Sample", "Ticker", "oom_kills", "sample"]

# Dask's nanny looks as often: a worker that takes 5 GB/s is seen a gigabyte too late.
PERIOD_S = 0.2
# Samples that a crash card draws; more are no finer picture.
_CURVE_POINTS = 240


@dataclass(frozen=True, slots=True)
class Sample:
    """A worker and its descendants at one moment.

    Attributes:
        at: `time.monotonic()`, in seconds.
        rss_bytes: Resident set of all of them; what children share with others is not counted again.
        cpu_s: Processor time of all of them, in seconds.
        pids: Of the descendants.
    """

    at: float
    rss_bytes: int
    cpu_s: float
    pids: tuple[int, ...] = ()


# Linux, built with CONFIG_PROC_CHILDREN, as distributions do.
_KNOWS_CHILDREN = Path(f"/proc/self/task/{os.getpid()}/children").exists()


def _descendants(pid: int) -> list[psutil.Process]:
    if not _KNOWS_CHILDREN:
        return list(psutil.Process(pid).children(recursive=True))
    # The kernel knows the children of a thread; psutil would read the parent of every process there is.
    found: list[psutil.Process] = []
    waiting = [pid]
    while waiting:
        for path in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            with contextlib.suppress(OSError, psutil.Error):
                for child in map(int, path.read_text().split()):
                    found.append(psutil.Process(child))
                    waiting.append(child)
    return found


def sample(pid: int, without: int = 0) -> Sample | None:
    """A look at a worker; None when it is gone.

    Args:
        pid: Of its leader.
        without: A descendant that is not counted: its memory is a copy of the leader's that neither writes to.
    """
    try:
        leader = psutil.Process(pid)
        with leader.oneshot():
            memory, cpu = leader.memory_info(), leader.cpu_times()
        rss, seconds = memory.rss, cpu.user + cpu.system
        pids = []
        for each in _descendants(pid):
            with contextlib.suppress(psutil.Error), each.oneshot():
                if each.pid == without:
                    continue
                memory, cpu = each.memory_info(), each.cpu_times()
                rss += max(0, memory.rss - getattr(memory, "shared", 0))
                seconds += cpu.user + cpu.system
                pids.append(each.pid)
    except psutil.Error:
        return None
    return Sample(time.monotonic(), rss, seconds, tuple(pids))


class Curve:
    """Memory over a worker's life in a bounded number of points: when full, every second one is dropped."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._points: list[tuple[float, int]] = []
        self._step = self._skipped = 0

    def add(self, seen: Sample) -> None:
        """Take a sample, or leave it out where the points are far apart by now."""
        if self._skipped < self._step:
            self._skipped += 1
            return
        self._skipped = 0
        self._points.append((round(seen.at - self._began, 3), seen.rss_bytes))
        if len(self._points) >= _CURVE_POINTS:
            del self._points[1::2]
            self._step = self._step * 2 + 1

    def points(self) -> tuple[tuple[float, int], ...]:
        """`(seconds since the start, bytes)`, oldest first."""
        return tuple(self._points)


class Ticker:
    """One thread that calls each of its callables every 200 ms until it answers False; asleep while there is none."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        # Each with the number of its latest `add`: one that is added while it answers False stays.
        self._calls: dict[Callable[[], bool], int] = {}
        self._numbers, self._is_running = itertools.count(), False

    def add(self, call: Callable[[], bool]) -> None:
        """Call it from now on. Adding it again changes nothing."""
        with self._news:
            self._calls[call] = next(self._numbers)
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._run, name="xprim-watch", daemon=True).start()
            elif len(self._calls) == 1:
                self._news.notify()

    def _run(self) -> None:
        while True:
            with self._news:
                while not self._calls:
                    self._news.wait()
                calls = dict(self._calls)
            time.sleep(PERIOD_S)
            for call, number in calls.items():
                if call():
                    continue
                with self._news:
                    if self._calls.get(call) == number:
                        del self._calls[call]


TICKER = Ticker()


def _renew() -> None:
    TICKER.__init__()  # type: ignore[misc]  # a fork has no thread of its parent's


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def oom_kills(vmstat: Path = Path("/proc/vmstat")) -> int:
    """How many processes Linux has killed for want of memory since it started; 0 where nobody counts."""
    try:
        for line in vmstat.read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return 0


_numbers = itertools.count(1)


class Cgroup:
    """A control group of one worker, in which Linux itself keeps the limit.

    Args:
        path: Its folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def make(
        cls,
        pid: int,
        limit_bytes: int,
        *,
        root: Path = Path("/sys/fs/cgroup"),
        own: Path = Path("/proc/self/cgroup"),
    ) -> Cgroup | None:
        """One beside this process's own, with the worker in it; None where that is not ours to make.

        A group with processes in it cannot hand memory on, so it lies beside and not below. Both must be ours:
        systemd delegates a user's groups so.
        """
        try:
            line = next(
                each for each in own.read_text(encoding="utf-8").splitlines() if each.startswith("0::")
            )
            parent = (root / line[3:].strip().lstrip("/")).parent
            inside = parent.resolve().is_relative_to(root.resolve())
            if not inside or "memory" not in (parent / "cgroup.subtree_control").read_text().split():
                return None
            if not os.access(parent / "cgroup.procs", os.W_OK):
                return None
            group = cls(parent / f"xprim-{os.getpid()}-{next(_numbers)}")
            group._path.mkdir()
        except (OSError, StopIteration):
            return None
        try:
            (group._path / "memory.max").write_text(str(limit_bytes))
            with contextlib.suppress(
                OSError
            ):  # not on every kernel: without them it swaps first, or kills one alone
                (group._path / "memory.swap.max").write_text("0")
                (group._path / "memory.oom.group").write_text("1")
            (group._path / "cgroup.procs").write_text(str(pid))
        except OSError:
            group.remove()
            return None
        return group

    def kills(self) -> int:
        """How many of its processes were killed for want of memory."""
        return oom_kills(self._path / "memory.events")

    def remove(self) -> None:
        """Take it away, once it is empty."""
        with contextlib.suppress(OSError):
            self._path.rmdir()
