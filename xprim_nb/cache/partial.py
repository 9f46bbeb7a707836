"""A model being assembled: preallocated files, and a list of the chunks already verified in them.

Bytes are hashed as they arrive and written once, at their place. A chunk is listed only after its digest matched, and
on resume every listed chunk is hashed again, so that no list can lie.

Source: spec 1 §Pull, step 5; research perf; desync's in-place extract.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from xprim_nb._files import (
    preallocate,
    read_plain,
    start_writeback,
    storage_errors,
    write_atomic,
)
from xprim_nb._files import write_at as write_block
from xprim_nb._hashing import Digest, is_digest, read_range
from xprim_nb._text import format_count
from xprim_nb._threads import Check, unhalted
from xprim_nb.errors import HashMismatchError, XprimError
from xprim_nb.registry.manifest import Manifest, Segment, VerifiedManifest

__all__ = ["AbandonedError", "ChunkWriter", "Partial", "hash_segments", "journal_digests", "journal_size"]

_log = logging.getLogger("xprim_nb.cache")

# O_NONBLOCK: a named pipe that somebody put in a file's place would be waited for.
_READ_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
_WRITE_FLAGS = os.O_RDWR | getattr(os, "O_BINARY", 0)
_JOURNAL = "verified"
# Smaller runs are cheaper to leave to the final fsync than to open a file for.
_WRITEBACK_FROM_BYTES = 64 << 10
# Kept open by each writer; a repeated chunk may have its places in several files.
_OPEN_FILES = 4
# fsync waits for the disk, hashing for the CPU: a few threads keep both busy.
_THREADS = min(4, os.cpu_count() or 1)


def journal_digests(directory: Path) -> set[str]:
    """The chunks that an unfinished pull lists as verified; a torn last line is ignored."""
    try:
        text = read_plain(directory / _JOURNAL).decode("ascii", "replace")
    except OSError:
        return set()
    return {line for line in text.split("\n") if is_digest(line)}


def journal_size(directory: Path) -> int:
    """Length of an unfinished pull's list, in bytes; it only grows while somebody works on it."""
    try:
        return (directory / _JOURNAL).stat().st_size
    except OSError:
        return 0


def hash_segments(root: Path, manifest: Manifest, index: int, take: Callable[[memoryview], None]) -> bool:
    """Hand the bytes of chunk `index`, as the files below `root` hold them, to `take`; False when some cannot be read.

    Raises:
        StorageError, HashMismatchError: What `take` raised.
    """
    try:
        for segment in manifest.segments(index):
            fd = os.open(root / manifest.files[segment.file_index].path, _READ_FLAGS)
            try:
                if read_range(fd, segment.file_offset, segment.length, take) < segment.length:
                    return False
            finally:
                os.close(fd)
    except XprimError:
        raise
    except OSError:  # absent, a directory, a bad sector: whoever asked looks elsewhere
        return False
    return True


class Partial:
    """One unfinished pull. Its owner holds the partial lock; `release` closes the list of verified chunks.

    Args:
        directory: `cache/partial/<manifest hash>`.
        verified: The manifest being installed.
    """

    def __init__(self, directory: Path, verified: VerifiedManifest) -> None:
        self.directory = directory
        self.tree = directory / "tree"
        self.manifest = verified.manifest
        self.present: set[Digest] = set()
        self._lock = threading.Lock()
        self._journal = -1

    def recall(self, check: Check = unhalted) -> None:
        """Find out which listed chunks are really there, by hashing them.

        Raises:
            HaltedError: `check` did.
        """
        listed = journal_digests(self.directory)
        claimed = [digest for digest in self.manifest.distinct if digest in listed]

        def is_right(digest: Digest) -> bool:
            check()
            return self._is_right(digest)

        with ThreadPoolExecutor(_THREADS) as pool:
            found = pool.map(is_right, claimed)
            self.present = {digest for digest, right in zip(claimed, found, strict=True) if right}
        if len(self.present) < len(claimed):
            _log.warning(
                "%d chunks of an unfinished pull were damaged and are fetched again",
                len(claimed) - len(self.present),
                extra={"path": str(self.directory)},
            )

    def prepare(self) -> None:
        """Create the files at their full size and open the list.

        Raises:
            StorageError: The disk refused.
        """
        with storage_errors(self.tree, "preparing the files of a pull"):
            # Nothing here need survive a power cut: the tree is made durable as a whole before it gets its name.
            self.tree.mkdir(parents=True, exist_ok=True)
            os.utime(self.directory)  # idle time counts from here
            self._drop_strangers()
            for file in self.manifest.files:
                path = self.tree / file.path
                path.parent.mkdir(parents=True, exist_ok=True)
                fd = os.open(path, _WRITE_FLAGS | os.O_CREAT, 0o666)
                try:
                    if os.fstat(fd).st_size != file.size:
                        preallocate(fd, file.size)
                finally:
                    os.close(fd)
            # Anew, and at once: lines of damaged chunks must not come back, the others must not get lost.
            journal = self.directory / _JOURNAL
            listed = "".join(f"{digest}\n" for digest in sorted(self.present))
            write_atomic(journal, listed.encode(), durable=False)
            self._journal = os.open(journal, os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0))

    def _drop_strangers(self) -> None:
        """Delete what is no file of the model: it would be installed with it, and a link would be written through."""
        expected = {file.path for file in self.manifest.files}
        for folder, folders, files in os.walk(self.tree):
            for name in (*folders, *files):
                path = Path(folder, name)
                if path.is_symlink() or (
                    name in files and path.relative_to(self.tree).as_posix() not in expected
                ):
                    path.unlink()

    def writer(self, digest: Digest) -> ChunkWriter:
        """A sink that puts one chunk in all its places."""
        return ChunkWriter(self, digest)

    def settle(self, digest: Digest) -> None:
        """List a chunk whose digest matched, and start its way to the medium.

        Raises:
            StorageError: The disk refused.
        """
        with storage_errors(self.directory, "listing a verified chunk"):
            for index in self.manifest.distinct[digest]:
                for segment in self.manifest.segments(index):
                    if segment.length >= _WRITEBACK_FROM_BYTES:
                        fd = self.open_file(segment.file_index)
                        try:
                            start_writeback(fd, segment.file_offset, segment.length)
                        finally:
                            os.close(fd)
            with self._lock:
                os.write(self._journal, f"{digest}\n".encode())
                self.present.add(digest)

    def settle_if_right(self, digests: Iterable[Digest], check: Check = unhalted) -> list[Digest]:
        """List those chunks whose bytes are right where they lie now, and name them.

        Raises:
            StorageError: The disk refused.
            HaltedError: `check` did; what was listed stays so.
        """
        right = []
        for digest in dict.fromkeys(digests):
            check()
            if digest not in self.present and self._is_right(digest):
                self.settle(digest)
                right.append(digest)
        return right

    def open_file(self, number: int) -> int:
        """A descriptor of file `number`, for reading and writing."""
        return os.open(self.tree / self.manifest.files[number].path, _WRITE_FLAGS)

    def release(self) -> None:
        """Close the list. The files and the list stay for a later pull."""
        with self._lock:
            journal, self._journal = self._journal, -1
        if journal >= 0:
            os.close(journal)

    def _is_right(self, digest: Digest) -> bool:
        """True when the chunk's bytes are right in every place where it occurs."""
        for index in self.manifest.distinct[digest]:
            found = hashlib.sha256()
            if (
                not hash_segments(self.tree, self.manifest, index, found.update)
                or found.hexdigest() != digest
            ):
                return False
        return True


class AbandonedError(Exception):
    """The pull was cancelled while a thread still had bytes to write."""


class ChunkWriter:
    """Hashes one chunk and writes it to its place or places as it arrives. Used by one thread at a time.

    Its last byte lists it, if it is right, before the thread that brought it takes the next chunk: a kill costs what is
    in flight and no more.

    It keeps a few files open until `close`.
    """

    def __init__(self, partial: Partial, digest: Digest) -> None:
        manifest = partial.manifest
        indices = manifest.distinct[digest]
        self.digest = digest
        self.size_bytes = manifest.sizes[indices[0]]
        self.received = 0
        self.total_received = 0
        self.total_written = 0
        self._partial = partial
        self._places = [list(manifest.segments(index)) for index in indices]
        self._hash = hashlib.sha256()
        self._open: dict[int, int] = {}
        self._lock = threading.Lock()
        self._abandoned = False

    def close(self) -> None:
        """Close the files. Called by the thread that wrote, or when none writes any more."""
        while self._open:
            os.close(self._open.popitem()[1])

    def write(self, block: memoryview) -> None:
        """Take the next bytes.

        Raises:
            StorageError: The disk refused.
            HashMismatchError: There are more bytes than the chunk has.
            AbandonedError: `abandon` was called.
        """
        with self._lock:
            if self._abandoned:
                raise AbandonedError
            self._take(block)

    def abandon(self) -> None:
        """Take no more: after this has returned nothing is written or listed, whoever still tries."""
        with self._lock:
            self._abandoned = True

    def _take(self, block: memoryview) -> None:
        if self.received + len(block) > self.size_bytes:
            raise HashMismatchError(
                f"Chunk {self.digest} is longer than {format_count(self.size_bytes, 'byte')}.",
                subject=self.digest,
            )
        self._hash.update(block)
        with storage_errors(self._partial.tree, "writing a chunk"):
            for segments in self._places:
                self._put(segments, block)
        self.received += len(block)
        self.total_received += len(block)
        if self.received == self.size_bytes and self._hash.hexdigest() == self.digest:
            self._partial.settle(self.digest)

    def restart(self) -> None:
        """Forget what was taken."""
        self.received = 0
        self._hash = hashlib.sha256()

    def verify(self) -> None:
        """Return when all bytes came and their digest is the chunk's name.

        Raises:
            HashMismatchError: They are other bytes.
        """
        found = self._hash.hexdigest()
        if self.received != self.size_bytes or found != self.digest:
            raise HashMismatchError(
                f"Chunk {self.digest} arrived as {found} ({self.received} of {format_count(self.size_bytes, 'byte')}).",
                subject=self.digest,
            )

    @property
    def current_file(self) -> str:
        """The first file that the chunk belongs to."""
        return self._partial.manifest.files[self._places[0][0].file_index].path

    def _put(self, segments: list[Segment], block: memoryview) -> None:
        begin, end = self.received, self.received + len(block)
        for segment in segments:
            first, last = max(begin, segment.chunk_offset), min(end, segment.chunk_offset + segment.length)
            if first < last:
                at = segment.file_offset + first - segment.chunk_offset
                write_block(self._file(segment.file_index), block[first - begin : last - begin], at)
                self.total_written += last - first

    def _file(self, number: int) -> int:
        """The descriptor of file `number`; a chunk of many small files goes through them in order."""
        if number not in self._open:
            if len(self._open) >= _OPEN_FILES:
                os.close(self._open.pop(next(iter(self._open))))
            self._open[number] = self._partial.open_file(number)
        return self._open[number]
