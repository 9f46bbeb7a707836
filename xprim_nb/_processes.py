"""Which process is which, and whether it still lives: a number alone is given out again.

Source: spec 4 §Residency; spec 6 §Caches; research residency §4.9 rule 5; proc(5).
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path

import psutil

__all__ = ["started_mark", "this_boot"]

# Fields of /proc/PID/stat behind the name: the state is the first, the start the twentieth.
_STATE, _START = 0, 19


def started_mark(pid: int) -> float | None:
    """When a process started, as this system counts; None when it is gone, or dead and not yet reaped."""
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


@functools.cache
def this_boot() -> str:
    """Where the numbers of processes mean what they do here: this boot, and this process namespace."""
    if sys.platform != "linux":
        return ""  # a start in seconds since the epoch is unique by itself
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115  # no path: `pid:[4026531836]`
    except OSError:
        return ""


def _created(pid: int) -> float | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:  # not a process of this user
        return None
