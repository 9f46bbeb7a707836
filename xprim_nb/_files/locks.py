"""Cross-process locks, held through `filelock` and waited for without blocking the event loop.

A lock only saves bandwidth and orders writers: unique temp names and atomic renames keep the bytes right
where a network file system lies about locks.

Source: spec 1 §Disk layout; research pull, complaint 7.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from filelock import FileLock, Timeout

from xprim_nb._files.durable import make_dirs, storage_errors
from xprim_nb.errors import StorageError

__all__ = ["PathLock", "locked"]

_POLL_S = 0.05


class PathLock:
    """An exclusive lock on one lock file. Not re-entrant; may be released in another thread.

    Args:
        path: The lock file, outside every directory that operations delete.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # thread_local=False: a pull takes its lock in one pool thread and gives it back in another.
        self._lock = FileLock(path, thread_local=False)

    @property
    def held(self) -> bool:
        """True while the lock is held through this object."""
        return self._lock.is_locked

    def try_acquire(self) -> bool:
        """Take the lock if nobody holds it now.

        Raises:
            StorageError: The lock file cannot be created.
        """
        with storage_errors(self.path, "locking"):
            make_dirs(self.path.parent)
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                return False
            return True

    def acquire(self, timeout_s: float) -> None:
        """Take the lock, blocking this thread for at most `timeout_s` seconds.

        Raises:
            StorageError: Somebody held it for that long, or the lock file cannot be created.
        """
        with storage_errors(self.path, "locking"):
            make_dirs(self.path.parent)
            try:
                self._lock.acquire(timeout=timeout_s)
            except Timeout as error:
                raise StorageError(
                    f"another process held {self.path} for {timeout_s:.0f} s.",
                    subject=str(self.path),
                    hint="Wait for it to finish; if no other process runs, delete the lock file.",
                ) from error

    def release(self, *, forget: bool = False) -> None:
        """Give the lock back if it is held here.

        Args:
            forget: Delete the lock file too. Somebody who waits for it may then hold a lock on a deleted file:
                only for locks that save work and guard nothing.
        """
        if not self.held:
            return
        if forget:
            with contextlib.suppress(OSError):  # open elsewhere on Windows
                self.path.unlink()
        self._lock.release()


@contextlib.asynccontextmanager
async def locked(path: Path, on_wait: Callable[[], None] | None = None) -> AsyncIterator[PathLock]:
    """Hold the lock at `path`, waiting as long as it takes; `on_wait` is called once if that is not at once."""
    lock, told = PathLock(path), False
    while not lock.try_acquire():
        if on_wait is not None and not told:
            on_wait()
            told = True
        await asyncio.sleep(_POLL_S)
    try:
        yield lock
    finally:
        lock.release()
