"""Which process is which, and whether it still lives: a number alone is given out again.

Source: spec 4 §Residency ("leases of dead kernels are reaped"); research residency §4.9 rule 5; proc(5).
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import time
from pathlib import Path

import psutil

from xprim_nb.scheduling.leases import KernelId

__all__ = ["end_orphan", "is_alive", "started_mark", "this_kernel"]

# A killed process is gone within milliseconds, unless it waits for a disk or a driver.
_KILL_TIMEOUT_S = 2.0
_KILL_POLL_S = 0.005
# Fields of /proc/PID/stat behind the name: the state is the first, the start the twentieth.
_STATE, _START = 0, 19


def started_mark(pid: int) -> float | None:
    """When a process started, as `KernelId.started` counts; None when it is gone, or dead and not yet reaped."""
    if sys.platform != "linux":
        return _created(pid)
    # psutil adds the boot's wall time, which moves when the clock is set: two processes may then read two values.
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return None if fields[_STATE] in b"ZXx" else float(fields[_START])
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return None
    except PermissionError:  # hidden from us (hidepid): not a process of this user
        return None


def is_alive(kernel: KernelId) -> bool:
    """True while that very process lives.

    One of another boot or another process namespace counts as dead: a container that was started again keeps the
    file of the one before, and the numbers in it mean nothing any more.
    """
    return kernel.boot == _boot() and started_mark(kernel.pid) == kernel.started


def this_kernel(label: str = "") -> KernelId:
    """This process."""
    pid = os.getpid()
    return KernelId(pid, started_mark(pid) or 0.0, _boot(), label)


def end_orphan(pid: int, started: float, boot: str) -> bool:
    """Kill a worker whose kernel is dead, its process group with it; True when it is gone.

    Args:
        pid: Its number.
        started: Its `started_mark`: another process that has the number now is left alone.
        boot: Where both belong to.
    """
    if boot != _boot():
        return True
    deadline = time.monotonic() + _KILL_TIMEOUT_S
    while started_mark(pid) == started:
        try:
            _kill(pid)
        except PermissionError:
            return False
        if time.monotonic() > deadline:
            return False
        time.sleep(_KILL_POLL_S)
    return True


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
        if sys.platform == "win32":
            with contextlib.suppress(psutil.AccessDenied):
                psutil.Process(pid).kill()
        elif os.getpgid(pid) == pid and pid != os.getpgid(0):  # a worker leads its own group
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)


def _created(pid: int) -> float | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:  # not a process of this user
        return None


@functools.cache
def _boot() -> str:
    if sys.platform != "linux":
        return ""  # a start in seconds since the epoch is unique by itself
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115  # no path: `pid:[4026531836]`
    except OSError:
        return ""
