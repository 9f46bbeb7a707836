"""Which kernel is which, whether it still lives, and the end of a worker that outlived its own.

Source: spec 4 §Residency ("leases of dead kernels are reaped"); research residency §4.9 rule 5; proc(5).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

import psutil

from xprim_nb._processes import started_mark, this_boot
from xprim_nb.scheduling.leases import KernelId

__all__ = ["end_orphan", "is_alive", "started_mark", "this_kernel"]

# A killed process is gone within milliseconds, unless it waits for a disk or a driver.
_KILL_TIMEOUT_S = 2.0
_KILL_POLL_S = 0.005


def is_alive(kernel: KernelId) -> bool:
    """True while that very process lives.

    One of another boot or another process namespace counts as dead: a container that was started again keeps the
    file of the one before, and the numbers in it mean nothing any more.
    """
    return kernel.boot == this_boot() and started_mark(kernel.pid) == kernel.started


def this_kernel(label: str = "") -> KernelId:
    """This process."""
    pid = os.getpid()
    return KernelId(pid, started_mark(pid) or 0.0, this_boot(), label)


def end_orphan(pid: int, started: float, boot: str) -> bool:
    """Kill a worker whose kernel is dead, its process group with it; True when it is gone.

    Args:
        pid: Its number.
        started: Its `started_mark`: another process that has the number now is left alone.
        boot: Where both belong to.
    """
    if boot != this_boot():
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
