"""A process of its own group, started from one thread that lives as long as this one.

Linux's death signal belongs to the *thread* that spawned: a worker started from a pool's thread would die with it. So
one daemon thread starts all of them; it waits on a queue, and costs nothing while it does.

Source: spec 4 §Workers; research/residency §5.2 (1, 4).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import IO

import psutil

from xprim_nb.workers import jobs
from xprim_nb.workers.values import Environment

__all__ = ["CHILD", "Group", "command", "environment", "spawn"]

CHILD = Path(__file__).with_name("child.py")
# These name the folders of this interpreter, which another one must not import from, or start something in the worker.
_SCRUBBED = (
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "PYTHONINSPECT",
    "PYTHONEXECUTABLE",
    "__PYVENV_LAUNCHER__",
)
# glibc gives the top of its heap back, and gets it again, page by page, for each token's temporary arrays: a twelfth of
# a paragraph's time. A worker keeps so much until it ends; what is larger is mapped and given back as ever. Other
# libraries do not know these names.
_HEAP = {"MALLOC_TRIM_THRESHOLD_": str(64 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}


def command(where: Environment) -> list[str]:
    """What starts a worker there."""
    return [str(where.python or sys.executable), "-u", str(CHILD), str(os.getpid())]


def environment(where: Environment, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of a worker: those of this process, without what makes an interpreter this one, and its own.

    How its allocator keeps memory is said unless the user has.
    """
    kept = {name: value for name, value in environ.items() if name not in _SCRUBBED}
    return {**_HEAP, **kept, **where.variables}


class Group:
    """A started process and whatever it started. Its pipes are binary.

    Args:
        process: Leader of a group of its own.
        job: The Windows Job Object it is in; None elsewhere.
    """

    def __init__(self, process: subprocess.Popen[bytes], job: jobs.Job | None) -> None:
        self._process, self._job = process, job
        self._lock, self._is_reaped = threading.Lock(), False
        self._strays: list[psutil.Process] = []

    @property
    def pid(self) -> int:
        """Of the leader."""
        return self._process.pid

    @property
    def pipes(self) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
        """Its stdin, stdout and stderr."""
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        assert stdin is not None, "all three are pipes"
        assert stdout is not None, "all three are pipes"
        assert stderr is not None, "all three are pipes"
        return stdin, stdout, stderr

    def limit(self, limit_bytes: int) -> None:
        """Let Windows refuse memory above this; elsewhere nothing (see `limits`)."""
        if self._job is not None:
            self._job.limit(limit_bytes)

    def remember(self, pids: Sequence[int]) -> None:
        """Take these descendants along at the end, also those that left the group (`setsid`)."""
        with self._lock:
            kept = {each.pid: each for each in self._strays if each.is_running()}
            for pid in pids:
                if pid not in kept:
                    with contextlib.suppress(psutil.Error):
                        kept[pid] = psutil.Process(pid)
            self._strays = list(kept.values())

    def terminate(self) -> None:
        """Ask all of it to end; on Windows there is no asking."""
        self._signal(getattr(signal, "SIGTERM", 15))

    def kill(self) -> None:
        """End all of it. Once the leader has been reaped, nothing is done: its number may be another's."""
        self._signal(getattr(signal, "SIGKILL", 9))

    def _signal(self, number: int) -> None:
        with self._lock:
            if self._is_reaped:
                return
            if self._job is not None:
                self._job.terminate()
            elif sys.platform != "win32":
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.pid, number)
            else:
                self._process.kill()
            for stray in self._strays:
                with contextlib.suppress(psutil.Error):
                    stray.send_signal(number)

    def wait(self) -> int:
        """The leader's exit code, once it has ended; the rest of the group is killed before its number is free."""
        if hasattr(os, "waitid"):
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        else:
            self._process.wait()
        self.kill()
        with self._lock:
            self._is_reaped = True
            code = self._process.wait()
        if self._job is not None:
            self._job.close()
        return code


class _Spawner:
    """The one thread that starts processes; made with the first, and made anew in a fork of this process."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="xprim-spawn", daemon=True).start()

    def _run(self) -> None:
        while True:
            self._work.get()()

    def submit(self, work: Callable[[], Group]) -> Future[Group]:
        """Its result, made in the thread."""
        future: Future[Group] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001  # whoever waits for the future hears it
                future.set_exception(error)

        self._work.put(run)
        return future


_spawner: _Spawner | None = None
_lock = threading.Lock()


def _forget() -> None:
    global _spawner, _lock  # of a fork, which has no thread of its parent's
    _spawner, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _start(argv: Sequence[str], environ: Mapping[str, str]) -> Group:
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
    process = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(environ),
        start_new_session=sys.platform != "win32",
        creationflags=flags,
    )
    return Group(process, jobs.hold(process))


async def spawn(argv: Sequence[str], environ: Mapping[str, str]) -> Group:
    """Start a process; when cancelled, it is killed as soon as it is there.

    Raises:
        OSError: It cannot be started.
    """
    global _spawner  # noqa: PLW0603  # one for this process
    with _lock:
        _spawner = _spawner or _Spawner()
    starting = _spawner.submit(functools.partial(_start, argv, environ))
    try:
        return await asyncio.shield(asyncio.wrap_future(starting))
    except asyncio.CancelledError:
        starting.add_done_callback(_undo)
        raise


def _undo(starting: Future[Group]) -> None:
    if starting.exception() is None:
        group = starting.result()
        group.kill()
        threading.Thread(target=_reap, args=(group,), name="xprim-reap", daemon=True).start()


def _reap(group: Group) -> None:
    group.wait()
    for pipe in group.pipes:
        pipe.close()
