"""A worker dies with its kernel, however the kernel dies and whatever the worker does at that moment.

Four watches, because none of them sees everything:

    EOF           the reader thread: everywhere, but not while an engine holds the interpreter's lock
    death signal  Linux: at once, whatever the worker does; the worker alone, not what it started
    watcher       POSIX: a fork that sleeps until the kernel's end of the pipe is gone, then kills the group
    parent        macOS and other Unix: a look each second, for where a pipe was inherited by a fork of the kernel

On Windows the kernel's Job Object does it. The standard library alone: `child` loads this file by its path.

Source: spec 4 §Workers ("No orphan ever: also after the kernel is SIGKILLed"); prctl(2), poll(2).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from typing import NoReturn

__all__ = ["die_with", "leave", "watch"]

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def leave() -> NoReturn:
    """End at once, and whatever this worker had started with it."""
    if _leads():
        os.kill(0, signal.SIGKILL)  # the group is this worker's own
    os._exit(1)


def die_with(parent: int) -> None:
    """Ask to be killed with the process `parent`, the kernel."""
    if os.name != "posix":
        return
    first, is_asked = os.getppid(), False
    if sys.platform == "linux":
        with contextlib.suppress(
            ImportError, OSError, AttributeError
        ):  # no ctypes, or another libc: look instead
            import ctypes  # noqa: PLC0415  # not every interpreter is built with it

            is_asked = ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) == 0
    # It may have died before it was asked for. Another parent is a wrapper of the interpreter, if the kernel lives.
    if os.getppid() != first or (first != parent and not _lives(parent)):
        leave()
    if not is_asked:
        threading.Thread(target=_look, args=(first,), name="xprim-parent", daemon=True).start()


def watch(incoming: int, outgoing: int) -> int:
    """The pid of a fork that ends this group when nobody holds the other end of `incoming`; 0 where there is none.

    To be called before there are threads.
    """
    if not _leads():
        return 0  # what a wrapper of the interpreter leads is not ours to kill
    watcher = os.fork()
    if watcher:
        return watcher
    # The kernel must see the end of the frames and of the log when the worker ends.
    os.close(outgoing)
    os.dup2(0, 1)
    os.dup2(0, 2)
    ends = select.poll()
    ends.register(incoming, 0)  # no news but a hang-up
    ends.poll()
    os.kill(0, signal.SIGKILL)
    os._exit(1)


def _leads() -> bool:
    return os.name == "posix" and os.getpgid(0) == os.getpid()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _look(first: int) -> None:
    while os.getppid() == first:
        time.sleep(1.0)  # an orphan lives that long at most; ipykernel's own watch has the same pace
    leave()
