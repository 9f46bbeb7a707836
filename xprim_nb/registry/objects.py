"""The `data/` directory of a registry: adds objects that are missing, and leaves the others alone.

Source: spec 1 §Publisher ("never rewrites an existing chunk"); STYLE rule 10.
"""

from __future__ import annotations

import os
import queue
import secrets
import stat
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from xprim_nb._files import make_dirs, storage_errors, sync_file
from xprim_nb._hashing import Digest, sha256_hex

__all__ = ["ObjectWriter", "is_whole"]

# One buffer is being filled while two are hashed and written: the memory of three chunks, and both of a small
# machine's cores at work. The rest of the threads wait for the disk, which settles several files in one go.
_BUFFERS, _THREADS = 3, 12

# Nobody takes a day to write one chunk: what is older was left behind by a process that was killed.
_STALE_S = 24 * 3600.0


class ObjectWriter:
    """Hashes chunks and stores those that are not there yet, in threads.

    Owns its threads and buffers until the end of its `with` block; leaving it waits for the writes under way.

    Args:
        data: The directory; it is created.
        chunk_bytes: The longest chunk, in bytes.
        admit: Called with each digest before anything is written under it; may raise.
    """

    def __init__(self, data: Path, chunk_bytes: int, admit: Callable[[Digest], None]) -> None:
        self.data = data
        self.new_count = self.new_bytes = 0
        self._admit, self._lock, self._seen = admit, threading.Lock(), set[Digest]()
        self._free: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        for _ in range(_BUFFERS):
            self._free.put(bytearray(chunk_bytes))
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="xprim-publish")

    def __enter__(self) -> Self:
        with storage_errors(self.data, "creating"):
            make_dirs(self.data)
            self._sweep()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def buffer(self) -> bytearray:
        """A free buffer of `chunk_bytes`; waits for one. It goes back with `submit`."""
        return self._free.get()

    def submit(self, buffer: bytearray, length: int) -> Future[Digest]:
        """Store the first `length` bytes of a buffer; the result is their digest, once they are durable.

        The future raises `StorageError` when the disk refused, and whatever `admit` raised.
        """
        return self._pool.submit(self._store, buffer, length)

    def _store(self, buffer: bytearray, length: int) -> Digest:
        written: tuple[Path, int] | None = None
        try:
            view = memoryview(buffer)[:length]
            digest = sha256_hex(view)
            self._admit(digest)
            if self._claim(digest) and not is_whole(self.data / digest, length):
                written = self._write(digest, view)
        finally:
            self._free.put(buffer)
        if written is not None:
            self._settle(*written, self.data / digest, length)
        return digest

    def _claim(self, digest: Digest) -> bool:
        with self._lock:
            first = digest not in self._seen
            self._seen.add(digest)
            return first

    def _write(self, digest: Digest, view: memoryview) -> tuple[Path, int]:
        temporary = self.data / f".{digest[:16]}.{secrets.token_hex(8)}.tmp"
        with storage_errors(temporary, "writing"):
            # 0o666 under the umask, as any program writes a file: a web server of another user must read it.
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
            try:
                while view:
                    view = view[os.write(fd, view) :]
            except BaseException:
                os.close(fd)
                temporary.unlink(missing_ok=True)
                raise
            return temporary, fd

    def _settle(self, temporary: Path, fd: int, path: Path, length: int) -> None:
        with storage_errors(path, "writing"):
            try:
                try:
                    sync_file(fd)
                finally:
                    os.close(fd)
                # Another publisher may have been faster.
                if is_whole(path, length):
                    return
                os.replace(temporary, path)  # noqa: PTH105  # Path.replace hides the two names in its errors
            finally:
                temporary.unlink(missing_ok=True)
        with self._lock:
            self.new_count += 1
            self.new_bytes += length

    def _sweep(self) -> None:
        oldest = time.time() - _STALE_S
        for entry in os.scandir(self.data):
            if entry.name.startswith(".") and entry.name.endswith(".tmp"):
                with suppress(FileNotFoundError):  # another publisher sweeps too
                    if entry.stat().st_mtime < oldest:
                        os.unlink(entry.path)  # noqa: PTH108  # scandir gives text


def is_whole(path: Path, size_bytes: int) -> bool:
    """True when a file of this length lies there. One of another length is damaged, and may be replaced."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        return False
    return stat.S_ISREG(facts.st_mode) and facts.st_size == size_bytes
