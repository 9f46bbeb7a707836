"""Put one directory in the place of another.

Source: spec 1 §Pull, step 6; renameat2(2) `RENAME_EXCHANGE`, renamex_np(2) `RENAME_SWAP`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
from pathlib import Path

from xprim_nb._files.durable import make_dirs, sync_dir

__all__ = ["exchange_dirs", "move_dir"]

_AT_FDCWD = -100
_RENAME_EXCHANGE = _RENAME_SWAP = 2
# Another process may remove an empty parent between our mkdir and our rename; it cannot do so for ever.
_MOVE_TRIES = 20


def exchange_dirs(one: Path, other: Path) -> bool:
    """Swap two directories in one step, so that no reader ever finds the name empty.

    Returns:
        False when this system or file system cannot; nothing has changed then.
    """
    result = None
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None, use_errno=True)
        first, second = os.fsencode(one), os.fsencode(other)
        if sys.platform.startswith("linux"):
            result = libc.renameat2(_AT_FDCWD, first, _AT_FDCWD, second, ctypes.c_uint(_RENAME_EXCHANGE))
        elif sys.platform == "darwin":
            result = libc.renamex_np(first, second, ctypes.c_uint(_RENAME_SWAP))
    if result is None:
        return False
    if result != 0:
        code = ctypes.get_errno()
        if code in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            return False
        raise OSError(code, os.strerror(code), str(one), None, str(other))
    sync_dir(one.parent)
    sync_dir(other.parent)
    return True


def move_dir(source: Path, target: Path) -> None:
    """Rename a directory to a free name, durably; the target's parents are created.

    Raises:
        FileExistsError: Something that is not an empty directory lies there.
    """
    for attempt in range(_MOVE_TRIES):
        make_dirs(target.parent)
        try:
            os.rename(source, target)  # noqa: PTH104  # Path.rename hides the two names in its errors
        except FileNotFoundError:
            if attempt == _MOVE_TRIES - 1 or not os.path.lexists(source):
                raise
        except OSError as error:
            # EEXIST is another spelling of ENOTEMPTY, ENOTDIR what a file in the way gives.
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR) and os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
            raise
        else:
            break
    sync_dir(target.parent)
    with contextlib.suppress(
        FileNotFoundError
    ):  # somebody tidied the empty parent away: nothing is left to sync
        sync_dir(source.parent)
