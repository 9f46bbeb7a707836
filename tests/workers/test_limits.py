"""What a worker takes is measured truly, looked at only when asked for, and limited where Linux lets it."""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from xprim_nb.workers.limits import Cgroup, Curve, Sample, Ticker, oom_kills, sample

_TAKE = "b = bytearray({mb} << 20); b[::4096] = b'x' * len(b[::4096]); print(1, flush=True); input()"


def _taking(code: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_a_sample_counts_descendants() -> None:
    """Memory of a child and its child is in it, and their pids; one that is named is left out."""
    inner = _TAKE.format(mb=50)
    outer = (
        "import subprocess, sys\n"
        f"p = subprocess.Popen([sys.executable, '-c', {inner!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "p.stdout.readline(); print(1, flush=True); input()"
    )
    with _taking(outer) as process:
        seen = sample(process.pid)
        assert seen is not None
        assert len(seen.pids) == 1
        assert seen.rss_bytes > 50 << 20
        without = sample(process.pid, seen.pids[0])
        assert without is not None
        assert without.rss_bytes < 50 << 20
        assert without.pids == ()
        psutil.Process(seen.pids[0]).kill()
        process.kill()


def test_a_sample_of_what_is_gone_is_none() -> None:
    """A process that has ended has no memory to look at."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert sample(process.pid) is None


def test_processor_time_advances() -> None:
    """Computing between two looks is seen in the second."""
    first = sample(os.getpid())
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    second = sample(os.getpid())
    assert first is not None
    assert second is not None
    assert second.cpu_s - first.cpu_s >= 0.07  # the clock ticks each 10 ms
    assert second.at > first.at


def test_a_curve_spans_a_whole_life_in_few_points() -> None:
    """After ten thousand samples it has a bounded number of points, the first and a late one among them."""
    curve = Curve()
    start = time.monotonic()
    for number in range(10_000):
        curve.add(Sample(start + number, number, 0.0))
    points = curve.points()
    assert 60 <= len(points) <= 240
    assert points[0][1] == 0
    assert points[-1][1] > 9_800
    assert [size for _, size in points] == sorted(size for _, size in points)
    gaps = {after[1] - before[1] for before, after in itertools.pairwise(points)}
    assert max(gaps) <= 2 * min(gaps)


def _ring(bell: threading.Event) -> bool:
    bell.set()
    return False


def test_a_ticker_calls_until_it_is_told_no() -> None:
    """A callable is called again and again while it answers True, and never after it answered False."""
    ticker, calls, enough = Ticker(), [], threading.Event()

    def call() -> bool:
        calls.append(time.monotonic())
        if len(calls) == 3:
            enough.set()
        return len(calls) < 3

    ticker.add(call)
    assert enough.wait(20)
    assert 0.15 < calls[2] - calls[1] < 2
    other = threading.Event()
    ticker.add(functools.partial(_ring, other))
    assert other.wait(20)
    assert len(calls) == 3


def test_what_is_added_while_it_says_no_is_called_again() -> None:
    """A worker that gets something to do in the very moment its watch ends stays watched."""
    ticker, calls, again = Ticker(), [0], threading.Event()

    def call() -> bool:
        calls[0] += 1
        if calls[0] == 1:
            ticker.add(call)
        else:
            again.set()
        return False

    ticker.add(call)
    assert again.wait(20)


def test_kills_for_want_of_memory_are_counted(tmp_path: Path) -> None:
    """The kernel's own counter is read; where nobody counts there were none."""
    (tmp_path / "vmstat").write_text("pgfault 1\noom_kill 7\n")
    assert oom_kills(tmp_path / "vmstat") == 7
    assert oom_kills(tmp_path / "no such file") == 0
    (tmp_path / "vmstat").write_text("oom_kill x\n")
    assert oom_kills(tmp_path / "vmstat") == 0


def _tree(tmp_path: Path, controllers: str = "cpu memory") -> tuple[Path, Path]:
    """The files of a delegated cgroup v2, as far as a folder can play it."""
    root, own = tmp_path / "cgroup", tmp_path / "own"
    (root / "user" / "mine").mkdir(parents=True)
    (root / "user" / "cgroup.subtree_control").write_text(controllers)
    (root / "user" / "cgroup.procs").write_text("")
    own.write_text("4:memory:/other\n0::/user/mine\n")
    return root, own


def test_a_group_of_its_own_is_made_where_it_may_be(tmp_path: Path) -> None:
    """Beside this process's own: with the limit, without swap, killed as a whole, and the worker in it."""
    root, own = _tree(tmp_path)
    group = Cgroup.make(1234, 5 << 20, root=root, own=own)
    assert group is not None
    (folder,) = (root / "user").glob("xprim-*")
    files = {path.name: path.read_text() for path in folder.iterdir()}
    assert files == {
        "memory.max": str(5 << 20),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "cgroup.procs": "1234",
    }
    (folder / "memory.events").write_text("oom 3\noom_kill 2\noom_group_kill 1\n")
    assert group.kills() == 2
    for path in folder.iterdir():
        path.unlink()  # a real one has no files that could be removed
    group.remove()
    assert not folder.exists()


@pytest.mark.parametrize("case", ["no memory", "no group", "not ours", "outside", "container"])
def test_no_group_is_made_where_it_may_not_be(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without delegation nothing is made, nothing is left, and the polling remains."""
    root, own = _tree(tmp_path, "cpu" if case == "no memory" else "memory")
    if case == "no group":
        own.write_text("4:memory:/other\n")
    elif case == "not ours":
        monkeypatch.setattr(
            os, "access", lambda *_: False
        )  # the tests may run as root, who may write anything
    elif case == "outside":
        own.write_text("0::/../..\n")
    elif case == "container":
        own.write_text("0::/\n")
    assert Cgroup.make(1234, 5 << 20, root=root, own=own) is None
    assert not list(tmp_path.rglob("xprim-*"))


@pytest.mark.skipif(sys.platform != "linux", reason="counts a thread's switches in /proc")
async def test_a_watch_that_sleeps_does_not_wake() -> None:
    """With nothing to call, the thread waits without a timeout."""
    before = set(threading.enumerate())
    ticker, called = Ticker(), threading.Event()
    ticker.add(functools.partial(_ring, called))
    assert await asyncio.to_thread(called.wait, 5)
    (thread,) = (each for each in set(threading.enumerate()) - before if each.name == "xprim-watch")
    for _ in range(8):  # on a busy machine it takes a while until it is asleep
        slept = _switches(thread)
        await asyncio.sleep(1.0)
        if _switches(thread) == slept:
            break
    else:
        pytest.fail("it never sleeps for a whole second")


def _switches(thread: threading.Thread) -> int:
    """How often a thread has gone to sleep. What `psutil` tells of a process is its first thread's alone."""
    status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
