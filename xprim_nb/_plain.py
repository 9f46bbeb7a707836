"""Reading what should be a plain file, and may be anything: a pipe would hold its reader for ever, a device has no end.

Source: open(2) on `O_NONBLOCK`; POSIX.1-2017 §open on FIFOs.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

__all__ = ["open_plain", "read_plain"]

# A pipe that nobody writes to is opened at once, and then refused.
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)


def open_plain(path: Path | str) -> int:
    """A descriptor of a plain file, for reading; the caller closes it.

    Raises:
        IsADirectoryError: A directory lies there.
        OSError: It cannot be read; with `ENXIO` when a pipe, a socket or a device lies there.
    """
    fd = os.open(path, _FLAGS)
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.ENXIO, "no plain file", str(path))  # what the system says of a socket
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_plain(path: Path | str) -> bytes:
    """The content of a plain file.

    Raises:
        OSError: As `open_plain` does.
    """
    with os.fdopen(open_plain(path), "rb") as file:
        return file.read()
