"""Say that one is fetching a chunk, so that nobody else does; the system takes the claim back when we die.

A claim saves work and guards nothing. `filelock` would do, but at half a millisecond a chunk it is 6 % of a fast pull:
where the system has `flock`, a claim is that and nothing else.

Source: spec 1 §Pull ("chunks they share are fetched once"); flock(2).
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path

from xprim_nb._files.durable import make_dirs, storage_errors
from xprim_nb._files.locks import PathLock

__all__ = ["Claim"]

if sys.platform == "win32":

    class Claim(PathLock):
        """A claim, as a lock of `filelock`."""

        def release(self) -> None:  # type: ignore[override]  # a claim leaves no file behind
            """Give the claim back and leave no file behind."""
            super().release(forget=True)

else:
    import fcntl

    _FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    # File systems without locks: everybody then fetches for himself, and all bytes are right.
    _NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}

    class Claim:
        """A claim on one piece of work. Not re-entrant; may be given back in another thread.

        Args:
            path: Its file, created and deleted with the claim.
        """

        def __init__(self, path: Path) -> None:
            self.path = path
            self._fd = -1

        @property
        def held(self) -> bool:
            """True while the work is ours."""
            return self._fd >= 0

        def try_acquire(self) -> bool:
            """Claim the work if nobody has.

            Raises:
                StorageError: The file cannot be created.
            """
            with storage_errors(self.path, "claiming a chunk"):
                try:
                    fd = os.open(self.path, _FLAGS, 0o666)
                except FileNotFoundError:
                    make_dirs(self.path.parent)
                    fd = os.open(self.path, _FLAGS, 0o666)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    os.close(fd)
                    return False
            self._fd = fd
            return True

        def release(self) -> None:
            """Give the claim back, if it is held, and leave no file behind."""
            if self._fd < 0:
                return
            with contextlib.suppress(OSError):
                self.path.unlink()
            fd, self._fd = self._fd, -1
            os.close(fd)
