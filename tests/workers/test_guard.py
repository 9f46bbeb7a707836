"""No worker outlives its kernel, however that ends and whatever the worker does."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from xprim_nb.workers import guard

from .working import ECHO, lives, until

_KERNEL = str(Path(__file__).with_name("kernel.py"))
_GUARD = guard.__file__


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)


async def _kernel(wish: str) -> tuple[subprocess.Popen[bytes], list[int]]:
    """A kernel and the pids of its worker and whatever that started."""
    # A session of its own, as Jupyter gives it.
    command = [sys.executable, _KERNEL, ECHO, wish]
    kernel = await asyncio.to_thread(_start, command)
    assert kernel.stdout is not None
    line = await asyncio.to_thread(kernel.stdout.readline)
    kernel.stdout.close()
    return kernel, json.loads(line)


@pytest.mark.parametrize(
    "wish",
    ["", "!sleep 600", "!spin 600", "!hold 600", "!burn 100000000", "!stop", "!nurse near", "load sleep 600"],
)
async def test_a_killed_kernel_leaves_no_worker(wish: str) -> None:
    """Within two seconds of its SIGKILL all is gone: idle, answering, loading, stopped, or with the lock held."""
    kernel, pids = await _kernel(wish)
    assert len(pids) >= 2, "a worker and its watcher"
    assert all(map(lives, pids))
    kernel.send_signal(signal.SIGKILL)
    kernel.wait()
    await until(lambda: not any(map(lives, pids)), 2.0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_kernel_that_ends_leaves_no_worker(number: signal.Signals) -> None:
    """The same where it ends by a signal that it may hear."""
    kernel, pids = await _kernel("!hold 600")
    kernel.send_signal(number)
    kernel.wait()
    await until(lambda: not any(map(lives, pids)), 2.0)


async def test_an_interrupt_of_the_kernels_group_does_not_reach_the_worker() -> None:
    """Jupyter interrupts the kernel's whole group; the worker is in its own, and hears nothing of it."""
    kernel, pids = await _kernel("!sleep 600")
    assert {os.getpgid(pid) for pid in pids} == {pids[0]} != {os.getpgid(kernel.pid)}
    os.kill(pids[0], signal.SIGINT)
    assert all(map(lives, pids))
    kernel.kill()
    kernel.wait()
    await until(lambda: not any(map(lives, pids)), 2.0)


_ORPHAN = """
import importlib.util, os, sys, time
spec = importlib.util.spec_from_file_location("guard", sys.argv[1])
guard = importlib.util.module_from_spec(spec)
spec.loader.exec_module(guard)
{before}
guard.die_with({parent})
print("lives", flush=True)
{after}
time.sleep(60)
"""


def _orphan(parent: str, before: str = "", after: str = "") -> subprocess.Popen[str]:
    code = _ORPHAN.format(parent=parent, before=before, after=after)
    return subprocess.Popen(
        [sys.executable, "-c", code, str(_GUARD)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def test_a_kernel_that_died_before_it_was_watched_is_noticed() -> None:
    """A worker whose kernel is no more when it asks to die with it goes at once."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with _orphan(str(gone.pid)) as worker:
        assert worker.communicate(timeout=10)[0] == ""
        assert worker.returncode == -signal.SIGKILL


def test_a_wrapper_between_is_no_death() -> None:
    """A launcher may stand between the kernel and the interpreter: the parent is another, and the kernel lives."""
    with _orphan(str(os.getpid()), before="os.getppid = lambda: 1") as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "lives\n"
        worker.kill()


def test_where_there_is_no_death_signal_the_parent_is_looked_at() -> None:
    """As on macOS: a look each second notices that another process is the parent now."""
    before = "sys.platform = 'darwin'\nparents = [os.getppid()]\nos.getppid = lambda: parents[-1]"
    with _orphan("os.getppid()", before, after="parents.append(1)") as worker:
        assert worker.communicate(timeout=10)[0] == "lives\n"
        assert worker.returncode == -signal.SIGKILL


def test_the_watcher_is_small_and_asleep() -> None:
    """It is a fork of a bare interpreter that waits in one system call."""
    watching = "print(guard.watch(0, os.dup(1)), flush=True)"
    code = _ORPHAN.format(parent="os.getppid()", before=watching, after="")
    with subprocess.Popen(
        [sys.executable, "-c", code, str(_GUARD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdin is not None
        watcher = psutil.Process(int(worker.stdout.readline()))
        assert worker.stdout.readline() == "lives\n"
        assert watcher.ppid() == worker.pid
        assert watcher.memory_info().rss < 30 << 20
        while watcher.status() != psutil.STATUS_SLEEPING:  # it has only begun, on a busy machine
            time.sleep(0.005)
        before = watcher.num_ctx_switches()
        worker.stdin.write("what is written to the worker is no news to it")
        worker.stdin.flush()
        assert watcher.num_ctx_switches().involuntary - before.involuntary <= 1
        worker.stdin.close()
        assert worker.wait(10) == -signal.SIGKILL
