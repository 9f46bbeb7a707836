"""Maintenance never runs twice at once, and by itself in the background of a manager."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from xprim_nb._files import PathLock
from xprim_nb.config import Config
from xprim_nb.manager import Manager

from .stewards import Bench

_ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A maintainer whose verbs are recorded and whose clock stands still."""
    return Bench.at(tmp_path)


async def test_another_process_is_not_disturbed(bench: Bench) -> None:
    """While somebody holds the lock nothing is done, and the report says why."""
    other = PathLock(bench.maintainer.lock_file)
    assert other.try_acquire()
    report = await bench.maintainer.run()
    assert (report.ran, bench.steward.calls) == (False, [])
    assert "Another process" in report.verdict
    other.release()
    assert (await bench.maintainer.run()).ran


async def test_two_runs_in_one_process_do_not_overlap(bench: Bench) -> None:
    """A second run while the first is at work does nothing; a cancelled run gives the lock back."""
    bench.steward.goes_on = asyncio.Event()
    first = asyncio.create_task(bench.maintainer.run())
    await bench.steward.entered.wait()
    assert not (await bench.maintainer.run()).ran
    first.cancel()
    await asyncio.wait([first])
    bench.steward.goes_on.set()
    assert (await bench.maintainer.run()).ran


class _Ticks:
    """Sleeps that last until the test says so."""

    def __init__(self) -> None:
        self.asleep, self._wake = asyncio.Event(), asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.asleep.set()
        await self._wake.wait()
        self._wake.clear()

    async def until_asleep(self) -> None:
        """Return when it sleeps again."""
        await self.asleep.wait()
        self.asleep.clear()

    def tick(self) -> None:
        """Let it wake."""
        self._wake.set()


async def test_the_background_polls_and_stops(tmp_path: Path, bench: Bench) -> None:
    """Started once, it runs when it is due, goes on after a failure, and ends with its manager."""
    ticks = _Ticks()
    config = Config(data_dir=tmp_path, offline=True)
    async with Manager(config) as manager:
        manager._caretaker = bench.maintainer
        await manager.schedule_maintenance("daily")
        assert await manager.start_maintenance(sleep=ticks)
        assert not await manager.start_maintenance(sleep=ticks)
        await ticks.until_asleep()
        assert bench.steward.calls.count("cleanup") == 1
        ticks.tick()
        await ticks.until_asleep()
        assert bench.steward.calls.count("cleanup") == 1, "not due yet"
        bench.clock.now += timedelta(days=1)
        bench.steward.fails["validate_all"] = RuntimeError("a bug")
        ticks.tick()
        await ticks.until_asleep()
        del bench.steward.fails["validate_all"]
        bench.clock.now += timedelta(days=1)
        ticks.tick()
        await ticks.until_asleep()
        assert bench.steward.calls.count("cleanup") == 2
        assert await manager.stop_maintenance()
        assert not await manager.stop_maintenance()
        assert await manager.start_maintenance(sleep=ticks)
        watch = manager._watch
    assert watch is not None
    assert watch.cancelled()


_HOLDER = """
import sys
from pathlib import Path
from xprim_nb._files import PathLock
lock = PathLock(Path(sys.argv[1]))
assert lock.try_acquire()
print("held", flush=True)
sys.stdin.readline()
"""


async def test_cron_and_kernel_exclude_each_other(bench: Bench) -> None:
    """The lock holds across processes, and ends with the process that held it."""
    command = [sys.executable, "-c", _HOLDER, str(bench.maintainer.lock_file)]
    with subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:  # noqa: ASYNC220
        assert other.stdout is not None
        assert await asyncio.to_thread(other.stdout.readline) == b"held\n"
        assert not (await bench.maintainer.run()).ran
        other.kill()
        await asyncio.to_thread(other.wait)
    assert (await bench.maintainer.run()).ran
