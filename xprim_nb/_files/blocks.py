"""Block writes into preallocated files, early write-back, and reflinks, where the platform has them.

Each of these is an economy: where the system call is missing, the portable way does the same work.

Source: research perf ("posix_fallocate", "write-back started while downloading").
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

__all__ = ["clone_file", "preallocate", "start_writeback", "write_at"]

# Below this the allocation costs more than it saves.
_PREALLOCATE_FROM_BYTES = 1 << 20

_SYNC_FILE_RANGE_WRITE = 2
_FICLONE = 0x40049409
_UNSUPPORTED = {
    errno.EOPNOTSUPP,
    errno.ENOTTY,
    errno.EXDEV,
    errno.EINVAL,
    errno.ENOSYS,
    errno.EPERM,
    errno.EBADF,
}


@cache
def _libc_call(name: str, *argument_types: type[Any]) -> Callable[..., int] | None:
    if not sys.platform.startswith("linux"):
        return None
    with contextlib.suppress(OSError, AttributeError):
        function = getattr(ctypes.CDLL(None, use_errno=True), name)
        function.argtypes, function.restype = argument_types, ctypes.c_int
        return function  # type: ignore[no-any-return]  # ctypes functions have no static type
    return None


def preallocate(fd: int, size_bytes: int) -> None:
    """Give an open file its length, and its blocks where the file system can reserve them without writing zeros.

    The libc's `posix_fallocate` would write zeros where reserving is not supported: every byte twice.

    Raises:
        OSError: `ENOSPC` when the file system knows already that the bytes will not fit.
    """
    fallocate = _libc_call("fallocate", ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if (
        fallocate is not None
        and size_bytes >= _PREALLOCATE_FROM_BYTES
        and fallocate(fd, 0, 0, size_bytes) != 0
        and ctypes.get_errno() in (errno.ENOSPC, errno.EDQUOT)
    ):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    os.ftruncate(fd, size_bytes)


if hasattr(os, "pwrite"):

    def write_at(fd: int, block: memoryview, offset: int) -> None:
        """Write all of `block` at `offset`."""
        while block:
            done = os.pwrite(fd, block, offset)
            block, offset = block[done:], offset + done

else:  # Windows: each writer has an own descriptor, so seeking is safe

    def write_at(fd: int, block: memoryview, offset: int) -> None:
        """Write all of `block` at `offset`."""
        os.lseek(fd, offset, os.SEEK_SET)
        while block:
            block = block[os.write(fd, block) :]


def start_writeback(fd: int, offset: int, length: int) -> None:
    """Ask the kernel to begin writing a range to the medium; returns at once, promises nothing.

    With it the final fsync finds little left to do; without it (not Linux) the fsync does all the work.
    """
    call = _libc_call("sync_file_range", ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    if call is not None:
        call(fd, offset, length, _SYNC_FILE_RANGE_WRITE)


def clone_file(source_fd: int, target_fd: int) -> bool:
    """Make the target an independent file that shares all blocks of the source; False when it cannot be done here."""
    return _clone(target_fd, _FICLONE, source_fd)


def _clone(target_fd: int, request: int, argument: bytes | int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    import fcntl  # noqa: PLC0415  # exists on Unix only

    try:
        fcntl.ioctl(target_fd, request, argument)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return False
        raise
    return True
