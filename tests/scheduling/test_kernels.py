"""Which process is which, and what becomes of a dead kernel's worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from xprim_nb.scheduling import kernels
from xprim_nb.scheduling.kernels import end_orphan, is_alive, started_mark, this_kernel

_posix = pytest.mark.skipif(os.name == "nt", reason="signals and groups are POSIX")


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts processes that wait, and ends them."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(code: str = "", *, own_group: bool = True) -> subprocess.Popen[bytes]:
        program = f"import os, signal, sys\n{code}\nprint('ready', flush=True)\nsys.stdin.read()"
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=own_group,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate(timeout=10)


def test_this_process_is_known_by_its_start() -> None:
    """The same each time; a label changes nothing of who it is."""
    one, other = this_kernel(), this_kernel("a.ipynb")
    assert (one.pid, one.started) == (os.getpid(), started_mark(os.getpid()))
    assert one.started > 0
    assert one.is_same(other)
    assert is_alive(other)


def test_a_number_given_out_again_is_another_process() -> None:
    """Same pid, another start: dead. So is one of an earlier boot, or of another container."""
    kernel = this_kernel()
    assert not is_alive(replace(kernel, started=kernel.started - 1))
    assert not is_alive(replace(kernel, boot="an earlier one"))


def test_a_dead_process_is_dead_before_it_is_reaped(
    start: Callable[..., subprocess.Popen[bytes]],
) -> None:
    """A zombie holds no memory: it counts as gone."""
    process = start()
    assert started_mark(process.pid) is not None
    process.kill()
    _until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
    assert started_mark(process.pid) is None
    process.wait(10)
    assert started_mark(process.pid) is None


def test_without_proc_psutil_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere the start is a time, which is unique by itself."""
    monkeypatch.setattr(sys, "platform", "darwin")
    assert started_mark(os.getpid()) == psutil.Process().create_time()
    assert started_mark(2**22 + 1) is None


@_posix
def test_an_orphan_is_killed_with_its_group(start: Callable[..., subprocess.Popen[bytes]]) -> None:
    """Though it will not be terminated, and has started something itself."""
    worker = start("signal.signal(signal.SIGTERM, signal.SIG_IGN)\nif os.fork() == 0: signal.pause()")
    (child,) = psutil.Process(worker.pid).children()
    assert end_orphan(worker.pid, started_mark(worker.pid) or 0.0, this_kernel().boot)
    assert worker.wait(10) == -signal.SIGKILL
    _until(lambda: started_mark(child.pid) is None)


@_posix
def test_one_that_does_not_lead_its_group_dies_alone(start: Callable[..., subprocess.Popen[bytes]]) -> None:
    """Its group is ours."""
    worker = start(own_group=False)
    assert end_orphan(worker.pid, started_mark(worker.pid) or 0.0, this_kernel().boot)
    assert worker.wait(10) == -signal.SIGKILL


def test_who_has_the_number_now_is_left_alone(start: Callable[..., subprocess.Popen[bytes]]) -> None:
    """Another start, or another boot: the worker is gone, and this process is somebody else."""
    worker = start()
    mark = started_mark(worker.pid) or 0.0
    assert end_orphan(worker.pid, mark - 1, this_kernel().boot)
    assert end_orphan(worker.pid, mark, "an earlier boot")
    assert worker.poll() is None


def test_one_that_cannot_be_killed_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not ours to kill, or stuck in a driver: its lease must stay."""

    def refuse(pid: int) -> None:
        raise PermissionError

    mine = this_kernel()
    monkeypatch.setattr(kernels, "_kill", refuse)
    assert not end_orphan(mine.pid, mine.started, mine.boot)
    monkeypatch.setattr(kernels, "_kill", lambda pid: None)
    monkeypatch.setattr(kernels, "_KILL_TIMEOUT_S", 0.02)
    assert not end_orphan(mine.pid, mine.started, mine.boot)


@pytest.mark.skipif(sys.platform != "linux", reason="proc(5)")
def test_names_with_brackets_are_read(tmp_path: Path) -> None:
    """A process may call itself anything; the fields begin after the last bracket."""
    program = tmp_path / "a) Z (b"
    program.symlink_to(sys.executable)
    process = subprocess.Popen([str(program), "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert started_mark(process.pid) is not None
    finally:
        process.kill()
        process.communicate(timeout=10)


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)
